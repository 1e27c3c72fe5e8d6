package kube_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// These servers stand in for what goes wrong on the way to an API server; what
// goes right is tested against a real one.

const status = `{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"reason":%q,"code":%d}`

// agreed is what an API server answers that knows and allows everyone, and has
// nothing.
func agreed(r *http.Request) string {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/selfsubjectreviews"):
		return `{"kind":"SelfSubjectReview","status":{"userInfo":{"username":"eve"}}}`
	case strings.HasSuffix(path, "/selfsubjectaccessreviews"):
		return `{"kind":"SelfSubjectAccessReview","status":{"allowed":true}}`
	case path == "/version":
		return `{"major":"1","minor":"36","gitVersion":"v1.36.0"}`
	default:
		return `{}`
	}
}

// serveTLS starts an https server on 127.0.0.1 with a certificate of ca.
func serveTLS(t *testing.T, cert tls.Certificate, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// runAgainst tests a kubeconfig for server within a deadline.
func runAgainst(t *testing.T, server string, ca *authority, user string) fleet.ConnectionTest {
	t.Helper()
	raw := kubeconfigFor(server, "    certificate-authority-data: "+b64(ca.pem)+"\n", user)
	const deadline = 21 * time.Second // a third of it to connect, and as much for TLS
	began := time.Now()
	test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{
		Cluster: clusterRow("apps"), Kubeconfig: []byte(raw), Deadline: deadline,
	}, nil)
	if took := time.Since(began); took > deadline+15*time.Second {
		t.Errorf("took %s", took)
	}
	if test.State != fleet.TestFailed {
		t.Errorf("state %s", test.State)
	}
	failed := test.Failed()
	if failed == nil {
		t.Fatal("nothing failed")
	}
	if failed.Remedy == "" {
		t.Errorf("%s says nothing to do about: %s", failed.Stage, failed.Message)
	}
	after := false
	for _, c := range test.Checks {
		if strings.Contains(c.Message+c.Remedy, "s3cr3t") {
			t.Errorf("a secret in: %s", c.Message)
		}
		if after && c.State != fleet.CheckSkipped {
			t.Errorf("%s is %s after the failure of %s", c.Stage, c.State, failed.Stage)
		}
		after = after || c.Stage == failed.Stage
	}
	return test
}

func TestConnectionFaults(t *testing.T) {
	t.Parallel()
	ca, foreign := testCA(t), testCA(t)
	later := time.Now().Add(365 * 24 * time.Hour)
	good := ca.pair(t, later, "127.0.0.1")
	answer := func(code int, kind, body string) func(*testing.T) string {
		return func(t *testing.T) string {
			return serveTLS(t, good, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(code)
				_, _ = io.WriteString(w, body)
			})
		}
	}
	object := func(code int, reason, message string) func(*testing.T) string {
		text := strings.NewReplacer("%q,\"reason\"", quoteJSON(message)+",\"reason\"", "%q,\"code\"", quoteJSON(reason)+",\"code\"", "%d", itoa(code)).Replace(status)
		return answer(code, "application/json", text)
	}
	for name, test := range map[string]struct {
		server func(*testing.T) string
		user   string
		stage  fleet.Stage
		words  []string
	}{
		"refused":         {func(*testing.T) string { return "https://127.0.0.1:1" }, tokenUser, fleet.StageConnect, []string{"refused the connection"}},
		"no TCP answer":   {fullBacklog, tokenUser, fleet.StageConnect, []string{"did not answer", "firewall"}},
		"metadata":        {func(*testing.T) string { return "https://169.254.169.254" }, tokenUser, fleet.StageConnect, []string{"link-local"}},
		"mapped metadata": {func(*testing.T) string { return "https://[::ffff:169.254.169.254]" }, tokenUser, fleet.StageConnect, []string{"link-local"}},
		"no such name":    {func(*testing.T) string { return "https://no-such-host.invalid:6443" }, tokenUser, fleet.StageResolve, []string{"no-such-host.invalid"}},
		"no TLS answer": {func(t *testing.T) string {
			return "https://" + raw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		}, tokenUser, fleet.StageTLS, []string{"did not answer the TLS handshake"}},
		"closes at once": {func(t *testing.T) string { return "https://" + raw(t, func(net.Conn) {}) }, tokenUser, fleet.StageTLS, []string{"closed the connection"}},
		"another protocol": {func(t *testing.T) string {
			return "https://" + raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); _, _ = io.Copy(io.Discard, c) })
		}, tokenUser, fleet.StageTLS, []string{"does not speak TLS"}},
		"plain HTTP": {func(t *testing.T) string {
			server := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(server.Close)
			return strings.Replace(server.URL, "http://", "https://", 1)
		}, tokenUser, fleet.StageTLS, []string{"plain HTTP"}},
		"expired": {func(t *testing.T) string {
			return serveTLS(t, ca.pair(t, time.Now().Add(-time.Hour), "127.0.0.1"), http.NotFound)
		}, tokenUser, fleet.StageTLS, []string{"certificate expired on"}},
		"foreign authority": {func(t *testing.T) string {
			return serveTLS(t, foreign.pair(t, later, "127.0.0.1"), http.NotFound)
		}, tokenUser, fleet.StageTLS, []string{"not by the certificate authority in the kubeconfig"}},
		"another name": {func(t *testing.T) string {
			return serveTLS(t, ca.pair(t, later, "api.example.com", "10.1.2.3"), http.NotFound)
		}, tokenUser, fleet.StageTLS, []string{"not for 127.0.0.1", "api.example.com, 10.1.2.3", "tls-server-name"}},
		"a client certificate wanted": {func(t *testing.T) string { return wantingCertificates(t, good, "h2") },
			tokenUser, fleet.StageAuthenticate, []string{"broke off the TLS connection", "certificate required", "another client certificate"}},
		"a client certificate wanted, HTTP/1.1": {func(t *testing.T) string { return wantingCertificates(t, good, "http/1.1") },
			tokenUser, fleet.StageAuthenticate, []string{"broke off the TLS connection", "certificate required", "another client certificate"}},
		"ends after each handshake": {func(t *testing.T) string { return endingConnections(t, good, 1000) }, tokenUser, fleet.StageAuthenticate, []string{"closed the connection before it answered"}},
		"ends after one handshake":  {func(t *testing.T) string { return endingConnections(t, good, 1) }, tokenUser, fleet.StageAuthenticate, []string{"does not accept the credential", "401"}},
		"no HTTP answer": {func(t *testing.T) string {
			release := make(chan struct{})
			url := serveTLS(t, good, func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
				case <-release:
				}
			})
			t.Cleanup(func() { close(release) })
			return url
		}, tokenUser, fleet.StageAuthenticate, []string{"took the request and did not answer"}},
		"401":          {object(401, "Unauthorized", "Unauthorized"), tokenUser, fleet.StageAuthenticate, []string{"does not accept the credential", "401"}},
		"401 in plain": {answer(401, "text/plain", "no"), tokenUser, fleet.StageAuthenticate, []string{"does not accept the credential"}},
		"403":          {object(403, "Forbidden", `User "eve" cannot create resource`), tokenUser, fleet.StageAuthenticate, []string{"403", "eve"}},
		"403 in plain": {answer(403, "text/plain", "no"), tokenUser, fleet.StageAuthenticate, []string{"403", "proxy"}},
		"HTML":         {answer(200, "text/html; charset=utf-8", "<!doctype html><title>Sign in \x1b[31m</title>"), tokenUser, fleet.StageAuthenticate, []string{"web page", "Sign in"}},
		"HTML untyped": {answer(200, "text/plain", "<html><body>"), tokenUser, fleet.StageAuthenticate, []string{"web page"}},
		"redirect": {func(t *testing.T) string {
			return serveTLS(t, good, func(w http.ResponseWriter, r *http.Request) {
				if r.Host == "login.example" {
					t.Error("the redirect was followed")
				}
				http.Redirect(w, r, "https://login.example/?s3cr3t=1", http.StatusFound)
			})
		}, tokenUser, fleet.StageAuthenticate, []string{"redirects to login.example"}},
		"another JSON API": {answer(200, "application/json", `{"hello":"world"}`), tokenUser, fleet.StageAuthenticate, []string{"not a Kubernetes API server"}},
		"another 404":      {answer(404, "application/json", `{"error":"no"}`), tokenUser, fleet.StageAuthenticate, []string{"not a Kubernetes API server"}},
		"502":              {answer(502, "text/plain", "bad gateway"), tokenUser, fleet.StageAuthenticate, []string{"502", "load balancer"}},
		"500":              {object(500, "InternalError", "etcd is gone"), tokenUser, fleet.StageAuthenticate, []string{"etcd is gone"}},
		"expired token": {answer(200, "", ""), "    token: e30." + b64url(`{"sub":"eve","exp":1500000000}`) + ".c2ln\n",
			fleet.StageCredential, []string{"of eve expired on 14 July 2017"}},
		"expired client certificate": {answer(200, "", ""), clientCert(t, ca, time.Now().Add(-time.Hour)), fleet.StageCredential, []string{"client certificate of pilot expired on"}},
		"client certificate that is not accepted": {object(401, "Unauthorized", "Unauthorized"), clientCert(t, ca, later),
			fleet.StageAuthenticate, []string{"fresh kubeconfig"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := runAgainst(t, test.server(t), ca, test.user)
			check(t, result, test.stage, fleet.CheckFailed, test.words...)
			failed := result.Failed()
			t.Logf("%s: %s %s", failed.Stage, failed.Message, failed.Remedy)
		})
	}
}

// A test that may take long is as patient with a handshake as what uses the cluster
// then.
func TestALongDeadlineIsPatientWithTheHandshake(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	cert := ca.pair(t, time.Now().Add(90*24*time.Hour), "127.0.0.1")
	server := "https://" + raw(t, func(c net.Conn) {
		select {
		case <-time.After(kube.TLSTimeout * 6 / 10):
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
		case <-t.Context().Done():
		}
	})
	config := kubeconfigFor(server, "    certificate-authority-data: "+b64(ca.pem)+"\n", tokenUser)
	test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: clusterRow("apps"), Kubeconfig: []byte(config), Deadline: patience}, nil)
	check(t, test, fleet.StageTLS, fleet.CheckOK)
}

// wantingCertificates is a front end that lets nobody in without a client
// certificate, which TLS 1.3 tells only after the handshake.
func wantingCertificates(t *testing.T, cert tls.Certificate, protocol string) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{protocol}}
	server.EnableHTTP2 = protocol == "h2"
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// endingConnections ends so many connections after their handshake, and answers
// 401 to a request on a later one.
func endingConnections(t *testing.T, cert tls.Certificate, n int64) string {
	t.Helper()
	var seen atomic.Int64
	return "https://" + raw(t, func(c net.Conn) {
		secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		defer secure.Close()
		if secure.Handshake() != nil || seen.Add(1) <= n {
			return
		}
		if _, err := http.ReadRequest(bufio.NewReader(secure)); err == nil {
			_, _ = io.WriteString(secure, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
		}
	})
}

func clientCert(t *testing.T, ca *authority, until time.Time) string {
	cert, key := ca.issue(t, "pilot", until)
	return "    client-certificate-data: " + b64(cert) + "\n    client-key-data: " + b64(key) + "\n"
}

func TestUnreadableKubeconfig(t *testing.T) {
	t.Parallel()
	_, cause := kube.OpenRoot(t.TempDir()).Read("gone")
	test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: clusterRow("apps"), KubeconfigErr: cause}, nil)
	check(t, test, fleet.StageCredential, fleet.CheckFailed, "no file “gone”")
	check(t, test, fleet.StageResolve, fleet.CheckSkipped)
}

func TestOldVersion(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	server := serveTLS(t, ca.pair(t, time.Now().Add(365*24*time.Hour), "127.0.0.1"), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/selfsubjectreviews"):
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"kind":"Status","code":404,"message":"the server could not find the requested resource"}`)
		case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"kind":"SelfSubjectAccessReview","status":{"allowed":true}}`)
		case r.URL.Path == "/version":
			_, _ = io.WriteString(w, `{"major":"1","minor":"21+","gitVersion":"v1.21.14-eks"}`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	test := runAgainst(t, server, ca, tokenUser)
	check(t, test, fleet.StageAuthenticate, fleet.CheckOK, "does not say as whom")
	if test.Identity != "" { // what a token says of itself is no user name
		t.Errorf("identity %q, which the API server has not said", test.Identity)
	}
	check(t, test, fleet.StageVersion, fleet.CheckWarning, "v1.21.14-eks is older than 1.25")
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// raw serves TCP connections with serve, and closes each after it.
func raw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// A test that ends while a request is under way leaves no connection behind: those
// of a thousand would pile up.
func TestNoConnectionOutlivesItsTest(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	states := make(chan http.ConnState, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.pair(t, time.Now().Add(90*24*time.Hour), "127.0.0.1")}}
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) { states <- state }
	server.StartTLS()
	t.Cleanup(server.Close)
	const tests = 10
	var running sync.WaitGroup
	for range tests {
		running.Go(func() {
			test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{
				Cluster: clusterRow("apps"), Deadline: 9 * time.Second,
				Kubeconfig: []byte(kubeconfigFor(server.URL, "    certificate-authority-data: "+b64(ca.pem)+"\n", tokenUser)),
			}, nil)
			check(t, test, fleet.StageAuthenticate, fleet.CheckFailed, "did not answer within")
		})
	}
	running.Wait()
	late := time.After(time.Minute) // net/http itself would close them after a minute and a half
	for closed := 0; closed < tests; {
		select {
		case state := <-states:
			if state == http.StateClosed {
				closed++
			}
		case <-late:
			t.Fatalf("%d of %d connections are closed", closed, tests)
		}
	}
}
