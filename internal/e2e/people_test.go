package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// An admin invites, somebody accepts in a browser of their own, and what both
// did stands in the record.
func TestPeopleInABrowser(t *testing.T) {
	t.Parallel()
	p := separate(t, map[string]string{"PORTOLAN_TRUSTED_PROXIES": "127.0.0.0/8", "PORTOLAN_RETAIN_AUDIT": "30d"})
	admin := surf(t, p.base, true)
	admin.open("/login")
	admin.fill("[name=email]", adminEmail)
	admin.fill("[name=password]", adminPassword)
	admin.follow("main form button")
	admin.open("/admin/users")
	admin.fill("#f-email", "ana@example.com")
	admin.portray("users")
	admin.follow("form[action='/admin/users/invite'] button")
	admin.arrives("[data-invite-link]")
	admin.portray("invited")
	link := admin.attribute("[data-invite-link]", "value")
	before, code, found := strings.Cut(link, "/invite#")
	if !found || before != p.base || len(code) != 26 {
		t.Fatalf("the link is %q", link)
	}
	if text := p.web.log.String(); strings.Contains(text, code) {
		t.Error("the log holds the link")
	}

	ana := surf(t, p.base, true)
	ana.open("/invite#" + code)
	ana.shows("#f-password")
	if at := run(ana, "look", chromedp.Evaluate[string]("location.href + ' ' + document.querySelector('[name=token]').value")); at != p.base+"/invite "+code {
		t.Errorf("the page has %q", at)
	}
	ana.portray("join")
	ana.fill("#f-password", "a password of ana's")
	ana.follow("main form button")
	ana.arrives("[data-notice]")
	ana.open("/profile")
	if n := ana.count("[data-session]"); n != 1 {
		t.Errorf("%d sessions", n)
	}
	ana.portray("profile")

	admin.open("/admin/audit?actor=ana@example.com")
	if n := admin.count("[data-audit='user.accept-invite'][data-outcome=ok]"); n != 1 {
		t.Errorf("%d acceptances in the record", n)
	}
	if !strings.Contains(admin.text(), "kept for 30 days") {
		t.Error("the page does not say how long it is kept")
	}
	admin.portray("audit")
	admin.open("/admin/clusters/new/found")
	admin.portray("found")

	// Behind the trusted proxy of this machine the cookie is Secure.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/login", strings.NewReader("email=ana@example.com&password=a+password+of+ana's"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-Proto", "https")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if cookie := answer.Header.Get("Set-Cookie"); answer.StatusCode != http.StatusSeeOther || !strings.Contains(cookie, "; Secure") {
		t.Errorf("%d %s", answer.StatusCode, cookie)
	}
}
