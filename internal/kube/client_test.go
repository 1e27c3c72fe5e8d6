package kube_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// source is a Source of one kubeconfig that counts how often it is asked.
type source struct {
	raw   []byte
	asked int
}

func (s *source) Kubeconfig(context.Context, *fleet.Cluster) ([]byte, error) {
	s.asked++
	return s.raw, nil
}

func (*source) CloudCredential(context.Context, *fleet.Cluster) (fleet.CloudCredential, error) {
	return fleet.CloudCredential{}, nil
}

func TestClientsFollowTheCredential(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	from := &source{raw: raw}
	clients := kube.NewClients(from, opts)
	defer clients.Close()
	cluster := clusterRow("default")
	cluster.CredentialHash = kube.Hash(raw)

	first, err := clients.Get(t.Context(), &cluster)
	if err != nil {
		t.Fatal(err)
	}
	if second, _ := clients.Get(t.Context(), &cluster); second != first || from.asked != 1 {
		t.Errorf("an unchanged cluster got another client, or the source was asked %d times", from.asked)
	}
	uid, err := first.NamespaceUID(t.Context(), "kube-system")
	if err != nil || uid == "" {
		t.Errorf("NamespaceUID: %q, %v", uid, err)
	}
	from.raw = append([]byte("# changed\n"), raw...)
	cluster.CredentialHash = kube.Hash(from.raw)
	if third, err := clients.Get(t.Context(), &cluster); err != nil || third == first {
		t.Errorf("a changed credential got the old client (%v)", err)
	}
}

// What a row allows was ticked for one credential, and counts for no other.
func TestARowIsNotMixedWithAnotherCredential(t *testing.T) {
	t.Parallel()
	raw := []byte(kubeconfigWith("", "    exec: {command: aws, args: [eks, get-token, --cluster-name, x]}\n"))
	cred := func(secret string) fleet.CloudCredential {
		return fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: "AKIAIOSFODNN7EXAMPLE", AWSSecretAccessKey: secret}
	}
	row := clusterRow("default")
	row.CredentialHash, row.Cloud = kube.Hash(raw), cred("old").Identity()
	for name, now := range map[string]sealedSource{
		"another kubeconfig":   {append([]byte("# new\n"), raw...), cred("old")},
		"another cloud secret": {raw, cred("new")},
	} {
		clients := kube.NewClients(now, opts)
		defer clients.Close()
		if _, err := clients.Get(t.Context(), &row); fleet.CodeOf(err) != fleet.CodeUnavailable {
			t.Errorf("%s: %v", name, err)
		}
		fresh := row
		fresh.CredentialHash, fresh.Cloud = kube.Hash(now.raw), now.cred.Identity()
		if _, err := clients.Get(t.Context(), &fresh); err != nil {
			t.Errorf("%s, with the row that was stored with it: %v", name, err)
		}
	}
}

// Not parallel: it counts the goroutines of the whole process.
func TestNothingIsLeftOfClientsThatAreForgotten(t *testing.T) {
	ca := testCA(t)
	server := serveTLS(t, ca.pair(t, time.Now().Add(time.Hour), "127.0.0.1"), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"u"}}`)
	})
	raw := []byte(kubeconfigFor(server, "    certificate-authority-data: "+b64(ca.pem)+"\n", "    token: t\n"))
	clients := kube.NewClients(&source{raw: raw}, opts)
	defer clients.Close()
	cycle := func(i int) {
		cluster := clusterRow("default")
		cluster.ID, cluster.CredentialHash = fmt.Sprintf("c%d", i), kube.Hash(raw)
		client, err := clients.Get(t.Context(), &cluster)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.NamespaceUID(t.Context(), "kube-system"); err != nil {
			t.Fatal(err)
		}
		clients.Forget(cluster.ID)
	}
	cycle(0)
	before := settledGoroutines(t, 1<<30)
	for i := range 200 {
		cycle(i)
	}
	settledGoroutines(t, before)
}

// settledGoroutines waits until there are no more goroutines than limit and the
// number stays, and returns it.
func settledGoroutines(t *testing.T, limit int) int {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, same := 0, 0
	for {
		n := runtime.NumGoroutine()
		if same++; n != last {
			last, same = n, 0
		}
		if n <= limit && same >= 5 {
			return n
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d goroutines, want at most %d", n, limit)
		}
	}
}
