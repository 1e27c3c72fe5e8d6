package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
)

var (
	serverLine = regexp.MustCompile(`server: .*`)
	tokenLine  = regexp.MustCompile(`token: .*`)
)

// theOnly returns the one cluster and user of a kubeconfig.
func theOnly(t *testing.T, raw []byte) (*api.Cluster, *api.AuthInfo) {
	t.Helper()
	config, err := clientcmd.Load(raw)
	if err != nil {
		t.Fatal(err)
	}
	context := config.Contexts[config.CurrentContext]
	return config.Clusters[context.Cluster], config.AuthInfos[context.AuthInfo]
}

// written is the kubeconfig of a tool, as it writes it but for the address and
// the keys, which are those of raw.
func written(t *testing.T, tool string, raw []byte) string {
	t.Helper()
	shape, err := os.ReadFile(filepath.Join(moduleRoot, "internal", "kube", "testdata", "kubeconfigs", tool+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cluster, user := theOnly(t, raw)
	b64 := base64.StdEncoding.EncodeToString
	text := serverLine.ReplaceAllString(string(shape), "server: "+cluster.Server)
	if user.Token != "" {
		text = tokenLine.ReplaceAllString(text, "token: "+user.Token)
	}
	return strings.NewReplacer("{{CA}}", b64(cluster.CertificateAuthorityData),
		"{{CERT}}", b64(user.ClientCertificateData), "{{KEY}}", b64(user.ClientKeyData)).Replace(text)
}

// told reports in which of its parts a page does not describe a credential.
func (pl *place) told(t *testing.T, kind, subject, user string, ends time.Time) {
	t.Helper()
	page := pl.read(t, pl.path(""))
	for _, words := range []string{kind, subject, "As " + user + ".", "on " + ends.UTC().Format("2 Jan 2006")} {
		if !page.says(words) {
			t.Errorf("the page does not say %q: %s", words, clipped(page.text()))
		}
	}
}

func TestClientCertificatesAsEachToolWritesThem(t *testing.T) {
	t.Parallel()
	simulated.kubeconfig(t)
	for tool, is := range map[string]struct{ user, group string }{
		"kind":      {"kubernetes-admin", "system:masters"},
		"kubeadm":   {"kubernetes-admin", "system:masters"},
		"k3s":       {"system:admin", "system:masters"},
		"aks-local": {"masterclient", "system:masters"},
	} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			raw := clustertest.UserKubeconfig(t, simulated.name, simulated.nodes, is.user, is.group)
			_, user := theOnly(t, raw)
			block, _ := pem.Decode(user.ClientCertificateData)
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			pl := shared(t).stake(t, simulated, raw, fields{
				"credential_mode": "encrypted", "kubeconfig_path": "", "kubeconfig": written(t, tool, raw),
			})
			pl.test(t, "ok")
			pl.told(t, "client certificate", is.user, is.user, certificate.NotAfter)
		})
	}
}

// expiry is when a JSON web token says that it ends.
func expiry(t *testing.T, token string) time.Time {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Expires int64 `json:"exp"` // Unix time in seconds
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return time.Unix(claims.Expires, 0)
}

func TestAnOIDCTokenIsTakenUntilItEnds(t *testing.T) {
	t.Parallel()
	simulated.kubeconfig(t)
	subject := clustertest.UniqueName("pilot") + "@example.com"
	token := func(good time.Duration) string {
		t.Helper()
		return written(t, "oidc", clustertest.OIDCKubeconfig(t, simulated.name, simulated.nodes, subject, good))
	}
	first := token(40 * 24 * time.Hour)
	_, user := theOnly(t, []byte(first))
	ends := expiry(t, user.Token)
	pl := shared(t).stake(t, simulated, []byte(first), fields{"credential_mode": "encrypted", "kubeconfig_path": "", "kubeconfig": first})
	_, err := pl.kubectl.RbacV1().RoleBindings(pl.namespace).Create(t.Context(), &rbac.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "pilot"},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbac.Subject{{APIGroup: rbac.GroupName, Kind: rbac.UserKind, Name: "oidc:" + subject}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mayBecome(t, []byte(first), true, pl.namespace, "create", "apps", "deployments")
	pl.test(t, "ok")
	pl.told(t, "OIDC token", subject, "oidc:"+subject, ends)
	pl.deploy(t, nil)

	// A token with another signature is the API server's to refuse.
	good := strings.TrimRight(token(time.Hour), "\n")
	tampered := good[:len(good)-8] + strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, good[len(good)-8:])
	rotate := func(kubeconfig string) *page {
		return pl.post(t, pl.path("/credential"), fields{"credential_mode": "encrypted", "kubeconfig": kubeconfig})
	}
	if answer := expect(t, rotate(tampered), http.StatusUnprocessableEntity); !answer.says("failed at authenticate") {
		t.Errorf("a tampered token: %s", clipped(answer.text()))
	}
	if answer := expect(t, rotate(token(-time.Minute)), http.StatusUnprocessableEntity); !answer.says("expired on") {
		t.Errorf("a token that has ended: %s", clipped(answer.text()))
	}
	// One that ends soon takes its place, with a warning.
	expect(t, rotate(token(time.Hour)), http.StatusSeeOther)
	if page := pl.read(t, pl.path("")); !page.says("cannot be renewed here") {
		t.Errorf("no warning of the end: %s", clipped(page.text()))
	}
	if state := pl.testState(t); state != "ok" {
		t.Errorf("after the rotation: %s, want ok", state)
	}
}
