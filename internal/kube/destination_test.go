package kube_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"portolan/internal/cloudtest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/cloud"
)

// A token is good for whoever holds it. Nobody who can write a kubeconfig gets
// one made from a secret that was sealed for another server.
func TestASealedCloudSecretGoesToNoOtherServer(t *testing.T) {
	t.Parallel()
	google := cloudtest.NewGoogle(t, time.Hour)
	opts := opts
	opts.Cloud = cloud.Options{GoogleTokens: google.URL, HTTP: google.HTTP}
	sealed := fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: google.KeyJSON}
	ca, other := testCA(t), testCA(t)
	const user = "    exec: {command: gke-gcloud-auth-plugin}\n"
	caLine := func(a *authority) string { return "    certificate-authority-data: " + b64(a.pem) + "\n" }
	const server = "https://127.0.0.1:1"
	good := kubeconfigFor(server, caLine(ca), user)

	row := clusterRow("default")
	row.CredentialMode = fleet.CredentialMounted
	row.Allows = fleet.Allowances{TLSSkip: true, Proxy: true}
	row.Cloud = sealed.Identity()
	config, err := kube.Parse([]byte(good), kube.ParseOptions{Cloud: sealed})
	if err != nil {
		t.Fatal(err)
	}
	if row.Cloud.Destination, err = config.Destination(); err != nil {
		t.Fatal(err)
	}
	run := func(raw string) fleet.ConnectionTest {
		return kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: row, Kubeconfig: []byte(raw), Cloud: sealed, Deadline: patience}, nil)
	}
	for name, raw := range map[string]string{
		"another server":      kubeconfigFor("https://127.0.0.1:2", caLine(ca), user),
		"another path":        kubeconfigFor(server+"/there", caLine(ca), user),
		"another authority":   kubeconfigFor(server, caLine(other), user),
		"the system's":        kubeconfigFor(server, "", user),
		"another server name": kubeconfigFor(server, caLine(ca)+"    tls-server-name: there\n", user),
		"whoever answers":     kubeconfigFor(server, "    insecure-skip-tls-verify: true\n", user),
		"a proxy":             kubeconfigFor(server, caLine(ca)+"    proxy-url: http://127.0.0.1:3\n", user),
	} {
		test := run(raw)
		check(t, test, fleet.StageCredential, fleet.CheckFailed, "sealed for another server", "enter the cloud credential again")
		clients := kube.NewClients(sealedSource{[]byte(raw), sealed}, opts)
		defer clients.Close()
		if _, err := clients.Get(t.Context(), &row); fleet.CodeOf(err) != fleet.CodeUnavailable || !strings.Contains(err.Error(), "sealed for another server") {
			t.Errorf("%s: a client: %v", name, err)
		}
	}
	if n := google.Given(); n > 0 {
		t.Fatalf("%d tokens were made", n)
	}

	// Where it led, and where that is not known, it may go.
	check(t, run("# renewed\n"+good), fleet.StageCredential, fleet.CheckOK)
	row.Cloud.Destination = ""
	check(t, run(kubeconfigFor("https://127.0.0.1:2", caLine(ca), user)), fleet.StageCredential, fleet.CheckOK)

	// Whoever leaves while a client is made spoils it for nobody who waits for it.
	ctx, leave := context.WithCancel(t.Context())
	clients := kube.NewClients(leaving{sealedSource{[]byte(good), sealed}, leave}, opts)
	defer clients.Close()
	if _, err := clients.Get(ctx, &row); err != nil {
		t.Errorf("the client of somebody who left: %v", err)
	}
}

// leaving is a source that is asked by somebody who leaves at that moment.
type leaving struct {
	sealedSource
	leave func()
}

func (l leaving) CloudCredential(ctx context.Context, _ *fleet.Cluster) (fleet.CloudCredential, error) {
	l.leave()
	return l.cred, ctx.Err()
}
