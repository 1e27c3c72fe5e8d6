package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
)

func TestBadKubeconfigsAreRefusedAndNotStored(t *testing.T) {
	t.Parallel()
	p := shared(t)
	good := string(real.kubeconfig(t))
	named := func(change func(*api.Config)) string { return string(clustertest.Edit(t, []byte(good), change)) }
	cases := []struct{ name, kubeconfig, says string }{
		{"empty", "", "empty"},
		{"blank", " \n\t\n", "empty"},
		{"not YAML", "{{{ no: yaml: [", "yaml"},
		{"a web page", "<html><body>hello</body></html>", ""},
		{"another kind", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", "not a kubeconfig"},
		{"no contexts", "apiVersion: v1\nkind: Config\n", "no contexts"},
		{"missing user", named(func(c *api.Config) { clear(c.AuthInfos) }), "user"},
		{"missing cluster", named(func(c *api.Config) { clear(c.Clusters) }), "cluster"},
		{"missing context", named(func(c *api.Config) { c.CurrentContext = "nowhere" }), "context"},
		{"5 MB", good + "\n#" + strings.Repeat("x", 5<<20), "1 MiB"},
		{"exec", named(func(c *api.Config) {
			for _, u := range c.AuthInfos {
				*u = api.AuthInfo{Exec: &api.ExecConfig{Command: "/bin/sh", Args: []string{"-c", "id"}, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: api.NeverExecInteractiveMode}}
			}
		}), "program"},
		{"a file outside", named(func(c *api.Config) {
			for _, u := range c.AuthInfos {
				*u = api.AuthInfo{TokenFile: "/etc/passwd"}
			}
		}), "file"},
		{"skips TLS", named(func(c *api.Config) {
			for _, cl := range c.Clusters {
				cl.CertificateAuthorityData, cl.InsecureSkipTLSVerify = nil, true
			}
		}), "insecure"},
	}
	for _, c := range cases {
		for _, mode := range []string{"encrypted", "mounted"} {
			t.Run(c.name+" "+mode, func(t *testing.T) {
				t.Parallel()
				id := clustertest.UniqueName("bad")
				form := fields{
					"id": id, "label": "Kept as typed", "provider": "kubernetes", "credential_mode": mode,
					"namespace": "default", "exposure_mode": "cluster-ip", "enabled": "true",
				}
				field := "kubeconfig"
				if mode == "mounted" {
					field = "kubeconfig_path"
					p.mount(t, id, []byte(c.kubeconfig))
					form[field] = id
				} else {
					form[field] = c.kubeconfig
				}
				answer := p.post(t, "/admin/clusters", form)
				if answer.status != http.StatusUnprocessableEntity {
					t.Fatalf("%d, want 422\n%s", answer.status, clipped(answer.text()))
				}
				says := answer.problem(field) + " " + answer.problem("context")
				if says == " " || !strings.Contains(strings.ToLower(says), strings.ToLower(c.says)) {
					t.Errorf("beside the field it says %q, want a word of %q", says, c.says)
				}
				kept, _ := answer.form("/admin/clusters")
				if kept["label"] != "Kept as typed" || kept["id"] != id {
					t.Errorf("the input was not kept: %v", kept)
				}
				if kept["kubeconfig"] != "" {
					t.Error("the kubeconfig came back")
				}
				expect(t, p.get(t, "/admin/clusters/"+id), http.StatusNotFound)
			})
		}
	}
}

// authority is a certificate authority of one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	a := authority{key: newKey(t)}
	der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, &a.key.PublicKey, a.key)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, c, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// serving is a certificate for 127.0.0.1 that ends at notAfter.
func (a authority) serving(t testing.TB, notAfter time.Time) tls.Certificate {
	t.Helper()
	key := newKey(t)
	der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// kubeconfig leads to a server of a certificate that the authority signed.
func (a authority) kubeconfig(t testing.TB, addr string) []byte {
	t.Helper()
	c := api.NewConfig()
	c.Clusters["it"] = &api.Cluster{
		Server:                   "https://" + addr,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
	}
	c.AuthInfos["me"] = &api.AuthInfo{Token: "a-token"}
	c.Contexts["it"] = &api.Context{Cluster: "it", AuthInfo: "me"}
	c.CurrentContext = "it"
	raw, err := clientcmd.Write(*c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// https serves handler with the certificate until the test ends.
func https(t testing.TB, cert tls.Certificate, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // bad handshakes are the point
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}

// mute accepts connections and never answers.
func mute(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// deaf is an address at which not even the connection is answered: its queue is
// full, and nobody accepts.
func deaf(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	// More than it holds, as the kernel counts one more than it was told. On
	// loopback those that it takes are there when connect returns.
	for range 4 {
		caller, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(caller) })
		if err := syscall.Connect(caller, name); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
	}
	return addr
}

func TestFailedStagesAreNamed(t *testing.T) {
	t.Parallel()
	p := timely(t)
	ours, foreign := newAuthority(t), newAuthority(t)
	later := time.Now().Add(24 * time.Hour)
	answers := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	status := func(code int, reason string) string {
		return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":%q,"code":%d}`, reason, code)
	}
	cases := []struct {
		name  string
		addr  func(t *testing.T) string
		stage string
		says  string
	}{
		{"refuses", func(*testing.T) string { return "127.0.0.1:1" }, "connect", "refuse"},
		{"no TCP answer", func(t *testing.T) string { return deaf(t) }, "connect", "answer"},
		{"no TLS answer", func(t *testing.T) string { return mute(t) }, "tls", "answer"},
		{"no HTTP answer", func(t *testing.T) string {
			return https(t, ours.serving(t, later), func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is noticed
				<-r.Context().Done()
			})
		}, "authenticate", "answer"},
		{"expired certificate", func(t *testing.T) string {
			return https(t, ours.serving(t, time.Now().Add(-time.Hour)), answers(200, "application/json", "{}"))
		}, "tls", "expired"},
		{"foreign certificate", func(t *testing.T) string {
			return https(t, foreign.serving(t, later), answers(200, "application/json", "{}"))
		}, "tls", "authority"},
		{"401", func(t *testing.T) string {
			return https(t, ours.serving(t, later), answers(401, "application/json", status(401, "Unauthorized")))
		}, "authenticate", "401"},
		{"403", func(t *testing.T) string {
			return https(t, ours.serving(t, later), answers(403, "application/json", status(403, "Forbidden")))
		}, "authenticate", "403"},
		{"HTML", func(t *testing.T) string {
			return https(t, ours.serving(t, later), answers(200, "text/html", "<!doctype html><title>Sign in</title><p>hello"))
		}, "authenticate", "web page"},
		{"unknown host", func(*testing.T) string { return "no-such-host.invalid:6443" }, "resolve", "no-such-host.invalid"},
		{"metadata address", func(*testing.T) string { return "169.254.169.254" }, "resolve connect", "169.254.169.254"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			id := clustertest.UniqueName("fails")
			form := fields{
				"id": id, "label": c.name, "provider": "kubernetes", "credential_mode": "encrypted",
				"kubeconfig": string(ours.kubeconfig(t, c.addr(t))), "namespace": "default", "exposure_mode": "cluster-ip", "enabled": "true",
			}
			expect(t, p.post(t, "/admin/clusters", form), http.StatusSeeOther)
			pl := &place{portolan: p, id: id}
			begun := time.Now()
			pl.test(t, "failed")
			if took := time.Since(begun); took > testDeadline+slack {
				t.Errorf("it took %v, with a deadline of %v", took, testDeadline)
			}
			stage, says := pl.failedStage(t)
			if stage == "" || !strings.Contains(c.stage, stage) {
				t.Errorf("failed at %q, want %s: %s", stage, c.stage, says)
			}
			if !strings.Contains(strings.ToLower(says), strings.ToLower(c.says)) {
				t.Errorf("it says %q, without %q", says, c.says)
			}
			if strings.Contains(says, "a-token") {
				t.Error("the token is shown")
			}
		})
	}
}
