package web

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"portolan/internal/auth"
	"portolan/internal/fleet"
)

func TestAttack15BeforeTheFirstUserEverythingLeadsToSetup(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client()
	for _, path := range []string{"/", "/login", "/admin/clusters", "/workloads/x/stream", "/nowhere"} {
		if a := c.get(path); a.status != http.StatusSeeOther || a.location() != "/setup" {
			t.Errorf("GET %s: %d %s", path, a.status, a.location())
		}
	}
	if a := c.post("/deploy", nil); a.status != http.StatusSeeOther || a.location() != "/setup" {
		t.Errorf("POST /deploy: %d %s", a.status, a.location())
	}
	if a := c.get("/setup"); a.status != http.StatusOK || !strings.Contains(a.body, `name="token"`) {
		t.Errorf("GET /setup: %d", a.status)
	}
	if a := c.get("/healthz"); a.status != http.StatusOK {
		t.Errorf("GET /healthz: %d", a.status)
	}
}

func TestAttack15SetupOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client()
	good := fields{"token": b.token, "email": " First@Example.com ", "password": password}
	for name, form := range map[string]fields{
		"token":    good.but("token", "guess"),
		"email":    good.but("email", "<b>nobody</b>"),
		"password": good.but("password", "short"),
	} {
		a := c.post("/setup", form)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `id="e-`+name+`"`) {
			t.Errorf("bad %s: %d", name, a.status)
		}
		if strings.Contains(a.body, b.token) || strings.Contains(a.body, password) || strings.Contains(a.body, "<b>nobody") {
			t.Errorf("bad %s: the page holds what it must not", name)
		}
	}
	a := c.post("/setup", good)
	if a.status != http.StatusSeeOther || a.location() != "/" {
		t.Fatalf("%d %s\n%s", a.status, a.location(), a.body)
	}
	if a := c.get("/"); a.status != http.StatusOK || !strings.Contains(a.body, "first@example.com") {
		t.Errorf("overview after setup: %d", a.status)
	}
	other := b.client()
	if a := other.post("/setup", good.but("email", "second@example.com")); a.status != http.StatusConflict {
		t.Errorf("a second setup: %d", a.status)
	}
	if a := other.get("/setup"); a.status != http.StatusSeeOther || a.location() != "/login" {
		t.Errorf("GET /setup after it: %d %s", a.status, a.location())
	}
	if n, err := b.db.CountUsers(t.Context()); err != nil || n != 1 {
		t.Errorf("%d users, %v", n, err)
	}
}

func TestAttack15Sessions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.user(fleet.RoleAdmin)
	again := c.post("/login", fields{"email": "admin@example.com", "password": password})
	cookie := again.header.Get("Set-Cookie")
	for _, part := range []string{auth.CookieName + "=", "HttpOnly", "SameSite=Lax", "Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie lacks %s: %s", part, cookie)
		}
	}
	if strings.Contains(cookie, "Secure") {
		t.Errorf("Secure over plain http: %s", cookie)
	}

	t.Run("a token from before the login is worth nothing", func(t *testing.T) {
		old := b.client()
		fixed := strings.Repeat("f", 43)
		a := old.post("/login", fields{"email": "admin@example.com", "password": password}, "Cookie", auth.CookieName+"="+fixed)
		if a.status != http.StatusSeeOther || strings.Contains(a.header.Get("Set-Cookie"), fixed) {
			t.Errorf("%d %s", a.status, a.header.Get("Set-Cookie"))
		}
		if a := b.client().get("/", "Cookie", auth.CookieName+"="+fixed); a.status != http.StatusSeeOther {
			t.Errorf("the fixed token opens: %d", a.status)
		}
	})
	t.Run("logout ends it", func(t *testing.T) {
		d := b.user(fleet.RoleAdmin)
		value := d.post("/login", fields{"email": "admin@example.com", "password": password}).header.Get("Set-Cookie")
		token, _, _ := strings.Cut(value, ";")
		if a := d.post("/logout", nil); a.status != http.StatusSeeOther || a.location() != "/login" {
			t.Fatalf("%d", a.status)
		}
		if a := b.client().get("/", "Cookie", token); a.status != http.StatusSeeOther {
			t.Errorf("the token still opens: %d", a.status)
		}
	})
	t.Run("a new password ends all of them", func(t *testing.T) {
		d := b.user(fleet.RoleOperator)
		if a := d.get("/"); a.status != http.StatusOK {
			t.Fatalf("%d", a.status)
		}
		if err := b.auth.ResetPassword(t.Context(), fleet.Actor{}, "operator@example.com", "another long password"); err != nil {
			t.Fatal(err)
		}
		if a := d.get("/"); a.status != http.StatusSeeOther {
			t.Errorf("the session still opens: %d", a.status)
		}
	})
	t.Run("next leads back, and nowhere else", func(t *testing.T) {
		d := b.client()
		if a := d.get("/workloads?q=x"); a.location() != "/login?next=%2Fworkloads%3Fq%3Dx" {
			t.Errorf("%s", a.location())
		}
		for next, want := range map[string]string{
			"/workloads?q=x": "/workloads?q=x", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "": "/",
		} {
			a := d.post("/login", fields{"email": "admin@example.com", "password": password, "next": next})
			if a.location() != want {
				t.Errorf("next=%q leads to %q", next, a.location())
			}
		}
	})
}

func TestAttack15LoginSaysTheSameForAbsentAndPresentAccounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(fleet.RoleAdmin)
	c := b.client()
	var bodies []string
	for _, email := range []string{"admin@example.com", "nobody@example.com"} {
		for i := range 6 {
			a := c.post("/login", fields{"email": email, "password": "wrong"})
			want := http.StatusUnauthorized
			if i == 5 {
				want = http.StatusTooManyRequests
			}
			if a.status != want {
				t.Errorf("%s, attempt %d: %d, want %d", email, i+1, a.status, want)
			}
			bodies = append(bodies, strings.ReplaceAll(a.body, email, "X"))
		}
	}
	for i := range 6 {
		if bodies[i] != bodies[i+6] {
			t.Errorf("attempt %d tells an absent account from a present one", i+1)
		}
	}
	if a := c.post("/login", fields{"email": "admin@example.com", "password": password}); a.status != http.StatusTooManyRequests {
		t.Errorf("the right password while throttled: %d", a.status)
	}
	for _, bad := range []fields{{}, {"email": "x", "password": "y"}, {"email": "a\x00@example.com", "password": "y"}, {"email": "a@example.com"}} {
		if a := c.post("/login", bad); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%v: %d", bad, a.status)
		}
	}
}

func TestAttack12CrossOriginRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.user(fleet.RoleAdmin)
	id := b.target(c, "one")
	stream := "/admin/clusters/" + id + "/stream"
	for _, test := range []struct {
		method, path string
		headers      []string
		want         int
	}{
		{"POST", "/admin/clusters/test", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"POST", "/admin/clusters/test", []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		{"POST", "/admin/clusters/test", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{"POST", "/admin/clusters/test", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusSeeOther},
		{"POST", "/admin/clusters/test", []string{"Origin", b.base}, http.StatusSeeOther},
		{"POST", "/admin/clusters/test", nil, http.StatusSeeOther},
		{"GET", stream, []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"GET", stream, []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{"GET", stream, []string{"Sec-Fetch-Site", "same-origin"}, http.StatusOK},
		{"GET", stream, nil, http.StatusOK},
		{"GET", "/admin/clusters", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusOK},
	} {
		if a := c.do(test.method, test.path, nil, test.headers...); a.status != test.want {
			t.Errorf("%s %s %v: %d, want %d", test.method, test.path, test.headers, a.status, test.want)
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.user(fleet.RoleViewer)
	for _, path := range []string{"/", "/nowhere", "/healthz", "/login"} {
		h := c.get(path).header
		if got := h.Get("Content-Security-Policy"); got != "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'" {
			t.Errorf("%s: policy %q", path, got)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestAnErrorShowsItsNumberAndNothingElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.user(fleet.RoleAdmin)
	b.db.Close()
	a := c.get("/workloads")
	if a.status != http.StatusInternalServerError || !strings.Contains(a.body, a.header.Get("X-Request-Id")) {
		t.Errorf("%d\n%s", a.status, a.body)
	}
	if strings.Contains(a.body, "pool") || strings.Contains(a.body, "postgres") {
		t.Errorf("the page tells what only the log may: %s", a.body)
	}
	if a := c.get("/readyz"); a.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", a.status)
	}
}

// TestAttack15ManyGuessesAtOnceAreNoMoreThanFive: attempts that come together are
// counted before any of them is looked at.
func TestAttack15ManyGuessesAtOnceAreNoMoreThanFive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(fleet.RoleAdmin)
	var tried atomic.Int32
	var wg sync.WaitGroup
	for range 30 {
		c := b.client()
		wg.Go(func() {
			if c.post("/login", fields{"email": "admin@example.com", "password": "wrong"}).status == http.StatusUnauthorized {
				tried.Add(1)
			}
		})
	}
	wg.Wait()
	if n := tried.Load(); n > 5 {
		t.Errorf("%d of 30 guesses were tried", n)
	}
}

// A form that is sent after the session has ended leads to a page that says
// so, and from there back to the form.
func TestAFormSentAfterTheSessionLeadsBackToIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(fleet.RoleAdmin)
	c := b.client()
	for _, at := range []struct{ from, to, back string }{
		{"/deploy?target=k8s:one", "/deploy", "/deploy?target=k8s:one"},
		{"/deploy?target=k8s:one", "/deploy/preview", "/deploy?target=k8s:one"},
		{"/admin/clusters/new?path=a", "/admin/clusters", "/admin/clusters/new?path=a"},
		{"/admin/clusters", "/admin/clusters", "/admin/clusters/new"},
		{"/admin/clusters/one", "/admin/clusters/one", "/admin/clusters/one/edit"},
		{"/workloads/w/update", "/workloads/w/update", "/workloads/w/edit"},
		{"/workloads/w/scale", "/workloads/w/scale", "/workloads/w"},
		{"/admin/users/u/role", "/admin/users/u/role", "/admin/users"},
	} {
		a := c.post(at.to, fields{"name": "x"}, "Referer", b.base+at.from)
		to, err := url.Parse(a.location())
		if err != nil || a.status != http.StatusSeeOther || to.Path != "/login" || to.Query().Get("unsaved") != "true" {
			t.Fatalf("POST %s from %s: %d %s", at.to, at.from, a.status, a.location())
		}
		if back := to.Query().Get("next"); back != at.back {
			t.Errorf("POST %s from %s leads back to %s, want %s", at.to, at.from, back, at.back)
		}
		if page := c.get(a.location()); !strings.Contains(page.body, "data-unsaved") {
			t.Errorf("GET %s: it does not say that nothing was saved", a.location())
		}
	}
	for _, from := range []string{"", "https://evil.example/deploy"} {
		if a := c.post("/deploy", nil, "Referer", from); a.location() != "/login" {
			t.Errorf("POST /deploy from %q: %s", from, a.location())
		}
	}
	if a := c.post("/logout", nil, "Referer", b.base+"/deploy"); a.location() != "/login" {
		t.Errorf("POST /logout: %s", a.location())
	}
}

// What has been done is told by the page that the browser is sent on to, and not
// beside an error that comes before it.
func TestANoticeIsNotTakenForTheErrorBesideIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	if a := admin.post("/admin/clusters/one/disable", nil); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	told := func(a answer) bool { return strings.Contains(a.body, "data-notice") }
	if a := admin.post("/admin/clusters", clusterFields("two").but("label", "")); a.status != http.StatusUnprocessableEntity || told(a) {
		t.Errorf("%d tells of it: %t", a.status, told(a))
	}
	if !told(admin.get("/admin/clusters/one")) || told(admin.get("/admin/clusters/one")) {
		t.Error("it is not told once")
	}
}

// An id has one spelling, in which the pages that show it hear of its changes.
func TestAnIDInAnotherSpellingIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	id, op := b.deployed(admin, "one", "web")
	for _, path := range []string{
		"/workloads/" + strings.ToUpper(id), "/workloads/" + strings.ReplaceAll(id, "-", ""), "/workloads/%7B" + id + "%7D/stream",
		"/workloads/" + id[:4] + "-" + id[4:],
		"/operations/" + strings.ToUpper(op), "/workloads/%00", "/operations/%FF", "/admin/clusters/%00/edit", "/admin/clusters/%FF",
		"/admin/users/%00/delete",
	} {
		if a := admin.get(path); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := admin.post("/workloads/%00/stop", nil); a.status != http.StatusNotFound {
		t.Errorf("stop: %d", a.status)
	}
}

// What cannot be done is told on a page that leads back to the one where it was
// tried, and so does the address of a form when it is opened as a page.
func TestAFailureLeadsBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	id, op := b.deployed(operator, "one", "web")
	leads := func(a answer, status int, to string) {
		t.Helper()
		_, page, _ := strings.Cut(a.body, "<main")
		if a.status != status || to != "" && !strings.Contains(page, `href="`+to+`"`) || to == "" && strings.Contains(page, "href=") {
			t.Errorf("%d, want %d and the way to %q in\n%s", a.status, status, to, page)
		}
	}
	at := "/workloads/" + id
	leads(operator.post(at+"/restart", nil, "Referer", b.base+at+"?x=1"), http.StatusConflict, at+"?x=1")
	leads(operator.post(at+"/restart", nil, "Referer", "https://evil.example/"), http.StatusConflict, "")
	leads(operator.post(at+"/restart", nil), http.StatusConflict, "")
	leads(operator.post("/admin/clusters/one/disable", nil, "Referer", b.base+"/workloads"), http.StatusForbidden, "/workloads")
	for form, page := range map[string]string{
		at + "/update": at + "/edit", at + "/stop": at, "/deploy/preview": "/deploy", "/operations/" + op + "/cancel": "/operations/" + op,
		"/admin/users/invite": "/admin/users", "/profile/password": "/profile", "/admin/clusters/one/test": "/admin/clusters/one",
	} {
		leads(admin.get(form), http.StatusMethodNotAllowed, page)
	}
	leads(admin.do(http.MethodPut, at, nil), http.StatusMethodNotAllowed, "")
}
