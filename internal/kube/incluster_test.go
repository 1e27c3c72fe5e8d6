package kube_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// Not parallel: where a pod's token is and what its environment says belong to
// the whole process.
func TestThePodsOwnServiceAccount(t *testing.T) {
	_, admin := clustertest.Kubeconfig(t, "k3s", "kwok")
	namespace := clustertest.Namespace(t, clustertest.Client(t, admin))
	config, err := clientcmd.RESTConfigFromKubeConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	account, err := clientcmd.RESTConfigFromKubeConfig(clustertest.AccountKubeconfig(t, admin, namespace, "own"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	defer kube.SetAccountDir(dir)()
	for name, text := range map[string]string{"token": account.BearerToken + "\n", "ca.crt": string(config.CAData)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := func(server, ca, token string) string {
		return "apiVersion: v1\nkind: Config\ncontexts: [{name: own, context: {cluster: own, user: own}}]\n" +
			"clusters: [{name: own, cluster: {server: \"" + server + "\", certificate-authority: " + ca + "}}]\n" +
			"users: [{name: own, user: {tokenFile: " + token + "}}]\n"
	}
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	own := text(config.Host, ca, token)

	// Only to the pod's own API server, whichever way the kubeconfig came.
	refused(t, own, kube.ParseOptions{}, "kubeconfig", "sent to no other cluster", "kubernetes.default.svc")
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	refused(t, text("https://evil.example", ca, token), kube.ParseOptions{}, "kubeconfig", "sent to no other cluster")
	refused(t, text(config.Host, "/etc/ssl/certs/other.crt", token), kube.ParseOptions{}, "kubeconfig", "not described as its own")
	refused(t, text(config.Host, ca, "/etc/passwd"), kube.ParseOptions{}, "kubeconfig", "refers to a file")
	mounted := kube.OpenRoot(t.TempDir())
	refused(t, strings.Replace(own, "tokenFile", "token: x, tokenFile", 1), kube.ParseOptions{Root: mounted, Path: "own"}, "kubeconfig_path", "Keep one")

	cluster := clusterRow(namespace)
	test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: cluster, Kubeconfig: []byte(own), Deadline: patience}, nil)
	check(t, test, fleet.StageCredential, fleet.CheckOK, "in-cluster token")
	check(t, test, fleet.StageAuthenticate, fleet.CheckOK, "system:serviceaccount:"+namespace+":own")
}
