package web

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

// heldBack is a form whose sender waits with it until the server asks for it,
// and does something else first.
type heldBack struct {
	first func()
	form  io.Reader
}

func (h *heldBack) Read(p []byte) (int, error) {
	if h.first != nil {
		h.first()
		h.first = nil
	}
	return h.form.Read(p)
}

// postHeldBack sends a form once the server wants to read it, which is after it
// has let the sender in, and meanwhile has something happen.
func (c *client) postHeldBack(path string, form fields, meanwhile func(), headers ...string) answer {
	c.t.Helper()
	values := url.Values{}
	for name, value := range form {
		values.Set(name, value)
	}
	transport := &http.Transport{ExpectContinueTimeout: patience}
	defer transport.CloseIdleConnections()
	held := *c
	held.http = new(*c.http)
	held.http.Transport = transport
	asked := false
	a := held.do(http.MethodPost, path, &heldBack{first: func() { asked = true; meanwhile() }, form: strings.NewReader(values.Encode())},
		append([]string{"Content-Type", "application/x-www-form-urlencoded", "Expect", "100-continue"}, headers...)...)
	if !asked {
		c.t.Fatalf("POST %s was answered before its form was read: %d", path, a.status)
	}
	return a
}

// TestAttack10AFormThatIsHeldBackOutlivesNoRight: who begins to send a form,
// loses the right to what it does and only then sends the rest of it has done
// nothing.
func TestAttack10AFormThatIsHeldBackOutlivesNoRight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	boss := fleet.Actor{Email: "admin@example.com"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	ctx := context.WithoutCancel(t.Context())
	demote := func(u fleet.User) { must(b.auth.SetRole(ctx, boss, u.ID, "", fleet.RoleViewer)) }
	disable := func(u fleet.User) { must(b.auth.SetDisabled(ctx, boss, u.ID, "", true)) }
	for name, attack := range map[string]struct {
		path      string
		form      fields
		meanwhile func(fleet.User)
	}{
		"role":   {"/admin/users/{self}/role", fields{"role": "admin"}, demote},
		"enable": {"/admin/users/{self}/enable", fields{"x": "y"}, disable},
		"invite": {"/admin/users/invite", fields{"email": "accomplice@example.com", "role": "admin"}, demote},
		"delete": {"/admin/users/{admin}/delete", fields{"confirm": "admin@example.com"}, disable},
		"deploy": {"/deploy", fields{"target": "k8s:one", "runtime": "container", "name": "web", "image": "demo:1"}, demote},
		"logout": {"/deploy", fields{"target": "k8s:one", "runtime": "container", "name": "web", "image": "demo:1"}, func(u fleet.User) {
			list, err := b.db.SessionsOf(ctx, u.ID, "")
			must(err)
			must(b.auth.EndSession(ctx, u, fleet.Actor{}, list[0].ID))
		}},
	} {
		email := "fired-" + name + "@example.com"
		u, err := b.auth.CreateUser(ctx, fleet.Actor{}, email, password, fleet.RoleAdmin)
		must(err)
		c := b.client()
		c.post("/login", fields{"email": email, "password": password})
		path := strings.NewReplacer("{self}", u.ID, "{admin}", b.find("admin@example.com").ID).Replace(attack.path)
		var left fleet.User
		a := c.postHeldBack(path, attack.form, func() {
			attack.meanwhile(u)
			left = b.find(email)
		})
		if !turnedAway(a) {
			t.Errorf("%s: %d\n%s", name, a.status, a.body)
		}
		if now := b.find(email); now != left {
			t.Errorf("%s: the account is %s, disabled %t; it was left %s, disabled %t", name, now.Role, now.Disabled, left.Role, left.Disabled)
		}
	}
	if u := b.find("admin@example.com"); u.Role != fleet.RoleAdmin || u.Disabled {
		t.Errorf("%+v", u)
	}
	if invites, err := b.db.Invites(ctx); err != nil || len(invites) != 0 {
		t.Errorf("%d invitations, %v", len(invites), err)
	}
	if page, err := b.db.ListWorkloads(ctx, fleet.WorkloadFilter{}); err != nil || len(page.Rows) != 0 {
		t.Errorf("%d workloads, %v", len(page.Rows), err)
	}

	// Only the role is less, by a hand that ends no session.
	operator := b.user(fleet.RoleOperator)
	a := operator.postHeldBack("/deploy", fields{"target": "k8s:one", "runtime": "container", "name": "web", "image": "demo:1"}, func() {
		b.exec(`UPDATE users SET role = 'viewer' WHERE email = 'operator@example.com'`)
	})
	if a.status != http.StatusForbidden {
		t.Errorf("%d", a.status)
	}
	if rows := b.audited(fleet.AuditFilter{Actor: "operator@example.com", Action: "request", Outcome: "refused"}); len(rows) != 1 {
		t.Errorf("%+v", rows)
	}
	// Who keeps the right is not in the way.
	if a := admin.postHeldBack("/admin/users/invite", fields{"email": "new@example.com", "role": "viewer"}, func() {}); a.status != http.StatusCreated {
		t.Errorf("%d\n%s", a.status, a.body)
	}
}

// TestAttack10WhoIsNoAdminAnyMoreChangesNoAccount: between the last question and
// the change, too, the right may go.
func TestAttack10WhoIsNoAdminAnyMoreChangesNoAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.user(fleet.RoleAdmin)
	ctx := t.Context()
	for how, end := range map[string]func(id string) error{
		"demoted":    func(id string) error { return b.auth.SetRole(ctx, fleet.Actor{}, id, "", fleet.RoleOperator) },
		"disabled":   func(id string) error { return b.auth.SetDisabled(ctx, fleet.Actor{}, id, "", true) },
		"signed out": func(id string) error { return b.auth.EndSessions(ctx, fleet.Actor{}, id) },
		"deleted":    func(id string) error { return b.auth.Remove(ctx, fleet.Actor{}, id, b.findByID(id).Email) },
	} {
		u, err := b.auth.CreateUser(ctx, fleet.Actor{}, "fired@example.com", password, fleet.RoleAdmin)
		if err != nil {
			t.Fatal(err)
		}
		u = b.find(u.Email)
		other, err := b.auth.CreateUser(ctx, fleet.Actor{}, "other@example.com", password, fleet.RoleViewer)
		if err != nil {
			t.Fatal(err)
		}
		was := b.find(other.Email)
		by := fleet.Actor{ID: u.ID, Epoch: u.Epoch, Email: u.Email, Role: u.Role}
		if err := end(u.ID); err != nil {
			t.Fatal(err)
		}
		_, _, inviting := b.auth.Invite(ctx, by, "accomplice@example.com", fleet.RoleAdmin)
		for what, err := range map[string]error{
			"role":    b.auth.SetRole(ctx, by, other.ID, "", fleet.RoleAdmin),
			"disable": b.auth.SetDisabled(ctx, by, other.ID, "", true),
			"delete":  b.auth.Remove(ctx, by, other.ID, other.Email),
			"invite":  inviting,
		} {
			if fleet.CodeOf(err) != fleet.CodeForbidden {
				t.Errorf("%s, then %s: %v", how, what, err)
			}
		}
		if now := b.find(other.Email); now != was {
			t.Errorf("%s: the other account is %+v", how, now)
		}
		b.exec(`DELETE FROM users WHERE email IN ('fired@example.com', 'other@example.com')`)
	}
	if invites, err := b.db.Invites(ctx); err != nil || len(invites) != 0 {
		t.Errorf("%d invitations, %v", len(invites), err)
	}
}

func (b *bundle) findByID(id string) fleet.User {
	b.t.Helper()
	u, err := b.db.UserByID(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}
