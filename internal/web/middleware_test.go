package web

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

func TestClientAddressBelievesOnlyTrustedProxies(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, test := range []struct {
		name, peer, forwarded string
		trusted               []netip.Prefix
		want                  string
	}{
		{"no proxy", "203.0.113.7:1234", "", proxies, "203.0.113.7"},
		{"a liar", "203.0.113.7:1234", "198.51.100.1", proxies, "203.0.113.7"},
		{"nobody trusted", "10.0.0.1:1234", "198.51.100.1", nil, "10.0.0.1"},
		{"one proxy", "10.0.0.1:1234", "198.51.100.1", proxies, "198.51.100.1"},
		{"two proxies", "[fd00::1]:1234", "198.51.100.1, 10.0.0.2", proxies, "198.51.100.1"},
		{"a lie before the truth", "10.0.0.1:1234", "1.2.3.4, 198.51.100.1", proxies, "198.51.100.1"},
		{"nonsense", "10.0.0.1:1234", "nonsense", proxies, "10.0.0.1"},
		{"mapped", "10.0.0.1:1234", "::ffff:198.51.100.1", proxies, "198.51.100.1"},
		{"with a port", "10.0.0.1:1234", "198.51.100.1:51342", proxies, "198.51.100.1"},
		{"proxies with ports", "10.0.0.1:1234", "1.2.3.4:1, 198.51.100.1:51342,10.0.0.2:443", proxies, "198.51.100.1"},
		{"IPv6", "10.0.0.1:1234", "2001:db8::1", proxies, "2001:db8::1"},
		{"IPv6 in brackets", "10.0.0.1:1234", "[2001:db8::1]", proxies, "2001:db8::1"},
		{"IPv6 with a port", "10.0.0.1:1234", "[2001:db8::1]:51342", proxies, "2001:db8::1"},
		{"mapped with a port", "10.0.0.1:1234", "[::ffff:198.51.100.1]:51342", proxies, "198.51.100.1"},
		{"no port", "10.0.0.1:1234", "198.51.100.1:nonsense", proxies, "10.0.0.1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = test.peer
		r.Header.Set("X-Forwarded-For", test.forwarded)
		s := &Server{Options: Options{TrustedProxies: test.trusted}}
		if got := s.clientAddress(r); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestOnlyTLSMakesTheCookieSecure(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{"": false, "http://127.0.0.1:8080": false, "https://portolan.example": true, "HTTPS://x": true} {
		if Secure(address) != want {
			t.Errorf("Secure(%q) = %v", address, !want)
		}
	}
	for _, bad := range []string{"ftp://x", "portolan.example", "http://", "::"} {
		if _, err := originOf(bad); err == nil {
			t.Errorf("%q passes for a public URL", bad)
		}
	}
}

func FuzzLocalAddress(f *testing.F) {
	for _, seed := range []string{"/", "/x?y=z", "//evil", "https://evil", "/\\evil", "/\t/evil"} {
		f.Add(seed)
	}
	base := httptest.NewRequest(http.MethodGet, "http://portolan.example/login", nil).URL
	f.Fuzz(func(t *testing.T, next string) {
		u, err := base.Parse(localAddress(next))
		if err == nil && u.Host != base.Host {
			t.Errorf("%q leads to %s", next, u.Host)
		}
	})
}

func TestMetricsAreOnTheirOwnAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	if a := admin.get("/metrics"); a.status != http.StatusNotFound {
		t.Errorf("on the public address: %d", a.status)
	}
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		b.server.MetricsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	for path, status := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusOK, "/": http.StatusNotFound} {
		if w := ask(path); w.Code != status || status == http.StatusOK && w.Body.String() != "ok\n" {
			t.Errorf("%s: %d %.100s", path, w.Code, w.Body)
		}
	}
	w := ask("/metrics")
	for _, part := range []string{
		"portolan_clusters 1", `portolan_http_request_duration_seconds_count{method="POST",route="/admin/clusters/{id}/test",status="303"} 1`,
	} {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("no %s in\n%s", part, w.Body)
		}
	}
}

func loopback(t *testing.T) []netip.Prefix {
	t.Helper()
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}
