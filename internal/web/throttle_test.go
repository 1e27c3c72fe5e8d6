package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"portolan/internal/auth"
	"portolan/internal/fleet"
	"portolan/internal/postgres/postgrestest"
)

// loginFrom signs in from an address.
func (b *bundle) loginFrom(address, email, password string) answer {
	return b.client().post("/login", fields{"email": email, "password": password}, "X-Forwarded-For", address)
}

// TestAttack15OneIPv6NetworkIsOneAddress: who has a /64 has 2^64 addresses, and no
// more guesses for it.
func TestAttack15OneIPv6NetworkIsOneAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.TrustedProxies = loopback(t) })
	b.user(fleet.RoleAdmin)
	for i := range 5 {
		if a := b.loginFrom(fmt.Sprintf("2001:db8:1:2:%x::%x", i, i), "admin@example.com", "wrong"); a.status != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i+1, a.status)
		}
	}
	if a := b.loginFrom("2001:db8:1:2::99", "admin@example.com", password); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "300" {
		t.Errorf("a sixth attempt from the same network: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	for _, other := range []string{"2001:db8:1:3::1", "203.0.113.7", "::ffff:203.0.113.7"} {
		if a := b.loginFrom(other, "admin@example.com", password); a.status != http.StatusSeeOther {
			t.Errorf("from %s: %d", other, a.status)
		}
	}
	rows := b.audited(fleet.AuditFilter{Action: "login", Outcome: "refused"})
	times := 0
	for _, row := range rows {
		times += row.Times
	}
	// Wrong ones and those turned away are one row each, or two where a window began.
	if len(rows) < 2 || len(rows) > 4 || times != 6 || rows[len(rows)-1].Address != "2001:db8:1:2::" {
		t.Errorf("%d rows stand for %d attempts: %+v", len(rows), times, rows)
	}
}

// TestAttack15GuessesFromElsewhereDoNotLockTheOwnerOut: the limit on an account
// from anywhere does not hold where its owner has been signed in; the others do.
func TestAttack15GuessesFromElsewhereDoNotLockTheOwnerOut(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.TrustedProxies = loopback(t) })
	b.user(fleet.RoleAdmin)
	const home, other = "203.0.113.7", "198.51.100.1"
	if a := b.loginFrom(home, "admin@example.com", password); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	guess := func(from string) int { return b.loginFrom(from, "admin@example.com", "wrong").status }
	for i := range 20 {
		if status := guess(fmt.Sprintf("192.0.2.%d", 1+i/4)); status != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i+1, status)
		}
	}
	if a := b.loginFrom(other, "admin@example.com", password); a.status != http.StatusTooManyRequests {
		t.Errorf("from where nobody was: %d", a.status)
	}
	for i := range 5 {
		if status := guess(home); status != http.StatusUnauthorized {
			t.Errorf("guess %d from home: %d", i+1, status)
		}
	}
	if a := b.loginFrom(home, "admin@example.com", password); a.status != http.StatusTooManyRequests {
		t.Errorf("after five guesses from home: %d", a.status)
	}
	b.exec(`DELETE FROM login_failures WHERE key LIKE 'pair:%'`)
	if a := b.loginFrom(home, "admin@example.com", password); a.status != http.StatusSeeOther {
		t.Errorf("the owner: %d", a.status)
	}
}

// TestAttack15WhoCannotWaitIsToldAtOnce: the line before the passwords has an end.
// Who finds it full has lost nothing.
func TestAttack15WhoCannotWaitIsToldAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(fleet.RoleAdmin)
	narrow := b.server.Options
	narrow.Auth = auth.New(auth.Options{Store: b.db, Sessions: b.db.SessionStore(), MaxWaiting: 1})
	server, err := New(narrow)
	if err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(server.Handler())
	t.Cleanup(site.Close)
	login := func() answer {
		c := b.client()
		c.base = site.URL
		return c.post("/login", fields{"email": "admin@example.com", "password": password})
	}

	// The first is held up while it has its place, by what may be read and not written.
	tx, err := b.db.Pool().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `LOCK TABLE login_failures IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	first := make(chan answer, 1)
	go func() { first <- login() }()
	b.until("the first to wait", func() bool { return postgrestest.Waits(t, b.db, "login_failures") })
	for range 2 {
		a := login()
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "Too many people") {
			t.Fatalf("%d, Retry-After %q\n%s", a.status, a.header.Get("Retry-After"), a.body)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := <-first; a.status != http.StatusSeeOther {
		t.Errorf("the first: %d", a.status)
	}
	if a := login(); a.status != http.StatusSeeOther {
		t.Errorf("after it: %d", a.status)
	}
}

// TestRefusedAttemptsAreOneRow: what a person may not do they can still try
// without end.
func TestRefusedAttemptsAreOneRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, viewer, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleViewer), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	self := b.find("admin@example.com").ID
	const tries = 20
	for range tries {
		viewer.post("/admin/clusters/one/disable", nil)                                                                         // by its role
		admin.post("/admin/users/"+self+"/disable", nil)                                                                        // by a use case of accounts
		admin.post("/admin/clusters", clusterFields("one"))                                                                     // of the registry
		operator.post("/deploy", fields{"target": "k8s:none", "runtime": "container", "name": "web", "image": "demo:1"})        // of workloads
		viewer.post("/profile/password", fields{"password": "wrong wrong wrong", "new_password": "another long password here"}) // of one's own
	}
	rows := b.audited(fleet.AuditFilter{Outcome: "refused"})
	kinds := map[string]int{}
	for _, row := range rows {
		kinds[row.Action] += row.Times
	}
	for _, action := range []string{"request", "user.disable", "cluster.create", "workload.deploy", "user.password"} {
		if kinds[action] != tries {
			t.Errorf("%s: %d of %d attempts are in the record", action, kinds[action], tries)
		}
	}
	// One row for each, two for passwords: wrong, and turned away. Twice that
	// where a window began.
	if len(rows) > 12 {
		t.Errorf("%d rows", len(rows))
	}
}
