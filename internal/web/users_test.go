package web

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// invited makes an invitation and returns its link's token.
func invited(t *testing.T, admin *client, email string, role fleet.Role) string {
	t.Helper()
	a := admin.post("/admin/users/invite", fields{"email": email, "role": string(role)})
	if a.status != http.StatusCreated {
		t.Fatalf("invite: %d\n%s", a.status, a.body)
	}
	found := regexp.MustCompile(`value="http://[^"/]+/invite#([a-z0-9]{26})"`).FindStringSubmatch(a.body)
	if found == nil {
		t.Fatalf("no link: %s", a.body)
	}
	return found[1]
}

func (b *bundle) find(email string) fleet.User {
	b.t.Helper()
	u, err := b.db.UserByEmail(b.t.Context(), email)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

func (b *bundle) audited(f fleet.AuditFilter) []fleet.AuditEntry {
	b.t.Helper()
	page, err := b.db.AuditEntries(b.t.Context(), f)
	if err != nil {
		b.t.Fatal(err)
	}
	return page.Rows
}

func TestAnInvitationMakesOneAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	token := invited(t, admin, "Ana@Example.com", fleet.RoleOperator)
	if a := admin.get("/admin/users"); !strings.Contains(a.body, `data-invite="ana@example.com"`) || strings.Contains(a.body, token) {
		t.Errorf("the list does not show the invitation, or shows its link again:\n%s", a.body)
	}
	guest := b.client()
	if a := guest.get("/invite"); a.status != http.StatusOK || !strings.Contains(a.body, `name="token"`) {
		t.Fatalf("%d", a.status)
	}
	short := guest.post("/invite", fields{"token": token, "password": "short"})
	if !strings.Contains(short.body, `href="/login"`) {
		t.Error("whoever has an account already finds no way to sign in")
	}
	if short.status != http.StatusUnprocessableEntity || strings.Contains(short.body, token) {
		t.Errorf("a short password: %d", short.status)
	}
	if a := guest.post("/invite", fields{"token": token + "x", "password": password}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong token: %d", a.status)
	}
	if a := guest.post("/invite", fields{"token": token, "password": password}); a.status != http.StatusSeeOther || a.location() != "/" {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	if a := guest.get("/deploy"); a.status == http.StatusForbidden || a.status == http.StatusSeeOther {
		t.Errorf("the new operator cannot deploy: %d", a.status)
	}
	if a := b.client().post("/invite", fields{"token": token, "password": password}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("the link was used twice: %d", a.status)
	}
	if rows := b.audited(fleet.AuditFilter{Action: "user.accept-invite", Outcome: "ok"}); len(rows) != 1 || rows[0].Actor != "ana@example.com" {
		t.Errorf("%+v", rows)
	}
	// The record says what was wrong with a link.
	refused := func(target, reason string) {
		t.Helper()
		rows := b.audited(fleet.AuditFilter{Action: "user.accept-invite", Outcome: "refused", Target: target})
		if !slices.ContainsFunc(rows, func(e fleet.AuditEntry) bool { return e.Target == target && strings.Contains(e.Reason, reason) }) {
			t.Errorf("%s: no entry says %q: %+v", target, reason, rows)
		}
	}
	refused("user/", "no invitation of this link")
	refused("user/ana@example.com", "used already")

	t.Run("a second one ends the first", func(t *testing.T) {
		old := invited(t, admin, "bo@example.com", fleet.RoleViewer)
		invited(t, admin, "bo@example.com", fleet.RoleViewer)
		if a := b.client().post("/invite", fields{"token": old, "password": password}); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%d", a.status)
		}
		refused("user/bo@example.com", "a later invitation")
	})
	t.Run("withdrawn, it is worth nothing", func(t *testing.T) {
		token := invited(t, admin, "cy@example.com", fleet.RoleViewer)
		list, err := b.db.Invites(t.Context())
		if err != nil || list[0].Email != "cy@example.com" {
			t.Fatal(err, list)
		}
		if a := admin.post("/admin/invites/"+list[0].ID+"/delete", nil); a.status != http.StatusSeeOther {
			t.Fatalf("%d", a.status)
		}
		if a := b.client().post("/invite", fields{"token": token, "password": password}); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%d", a.status)
		}
		refused("user/cy@example.com", "withdrawn")
	})
	t.Run("out of date, it is worth nothing", func(t *testing.T) {
		token := invited(t, admin, "di@example.com", fleet.RoleViewer)
		if _, err := b.db.Pool().Exec(t.Context(), `UPDATE invites SET expires_at = now() WHERE email = 'di@example.com'`); err != nil {
			t.Fatal(err)
		}
		if a := b.client().post("/invite", fields{"token": token, "password": password}); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%d", a.status)
		}
		refused("user/di@example.com", "time of the invitation is over")
	})
	t.Run("an address with an account is not invited", func(t *testing.T) {
		if a := admin.post("/admin/users/invite", fields{"email": "ana@example.com", "role": "viewer"}); a.status != http.StatusConflict {
			t.Errorf("%d", a.status)
		}
		if a := admin.post("/admin/users/invite", fields{"email": "nobody", "role": "king"}); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%d", a.status)
		}
	})
	t.Run("many with one link make one account", func(t *testing.T) {
		token := invited(t, admin, "eve@example.com", fleet.RoleViewer)
		var in atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			c := b.client()
			wg.Go(func() {
				if c.post("/invite", fields{"token": token, "password": password}).status == http.StatusSeeOther {
					in.Add(1)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 {
			t.Errorf("%d came in", in.Load())
		}
	})
}

// TestNeitherLinkNorPasswordIsKept: what opens an account stands neither in the
// database nor in the log.
func TestNeitherLinkNorPasswordIsKept(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	b := setup(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	admin := b.user(fleet.RoleAdmin)
	token := invited(t, admin, "ana@example.com", fleet.RoleViewer)
	b.client().get("/invite")
	b.client().post("/invite", fields{"token": token, "password": "a secret of ana's own"})
	tables := []string{"users", "invites", "ended_invites", "sessions", "audit", "login_failures", "settings"}
	for _, table := range tables {
		var text string
		err := b.db.Pool().QueryRow(t.Context(), `SELECT coalesce(string_agg(t::text, ' '), '') FROM `+table+` t`).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, token) || strings.Contains(text, "a secret of ana's own") {
			t.Errorf("%s holds a secret: %s", table, text)
		}
	}
	if text := log.String(); strings.Contains(text, token) || strings.Contains(text, "secret of ana") || !strings.Contains(text, "/invite") {
		t.Errorf("the log: %s", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestTheLastAdminStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	id := b.find("admin@example.com").ID
	for path, form := range map[string]fields{
		"role": {"role": "operator"}, "disable": nil, "delete": {"confirm": "admin@example.com"},
	} {
		a := admin.post("/admin/users/"+id+"/"+path, form)
		if a.status != http.StatusConflict || !strings.Contains(a.body, "only admin") {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if rows := b.audited(fleet.AuditFilter{Target: "user/admin@example.com", Outcome: "refused"}); len(rows) != 3 {
		t.Errorf("%d refused attempts in the record", len(rows))
	}

	// Two admins who take each other's role at the same moment: one stays.
	for range 3 {
		second, err := b.auth.CreateUser(t.Context(), fleet.Actor{}, "second@example.com", password, fleet.RoleAdmin)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, target := range []string{id, second.ID} {
			wg.Go(func() {
				_ = b.auth.SetRole(t.Context(), fleet.Actor{Email: "test"}, target, "", fleet.RoleViewer)
			})
		}
		wg.Wait()
		var left []fleet.User
		all, err := b.db.Users(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range all {
			if u.Role == fleet.RoleAdmin {
				left = append(left, u)
			}
		}
		if len(left) != 1 {
			t.Fatalf("%d admins are left", len(left))
		}
		for _, u := range []string{id, second.ID} { // as it was
			if err := b.auth.SetRole(t.Context(), fleet.Actor{}, u, "", fleet.RoleAdmin); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.auth.Remove(t.Context(), fleet.Actor{}, second.ID, "second@example.com"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUsersAreManaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	u := b.find("operator@example.com")
	here := "/admin/users/" + u.ID
	a := admin.get("/admin/users")
	if a.status != http.StatusOK || !strings.Contains(a.body, `data-user="operator@example.com" data-role="operator"`) {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	if a := admin.get("/admin/users?q=nobody"); !strings.Contains(a.body, "Nobody matches") {
		t.Error("the search finds somebody")
	}

	if a := admin.post(here+"/role", fields{"role": "operator", "version": "1"}); a.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	if a := admin.get("/admin/users"); !strings.Contains(a.body, "Nothing was changed.") || strings.Contains(a.body, "The role was changed") {
		t.Error("the role that somebody has already is said to have been changed")
	}
	if a := operator.get("/"); a.status != http.StatusOK {
		t.Errorf("the session ended although nothing was changed: %d", a.status)
	}
	if a := admin.post(here+"/role", fields{"role": "viewer", "version": "1"}); a.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	if a := operator.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("the session outlived the role: %d", a.status)
	}
	if a := admin.post(here+"/role", fields{"role": "admin", "version": "1"}); a.status != http.StatusConflict {
		t.Errorf("a page from before the change: %d", a.status)
	}
	if a := admin.post(here+"/role", fields{"role": "emperor"}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("an unknown role: %d", a.status)
	}
	rows := b.audited(fleet.AuditFilter{Action: "user.role", Outcome: "ok"})
	if len(rows) != 1 || rows[0].Diff["role"] != [2]string{"operator", "viewer"} || rows[0].Actor != "admin@example.com" {
		t.Errorf("%+v", rows)
	}

	again := b.client()
	again.post("/login", fields{"email": "operator@example.com", "password": password})
	if a := again.get("/deploy"); a.status != http.StatusForbidden {
		t.Errorf("a viewer deploys: %d", a.status)
	}
	if a := admin.post(here+"/disable", nil); a.status != http.StatusSeeOther {
		t.Fatalf("%d", a.status)
	}
	if a := again.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("the session outlived the account: %d", a.status)
	}
	if a := again.post("/login", fields{"email": "operator@example.com", "password": password}); a.status != http.StatusUnauthorized {
		t.Errorf("a disabled account signs in: %d", a.status)
	}
	if a := admin.post(here+"/enable", nil); a.status != http.StatusSeeOther {
		t.Fatalf("%d", a.status)
	}
	if a := again.post("/login", fields{"email": "operator@example.com", "password": password}); a.status != http.StatusSeeOther {
		t.Errorf("an enabled account: %d", a.status)
	}
	if a := admin.post(here+"/sessions", nil); a.status != http.StatusSeeOther {
		t.Fatalf("%d", a.status)
	}
	if a := again.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("the session goes on: %d", a.status)
	}
	if a := admin.get(here + "/delete"); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
	if a := admin.post(here+"/delete", fields{"confirm": "somebody"}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("unconfirmed: %d", a.status)
	}
	if a := admin.post(here+"/delete", fields{"confirm": u.Email}); a.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	if a := again.post("/login", fields{"email": "operator@example.com", "password": password}); a.status != http.StatusUnauthorized {
		t.Errorf("a deleted account signs in: %d", a.status)
	}
	if a := admin.post(here+"/role", fields{"role": "viewer"}); a.status != http.StatusNotFound {
		t.Errorf("a deleted account: %d", a.status)
	}
}

// TestStreamsEndWithTheAccount: a stream ends when its person is disabled, when
// the role no longer allows it, and when the one session it belongs to is
// ended from elsewhere.
func TestStreamsEndWithTheAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	id := b.target(admin, "one")
	for what, end := range map[string]func(fleet.User, *client) error{
		"disabled": func(u fleet.User, _ *client) error {
			return b.auth.SetDisabled(context.Background(), fleet.Actor{}, u.ID, "", true)
		},
		"role": func(u fleet.User, _ *client) error {
			return b.auth.SetRole(context.Background(), fleet.Actor{}, u.ID, "", fleet.RoleViewer)
		},
		"session": func(u fleet.User, c *client) error {
			list, err := b.db.SessionsOf(context.Background(), u.ID, "")
			if err == nil {
				err = b.auth.EndSession(context.Background(), u, fleet.Actor{}, list[0].ID)
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			email := what + "@example.com"
			u, err := b.auth.CreateUser(t.Context(), fleet.Actor{}, email, password, fleet.RoleAdmin)
			if err != nil {
				t.Fatal(err)
			}
			c := b.client()
			c.post("/login", fields{"email": email, "password": password})
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.base+"/admin/clusters/"+id+"/stream", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.http.Do(r)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatal(err, res)
			}
			defer res.Body.Close()
			if err := end(u, c); err != nil {
				t.Fatal(err)
			}
			ended := make(chan string, 1)
			go func() {
				text, _ := io.ReadAll(res.Body)
				ended <- string(text)
			}()
			select {
			case text := <-ended:
				if !strings.Contains(text, "event: done") || !strings.Contains(text, "session has ended") {
					t.Errorf("it ended with: %s", text)
				}
			case <-time.After(patience):
				t.Error("the stream goes on")
			}
		})
	}
}

// TestThrottledLoginsAreOneRow: what anybody can repeat without end does not
// fill the record.
func TestThrottledLoginsAreOneRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(fleet.RoleAdmin)
	c := b.client()
	for range 30 {
		c.post("/login", fields{"email": "admin@example.com", "password": "wrong"})
	}
	rows := b.audited(fleet.AuditFilter{Actor: "admin@example.com", Action: "login", Outcome: "refused"})
	times := 0
	for _, r := range rows {
		times += r.Times
	}
	// Five were tried; the rest is one row, or two where a window began.
	if len(rows) > 7 || times != 30 {
		t.Errorf("%d rows that stand for %d attempts", len(rows), times)
	}
}

func TestInvitationsEndWithTheirAdmin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	for _, end := range []string{"role", "disable", "delete"} {
		email := end + "@example.com"
		u, err := b.auth.CreateUser(t.Context(), fleet.Actor{}, email, password, fleet.RoleAdmin)
		if err != nil {
			t.Fatal(err)
		}
		leaving := b.client()
		leaving.post("/login", fields{"email": email, "password": password})
		token := invited(t, leaving, "back"+end+"@example.com", fleet.RoleAdmin)
		stays := invited(t, admin, "new"+end+"@example.com", fleet.RoleViewer)
		if a := admin.post("/admin/users/"+u.ID+"/"+end, fields{"role": "operator", "confirm": email}); a.status != http.StatusSeeOther {
			t.Fatalf("%s: %d", end, a.status)
		}
		if a := b.client().post("/invite", fields{"token": token, "password": password}); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: the link still works: %d", end, a.status)
		}
		if a := b.client().post("/invite", fields{"token": stays, "password": password}); a.status != http.StatusSeeOther {
			t.Errorf("%s: another admin's link: %d", end, a.status)
		}
	}
}
