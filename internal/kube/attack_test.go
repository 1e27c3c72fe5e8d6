package kube_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// apiStandIn is a stand-in for an API server that counts whom it hears.
type apiStandIn struct {
	url    string // https://127.0.0.1:port
	ca     *authority
	heard  atomic.Int64
	tokens atomic.Value // the Authorization header it saw last
}

func newAPI(t *testing.T, answer http.HandlerFunc) *apiStandIn {
	t.Helper()
	a := &apiStandIn{ca: testCA(t)}
	a.url = serveTLS(t, a.ca.pair(t, time.Now().Add(90*24*time.Hour), "127.0.0.1", "api.example"), func(w http.ResponseWriter, r *http.Request) {
		a.heard.Add(1)
		a.tokens.Store(r.Header.Get("Authorization"))
		answer(w, r)
	})
	return a
}

func (a *apiStandIn) port() string { return a.url[strings.LastIndex(a.url, ":")+1:] }

func denied(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }

// newHangingUp knows whoever asks, and ends the connection after each answer. It
// speaks HTTP/1.1, where the client learns of that end with the answer.
func newHangingUp(t *testing.T) *apiStandIn {
	t.Helper()
	a := &apiStandIn{ca: testCA(t)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.heard.Add(1)
		hangUp(w, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{a.ca.pair(t, time.Now().Add(90*24*time.Hour), "127.0.0.1", "api.example")}}
	server.StartTLS()
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func hangUp(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/selfsubjectreviews") {
		_, _ = io.WriteString(w, `{"kind":"SelfSubjectReview","status":{"userInfo":{"username":"me"}}}`)
		return
	}
	w.WriteHeader(http.StatusUnauthorized)
}

// ran tests a kubeconfig with what the form allows.
func ran(t *testing.T, opts kube.Options, raw string, allows fleet.Allowances) fleet.ConnectionTest {
	t.Helper()
	c := clusterRow("apps")
	c.Allows = allows
	return kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: c, Kubeconfig: []byte(raw), Deadline: patience}, nil)
}

// TestAttack03MetadataAddresses: whatever way an address is written, a test of
// it ends before anything is sent there.
func TestAttack03MetadataAddresses(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"169.254.169.254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]",
		"[fe80::1%25lo]", "[fd00:ec2::254]", "168.63.129.16", "100.100.100.200", "0.0.0.0", "[::]",
	} {
		raw := kubeconfigFor("https://"+host+":443", "", tokenUser)
		check(t, ran(t, opts, raw, fleet.Allowances{}), fleet.StageConnect, fleet.CheckFailed, "does not connect there")
	}
	for _, host := range []string{"2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.254.169.254.", "127.1"} {
		raw := kubeconfigFor("https://"+host+":443", "", tokenUser)
		refused(t, raw, kube.ParseOptions{}, "kubeconfig", "looks like an address")
	}
}

// names is a DNS server that gives a name another address at each question, the
// last one for good.
func names(t *testing.T, addresses ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		asked := 0
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			if q.Type == dnsmessage.TypeA {
				address := netip.MustParseAddr(addresses[min(asked, len(addresses)-1)])
				asked++
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: address.As4()},
				}}
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// TestAttack03RebindingName: a name that leads to the right address when it is
// looked at, and to the metadata service when it is connected to.
func TestAttack03RebindingName(t *testing.T) {
	t.Parallel()
	a := newAPI(t, denied)
	raw := kubeconfigFor("https://api.example:"+a.port(), "    certificate-authority-data: "+b64(a.ca.pem)+"\n", tokenUser)
	honest := kube.Options{Policy: kube.AddressPolicy{Resolver: names(t, "127.0.0.1")}}
	check(t, ran(t, honest, raw, fleet.Allowances{}), fleet.StageAuthenticate, fleet.CheckFailed, "401")
	if a.heard.Load() == 0 {
		t.Fatal("the stand-in is not reached by its name")
	}

	rebinding := kube.Options{Policy: kube.AddressPolicy{Resolver: names(t, "127.0.0.1", "169.254.169.254")}}
	test := ran(t, rebinding, raw, fleet.Allowances{})
	check(t, test, fleet.StageResolve, fleet.CheckOK, "127.0.0.1")
	check(t, test, fleet.StageConnect, fleet.CheckFailed, "169.254.169.254", "link-local")

	// The same for a test whose connection has ended, so that it needs another.
	short := newHangingUp(t)
	turning := kube.Options{Policy: kube.AddressPolicy{Resolver: names(t, "127.0.0.1", "127.0.0.1", "169.254.169.254")}}
	test = ran(t, turning, kubeconfigFor("https://api.example:"+short.port(), "    certificate-authority-data: "+b64(short.ca.pem)+"\n", tokenUser), fleet.Allowances{})
	check(t, test, fleet.StageAuthenticate, fleet.CheckOK, "me")
	check(t, test, fleet.StageVersion, fleet.CheckFailed, "link-local")
	if n := short.heard.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}

	// The same for a client that had a connection and needs another.
	later := kube.Options{Policy: kube.AddressPolicy{Resolver: names(t, "127.0.0.1", "169.254.169.254")}}
	k, err := kube.Parse([]byte(raw), kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.NewClient(k, later)
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example:"+a.port()+"/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Close = true // or the connection would be used again
		answer, err := client.HTTP.Do(r)
		if err == nil {
			answer.Body.Close()

		}
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := get(); err == nil || !strings.Contains(err.Error(), "169.254.169.254") {
		t.Errorf("rebound: %v", err)
	}
}

// TestAttack03AllowedAndDeniedNetworks: the lists hold for every connection.
func TestAttack03AllowedAndDeniedNetworks(t *testing.T) {
	t.Parallel()
	a := newAPI(t, denied)
	raw := kubeconfigFor(a.url, "    certificate-authority-data: "+b64(a.ca.pem)+"\n", tokenUser)
	for name, policy := range map[string]kube.AddressPolicy{
		"PORTOLAN_DENY_CIDRS":  {Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		"PORTOLAN_ALLOW_CIDRS": {Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	} {
		check(t, ran(t, kube.Options{Policy: policy}, raw, fleet.Allowances{}), fleet.StageConnect, fleet.CheckFailed, name)
	}
	if a.heard.Load() != 0 {
		t.Error("the server was spoken to")
	}
}

// TestAttack03Redirect: a server that sends its client elsewhere is not obeyed,
// and the other server hears nothing, least of all the credential.
func TestAttack03Redirect(t *testing.T) {
	t.Parallel()
	other := newAPI(t, denied)
	for _, status := range []int{301, 302, 303, 307, 308} {
		a := newAPI(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.url+r.URL.Path, status) })
		raw := kubeconfigFor(a.url, "    insecure-skip-tls-verify: true\n", tokenUser)
		check(t, ran(t, opts, raw, fleet.Allowances{TLSSkip: true}), fleet.StageAuthenticate, fleet.CheckFailed, "redirects", strings.TrimPrefix(other.url, "https://"))
	}
	if other.heard.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// proxyFor is an HTTP proxy that counts its tunnels.
func proxyFor(t *testing.T, tunnels *atomic.Int64) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		upstream, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tunnels.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		splice(conn, upstream)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func splice(a, b net.Conn) {
	go func() { _, _ = io.Copy(a, b); a.Close() }()
	_, _ = io.Copy(b, a)
	b.Close()
}

// socksFor is a SOCKS5 proxy without passwords (RFC 1928) that counts too.
func socksFor(t *testing.T, tunnels *atomic.Int64) string {
	t.Helper()
	return raw(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		head := make([]byte, 2)
		_, _ = io.ReadFull(r, head)
		_, _ = io.CopyN(io.Discard, r, int64(head[1]))
		_, _ = c.Write([]byte{5, 0})
		request := make([]byte, 4)
		_, _ = io.ReadFull(r, request)
		rest := make([]byte, 6) // IPv4 and port
		_, _ = io.ReadFull(r, rest)
		upstream, err := net.Dial("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest[:4])), binary.BigEndian.Uint16(rest[4:])).String())
		if err != nil {
			return
		}
		tunnels.Add(1)
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		splice(c, upstream)
	})
}

// TestAttack03Proxy: a proxy is used only where the form allows one, it is not
// reached at a refused address, and does not open the way to one.
func TestAttack03Proxy(t *testing.T) {
	t.Parallel()
	a := newAPI(t, denied)
	ca := "    certificate-authority-data: " + b64(a.ca.pem) + "\n"
	allowed := fleet.Allowances{Proxy: true}
	through := func(server, proxy string) string {
		return kubeconfigFor(server, ca+"    proxy-url: "+proxy+"\n", tokenUser)
	}
	var http, socks atomic.Int64
	httpProxy, socksProxy := proxyFor(t, &http), socksFor(t, &socks)

	check(t, ran(t, opts, through(a.url, "http://"+httpProxy), fleet.Allowances{}), fleet.StageCredential, fleet.CheckFailed, "proxy-url", "tick")
	if http.Load() != 0 {
		t.Fatal("a proxy was used without leave")
	}
	test := ran(t, opts, through(a.url, "http://me:s3cr3t@"+httpProxy), allowed)
	check(t, test, fleet.StageResolve, fleet.CheckOK, "Through the proxy")
	check(t, test, fleet.StageConnect, fleet.CheckOK, "through the proxy "+httpProxy)
	check(t, test, fleet.StageTLS, fleet.CheckOK)
	check(t, test, fleet.StageAuthenticate, fleet.CheckFailed, "401")
	if http.Load() != 1 || a.heard.Load() == 0 { // who has made the handshake is asked
		t.Errorf("%d tunnels, %d requests", http.Load(), a.heard.Load())
	}
	for _, c := range test.Checks {
		if strings.Contains(c.Message+c.Remedy, "s3cr3t") {
			t.Errorf("%s shows the proxy's password: %s", c.Stage, c.Message)
		}
	}
	check(t, ran(t, opts, through(a.url, "socks5://"+socksProxy), allowed), fleet.StageAuthenticate, fleet.CheckFailed, "401")
	if socks.Load() != 1 {
		t.Errorf("%d tunnels by SOCKS", socks.Load())
	}
	short := newHangingUp(t)
	check(t, ran(t, opts, kubeconfigFor(short.url, "    certificate-authority-data: "+b64(short.ca.pem)+"\n    proxy-url: http://me:s3cr3t@"+httpProxy+"\n", tokenUser), allowed),
		fleet.StageVersion, fleet.CheckFailed, "401")
	if http.Load() != 3 || short.heard.Load() != 2 { // each further connection goes the same way
		t.Errorf("%d tunnels, %d requests", http.Load(), short.heard.Load())
	}

	check(t, ran(t, opts, through(a.url, "http://"+httpProxy), allowed), fleet.StageConnect, fleet.CheckFailed, "refuses to connect: 407")
	check(t, ran(t, opts, through(a.url, "http://169.254.169.254:3128"), allowed), fleet.StageConnect, fleet.CheckFailed, "link-local")
	for _, scheme := range []string{"http://me:x@" + httpProxy, "socks5://" + socksProxy} {
		before := http.Load() + socks.Load()
		check(t, ran(t, opts, through("https://169.254.169.254", scheme), allowed), fleet.StageConnect, fleet.CheckFailed, "link-local")
		if http.Load()+socks.Load() != before {
			t.Error("the proxy was asked for a refused address")
		}
	}
	for _, proxy := range []string{"ftp://proxy", "http://0xa9fea9fe", "http://proxy/path", "'http://a b'", "proxy:3128"} {
		refused(t, through(a.url, proxy), kube.ParseOptions{Allows: allowed}, "kubeconfig", "proxy-url")
	}
}

// TestAttack03TLSSkip: who answers is believed only where the form allows it,
// and the test says so.
func TestAttack03TLSSkip(t *testing.T) {
	t.Parallel()
	a := newAPI(t, denied)
	skipping := kubeconfigFor(a.url, "    insecure-skip-tls-verify: true\n", tokenUser)
	check(t, ran(t, opts, skipping, fleet.Allowances{}), fleet.StageCredential, fleet.CheckFailed, "insecure-skip-tls-verify", "tick")
	check(t, ran(t, opts, kubeconfigFor(a.url, "", tokenUser), fleet.Allowances{TLSSkip: true}), fleet.StageTLS, fleet.CheckFailed)
	if a.heard.Load() != 0 {
		t.Error("the credential was sent")
	}
	test := ran(t, opts, skipping, fleet.Allowances{TLSSkip: true})
	check(t, test, fleet.StageTLS, fleet.CheckWarning, "not checked")
	if a.heard.Load() == 0 || a.tokens.Load() == "" {
		t.Error("allowed, and not spoken to")
	}
	refused(t, kubeconfigFor(a.url, "    insecure-skip-tls-verify: true\n    certificate-authority-data: "+b64(a.ca.pem)+"\n", tokenUser),
		kube.ParseOptions{Allows: fleet.Allowances{TLSSkip: true}}, "kubeconfig", "both")
}

// TestAttack09NoClientServesAnother: a client is for one cluster, credential,
// context and set of allowances.
func TestAttack09NoClientServesAnother(t *testing.T) {
	t.Parallel()
	raw := kubeconfigWith("", tokenUser) + "- name: other\n  user: {token: another}\n"
	raw = strings.Replace(raw, "contexts:\n", "contexts:\n- name: there\n  context: {cluster: harbour, user: other}\n", 1)
	clients := kube.NewClients(sources{"one": raw, "two": raw, "skips": kubeconfigWith("    insecure-skip-tls-verify: true\n", tokenUser)}, opts)
	defer clients.Close()
	get := func(c fleet.Cluster) *kube.Client {
		t.Helper()
		client, err := clients.Get(t.Context(), &c)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	one, two := clusterRow("apps"), clusterRow("apps")
	one.ID, two.ID = "one", "two"
	one.CredentialHash, two.CredentialHash = kube.Hash([]byte(raw)), kube.Hash([]byte(raw))
	first := get(one)
	if get(one) != first {
		t.Error("not kept")
	}
	if get(two) == first {
		t.Error("one client for two clusters with the same kubeconfig")
	}
	elsewhere := one
	elsewhere.Context = "there"
	if c := get(elsewhere); c == first || c.REST.BearerToken != "another" {
		t.Error("one client for two contexts")
	}

	skips := clusterRow("apps")
	skips.ID, skips.Allows = "skips", fleet.Allowances{TLSSkip: true}
	skips.CredentialHash = kube.Hash([]byte(kubeconfigWith("    insecure-skip-tls-verify: true\n", tokenUser)))
	get(skips)
	skips.Allows = fleet.Allowances{}
	if _, err := clients.Get(t.Context(), &skips); err == nil {
		t.Error("a client goes on skipping the TLS check when that is allowed no more")
	}
}

// sources holds kubeconfigs by cluster.
type sources map[string]string

func (s sources) Kubeconfig(_ context.Context, c *fleet.Cluster) ([]byte, error) {
	return []byte(s[c.ID]), nil
}

func (sources) CloudCredential(context.Context, *fleet.Cluster) (fleet.CloudCredential, error) {
	return fleet.CloudCredential{}, nil
}

// TestAttack08HeadersOfACredential: nothing in a kubeconfig becomes another
// header than its own credential.
func TestAttack08HeadersOfACredential(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	ca := testCA(t)
	url := serveTLS(t, ca.pair(t, time.Now().Add(time.Hour), "127.0.0.1"), func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Clone())
		w.WriteHeader(http.StatusUnauthorized)
	})
	caLine := "    certificate-authority-data: " + b64(ca.pem) + "\n"
	for _, user := range []string{
		tokenUser + "    as: system:admin\n", tokenUser + "    as-groups: ['system:masters']\n", tokenUser + "    as-uid: '0'\n",
		tokenUser + "    as-user-extra: {scopes: [all]}\n", "    token: \"x\\r\\nImpersonate-User: root\"\n", "    token: \"x\\nConnection: close\"\n",
	} {
		refused(t, kubeconfigFor(url, caLine, user), kube.ParseOptions{}, "kubeconfig")
	}
	check(t, ran(t, opts, kubeconfigFor(url, caLine, tokenUser), fleet.Allowances{}), fleet.StageAuthenticate, fleet.CheckFailed, "401")
	header, _ := seen.Load().(http.Header)
	for name := range header {
		switch name {
		case "Authorization", "Accept", "Accept-Encoding", "Content-Type", "Content-Length", "User-Agent":
		default:
			t.Errorf("sent the header %s", name)
		}
	}
	if header.Get("Authorization") == "" {
		t.Error("sent no credential")
	}
}
