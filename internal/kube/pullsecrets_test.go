package kube_test

import (
	"testing"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
)

func TestPullSecretsAreLookedFor(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	cluster := clusterRow(clustertest.UniqueName("test"))
	account := applyManifest(t, raw, &cluster)
	eventually(t, kube.TestRequest{Cluster: cluster, Kubeconfig: account}, func(test fleet.ConnectionTest) bool { return test.State == fleet.TestOK })
	secrets := clustertest.Client(t, raw).CoreV1().Secrets(cluster.Namespace)
	for name, kind := range map[string]core.SecretType{"registry": core.SecretTypeDockerConfigJson, "opaque": core.SecretTypeOpaque} {
		secret := core.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: kind, Data: map[string][]byte{core.DockerConfigJsonKey: []byte(`{"auths":{}}`)}}
		if _, err := secrets.Create(t.Context(), &secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		names []string
		state fleet.CheckState
		says  string
	}{
		{nil, fleet.CheckSkipped, "no image pull secrets"},
		{[]string{"registry"}, fleet.CheckOK, "registry"},
		{[]string{"registry", "gone"}, fleet.CheckWarning, "gone in " + cluster.Namespace},
		{[]string{"opaque"}, fleet.CheckWarning, "opaque in " + cluster.Namespace},
	} {
		cluster.ImagePullSecrets = c.names
		test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: cluster, Kubeconfig: account, Deadline: patience}, nil)
		check(t, test, fleet.StagePullSecrets, c.state, c.says)
		if test.State != fleet.TestOK {
			t.Errorf("%v: %s", c.names, test.State)
		}
	}
}
