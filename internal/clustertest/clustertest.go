// Package clustertest gives tests a real Kubernetes: clusters that devcluster
// starts on this machine, namespaces in them, identities with exactly the
// rights a test wants, and a network that fails on demand.
//
// A cluster is shared by all tests of all packages that ask for the same
// profile and nodes, and stays up for the next run; “make test” takes them down
// at its end. With PORTOLAN_TEST_KUBECONFIG every test uses that cluster
// instead.
package clustertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Override names the variable with the kubeconfig of a cluster to use instead
// of one made here.
const Override = "PORTOLAN_TEST_KUBECONFIG"

// Name returns the name of the cluster that tests of a profile (k3s, aks, gke,
// eks) and kind of nodes (kwok, containerd) share.
func Name(profile, nodes string) string { return "test-" + profile + "-" + nodes }

// Kubeconfig returns an administrator's kubeconfig for the shared cluster of a
// profile and kind of nodes, starting it first if it is not up. path is a
// private copy that goes with the test.
func Kubeconfig(t testing.TB, profile, nodes string) (path string, raw []byte) {
	t.Helper()
	if given := os.Getenv(Override); given != "" {
		raw, err := os.ReadFile(given)
		if err != nil {
			t.Fatalf("%s: %v", Override, err)
		}
		return given, raw
	}
	name := Name(profile, nodes)
	// Idempotent and locked: tests that ask at once wait for the first.
	devcluster(t, "up", "--name", name, "--profile", profile, "--nodes", nodes, "--timeout", "6m")
	raw = devcluster(t, "kubeconfig", "--name", name)
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, raw
}

// devcluster runs bin/devcluster and returns what it printed.
func devcluster(t testing.TB, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // with the wait for those who ask for the same
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(moduleRoot(t), "bin", "devcluster"), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("devcluster %s: %v\n%s%s(“make devcluster” builds it)", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.Bytes()
}

// moduleRoot finds the folder of this module's go.mod above the test's.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module portolan\n")) {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod of module portolan above the test's folder")
		}
		dir = parent
	}
}

// Client returns a plain client for a kubeconfig, independent of the product's
// own, to see with other eyes what the product did.
func Client(t testing.TB, raw []byte) kubernetes.Interface {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst = -1, 0
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// UniqueName returns a name that no other test uses: a prefix and eight
// random hex digits.
func UniqueName(prefix string) string {
	var b [4]byte
	rand.Read(b[:])
	return prefix + "-" + hex.EncodeToString(b[:])
}

// Namespace makes a namespace that is deleted when the test ends.
func Namespace(t testing.TB, client kubernetes.Interface) string {
	t.Helper()
	ns := core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: UniqueName("test"), Labels: map[string]string{"portolan.dev/test": "true"}}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	DeleteNamespace(t, client, ns.Name)
	return ns.Name
}

// DeleteNamespace deletes a namespace, made by whomever, when the test ends.
// It does not wait until it is gone.
func DeleteNamespace(t testing.TB, client kubernetes.Interface, name string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		now := int64(0)
		if err := client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Logf("deleting namespace %s: %v", name, err)
		}
	})
}

// AccountKubeconfig returns a kubeconfig like raw that speaks as the service
// account of a namespace, which it makes if it is not there, with whatever
// rights the test gives it.
func AccountKubeconfig(t testing.TB, raw []byte, namespace, account string) []byte {
	t.Helper()
	client := Client(t, raw)
	accounts := client.CoreV1().ServiceAccounts(namespace)
	if _, err := accounts.Get(t.Context(), account, metav1.GetOptions{}); err != nil {
		sa := core.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}
		if _, err := accounts.Create(t.Context(), &sa, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	hour := int64(3600)
	token, err := accounts.CreateToken(t.Context(), account, &authentication.TokenRequest{
		Spec: authentication.TokenRequestSpec{ExpirationSeconds: &hour},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return Edit(t, raw, func(config *api.Config) {
		for name := range config.AuthInfos {
			config.AuthInfos[name] = &api.AuthInfo{Token: token.Status.Token}
		}
	})
}

// Edit returns the kubeconfig raw, changed.
func Edit(t testing.TB, raw []byte, change func(*api.Config)) []byte {
	t.Helper()
	config, err := clientcmd.Load(raw)
	if err != nil {
		t.Fatal(err)
	}
	change(config)
	out, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ExecKubeconfig returns the kubeconfig that the provider's own tool would
// write for the shared cluster of a profile: it names a program to run for a
// token. The cluster must be up.
func ExecKubeconfig(t testing.TB, profile, nodes string) []byte {
	t.Helper()
	return devcluster(t, "kubeconfig", "--name", Name(profile, nodes), "--exec")
}

// UserKubeconfig returns a kubeconfig of the shared cluster of a profile with
// the client certificate of a user, who has the rights that RBAC gives them. The
// cluster must be up.
func UserKubeconfig(t testing.TB, profile, nodes, user, group string) []byte {
	t.Helper()
	return devcluster(t, "kubeconfig", "--name", Name(profile, nodes), "--user", user, "--group", group)
}

// OIDCKubeconfig returns a kubeconfig of the shared cluster of a profile that is
// no cloud's, with an ID token of the cluster's OpenID Connect issuer: its user
// is oidc:SUBJECT, with the rights that RBAC gives them. A token that is good for
// a negative time has ended. The cluster must be up.
func OIDCKubeconfig(t testing.TB, profile, nodes, subject string, good time.Duration) []byte {
	t.Helper()
	made := func(good time.Duration) []byte {
		return devcluster(t, "kubeconfig", "--name", Name(profile, nodes), "--oidc", subject, "--ttl="+good.String())
	}
	// An API server that has just come up may still be fetching the issuer's keys.
	client, tick := Client(t, made(time.Hour)), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		_, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authentication.SelfSubjectReview{}, metav1.CreateOptions{})
		if err == nil {
			return made(good)
		}
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("ID tokens are not taken: %v", err)
		}
	}
}

// Authenticate lets the shared cluster of a cloud's profile ask at url, while
// the test runs, whose a token is that it does not know itself.
func Authenticate(t testing.TB, profile, nodes, url string) {
	t.Helper()
	devcluster(t, "authenticator", "--name", Name(profile, nodes), "--url", url)
}
