package web

import (
	"net/http"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

func TestForwardedHeadersAreBelievedFromTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	login := fields{"email": "admin@example.com", "password": password}
	forwarded := []string{"X-Forwarded-For", "203.0.113.7:51342", "X-Forwarded-Proto", "https"}
	for _, trusted := range []bool{false, true} {
		b := setup(t, func(o *Options) {
			if trusted {
				o.TrustedProxies = loopback(t)
			}
		})
		b.user(fleet.RoleAdmin)
		a := b.client().post("/login", login, forwarded...)
		secure := strings.Contains(a.header.Get("Set-Cookie"), "; Secure")
		hsts := a.header.Get("Strict-Transport-Security") != ""
		if secure != trusted || hsts != trusted {
			t.Errorf("trusted %v: Secure %v, HSTS %v", trusted, secure, hsts)
		}
		want := "127.0.0.1"
		if trusted {
			want = "203.0.113.7"
		}
		if rows := b.audited(fleet.AuditFilter{Action: "login"}); rows[0].Address != want {
			t.Errorf("trusted %v: the record names %s", trusted, rows[0].Address)
		}
		if a := b.client().post("/login", login, "X-Forwarded-For", "203.0.113.7", "X-Forwarded-Proto", "http"); strings.Contains(a.header.Get("Set-Cookie"), "; Secure") {
			t.Error("Secure over plain http")
		}
	}
}

func TestInvitationsUseThePublicURL(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.PublicURL = "https://portolan.example/" })
	admin := b.user(fleet.RoleAdmin)
	a := admin.post("/admin/users/invite", fields{"email": "ana@example.com", "role": "viewer"}, "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http")
	if a.status != http.StatusCreated || !strings.Contains(a.body, `value="https://portolan.example/invite#`) || strings.Contains(a.body, "evil.example") {
		t.Errorf("%d\n%s", a.status, a.body)
	}
	for _, bad := range []string{"portolan.example", "ftp://portolan.example", "https://portolan.example/under", "https://", "https://ana@portolan.example"} {
		if _, err := New(Options{PublicURL: bad, Assets: b.server.Assets}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// TestInvitationsEndWithTheirAdmin: nobody comes back by a link that they made
// before they were put out.
