package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"portolan/internal/auth"
	"portolan/internal/fleet"
)

func TestProfile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	here := b.user(fleet.RoleViewer)
	const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	there := b.client()
	there.post("/login", fields{"email": "viewer@example.com", "password": password}, "User-Agent", firefox)
	third := b.user(fleet.RoleViewer)

	a := here.get("/profile")
	if a.status != http.StatusOK || strings.Count(a.body, "data-session=") != 3 || strings.Count(a.body, "this one") != 1 ||
		!strings.Contains(a.body, "Firefox on Linux") || !strings.Contains(a.body, "127.0.0.1") {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	// What the page names a session by opens none.
	for _, m := range regexp.MustCompile(`data-session="([^"]+)"`).FindAllStringSubmatch(a.body, -1) {
		if a := b.client().get("/", "Cookie", auth.CookieName+"="+m[1]); a.status != http.StatusSeeOther {
			t.Errorf("the id of a session opens it: %d", a.status)
		}
	}
	u := b.find("viewer@example.com")
	list, err := b.db.SessionsOf(t.Context(), u.ID, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		if o.Agent == firefox {
			if a := here.post("/profile/sessions/"+o.ID+"/end", nil); a.status != http.StatusSeeOther {
				t.Fatalf("%d", a.status)
			}
			if a := here.post("/profile/sessions/"+o.ID+"/end", nil); a.status != http.StatusNotFound {
				t.Errorf("ended twice: %d", a.status)
			}
			other := b.user(fleet.RoleOperator)
			if a := other.post("/profile/sessions/"+list[0].ID+"/end", nil); a.status != http.StatusNotFound {
				t.Errorf("somebody else's session: %d", a.status)
			}
		}
	}
	if a := there.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("the ended session opens: %d", a.status)
	}

	change := fields{"password": "wrong wrong wrong", "new_password": "another long password"}
	if a := here.post("/profile/password", change); a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, "another long") {
		t.Errorf("a wrong present password: %d", a.status)
	}
	if a := here.post("/profile/password", change.but("password", password).but("new_password", "short")); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a short one: %d", a.status)
	}
	if a := here.post("/profile/password", change.but("password", password)); a.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	if a := here.get("/profile"); a.status != http.StatusOK || strings.Count(a.body, "data-session=") != 1 {
		t.Errorf("the session that changed it: %d", a.status)
	}
	if a := third.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("another session goes on: %d", a.status)
	}
	for range 5 {
		here.post("/profile/password", change)
	}
	if a := here.post("/profile/password", change.but("password", "another long password")); a.status != http.StatusTooManyRequests {
		t.Errorf("the present password may be guessed without end: %d", a.status)
	}

	fresh := b.client()
	fresh.post("/login", fields{"email": "viewer@example.com", "password": "another long password"})
	if a := here.post("/profile/sessions/end", nil); a.status != http.StatusSeeOther {
		t.Fatalf("%d", a.status)
	}
	if a, x := here.get("/"), fresh.get("/"); a.status != http.StatusOK || x.status != http.StatusSeeOther {
		t.Errorf("this one %d, the other %d", a.status, x.status)
	}
}

// TestAnEndedSessionIsNotWrittenBack: a request that was under way when its
// session was ended does not bring it back to life.
func TestAnEndedSessionIsNotWrittenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.user(fleet.RoleViewer)
	u := b.find("viewer@example.com")
	base, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.base, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range c.http.Jar.Cookies(base.URL) {
		base.AddCookie(cookie)
	}
	r, err := b.auth.Attach(base, auth.Client{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := b.db.SessionsOf(t.Context(), u.ID, "")
	if err != nil || len(list) != 1 {
		t.Fatal(err, list)
	}
	if err := b.auth.EndSession(t.Context(), u, fleet.Actor{}, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := b.auth.SetNotice(r.Context(), discard{http.Header{}}, "written late"); err != nil {
		t.Fatal(err)
	}
	if a := c.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("the session is back: %d", a.status)
	}
}

// TestAttack15ASessionDoesNotOutliveItsLogout: a form that is half sent when its
// session ends, in whatever way, does not bring it back, also when what is old
// has been removed meanwhile.
func TestAttack15ASessionDoesNotOutliveItsLogout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for how, end := range map[string]func(c *client){
		"logout": func(c *client) {
			if a := c.post("/logout", nil); a.status != http.StatusSeeOther {
				t.Errorf("%d", a.status)
			}
		},
		"a new login": func(c *client) {
			if a := c.post("/login", fields{"email": "viewer@example.com", "password": password}); a.status != http.StatusSeeOther {
				t.Errorf("%d", a.status)
			}
		},
		"from elsewhere": func(*client) {
			u := b.find("viewer@example.com")
			list, err := b.db.SessionsOf(t.Context(), u.ID, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list {
				if err := b.auth.EndSession(t.Context(), u, fleet.Actor{}, o.ID); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		c, spare := b.user(fleet.RoleViewer), b.user(fleet.RoleViewer)
		site, err := url.Parse(b.base)
		if err != nil {
			t.Fatal(err)
		}
		stolen := c.http.Jar.Cookies(site)[0].String()
		// A notice that is still to be shown has the next page write to the session.
		b.endSession(c, spare)
		b.client().postHeldBack("/login", fields{"email": "nobody@example.com", "password": "wrong"}, func() {
			end(c)
			if _, err := b.db.RemoveOld(context.WithoutCancel(t.Context()), fleet.Retention{}); err != nil {
				t.Error(err)
			}
		}, "Cookie", stolen)
		if a := b.client().get("/", "Cookie", stolen); !turnedAway(a) {
			t.Errorf("after %s the session opens: %d", how, a.status)
		}
	}
}

// endSession ends the session of other by the form of c's profile.
func (b *bundle) endSession(c, other *client) {
	b.t.Helper()
	own := regexp.MustCompile(`data-session="([^"]+)"`)
	first := own.FindStringSubmatch(other.get("/profile").body) // the present one stands first
	if first == nil {
		b.t.Fatal("no session")
	}
	if a := c.post("/profile/sessions/"+first[1]+"/end", nil); a.status != http.StatusSeeOther {
		b.t.Fatalf("%d", a.status)
	}
}

// TestAnEndedSessionDoesNotStartAnew: a request that was let in before its
// session was ended, in whatever way, opens no other session.
func TestAnEndedSessionDoesNotStartAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := fleet.Actor{Email: "admin@example.com"}
	b.user(fleet.RoleViewer)
	id := b.find("viewer@example.com").ID
	ends := map[string]func(r *http.Request, c *client) error{
		"by an admin": func(r *http.Request, _ *client) error { return b.auth.EndSessions(r.Context(), admin, id) },
		"by a new password": func(r *http.Request, _ *client) error {
			return b.auth.ResetPassword(r.Context(), admin, "viewer@example.com", password)
		},
		"by its owner": func(r *http.Request, _ *client) error {
			list, err := b.auth.Sessions(r.Context(), b.find("viewer@example.com"))
			if err != nil {
				return err
			}
			return b.auth.EndSession(r.Context(), b.find("viewer@example.com"), admin, list[0].ID)
		},
		"by signing out": func(_ *http.Request, c *client) error {
			if a := c.post("/logout", nil); a.status != http.StatusSeeOther {
				return fmt.Errorf("sign-out: %d", a.status)
			}
			return nil
		},
	}
	acts := map[string]func(r *http.Request, u fleet.User) error{
		"ends the others": func(r *http.Request, u fleet.User) error {
			return b.auth.EndOtherSessions(r.Context(), discard{http.Header{}}, u, fleet.Actor{})
		},
		"changes the password": func(r *http.Request, u fleet.User) error {
			return b.auth.ChangePassword(r.Context(), discard{http.Header{}}, u, fleet.Actor{}, password, "another long password")
		},
	}
	for how, end := range ends {
		for what, act := range acts {
			if _, err := b.db.Pool().Exec(t.Context(), `DELETE FROM sessions`); err != nil {
				t.Fatal(err)
			}
			c := b.user(fleet.RoleViewer)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.base, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, cookie := range c.http.Jar.Cookies(r.URL) {
				r.AddCookie(cookie)
			}
			if r, err = b.auth.Attach(r, auth.Client{}); err != nil {
				t.Fatal(err)
			}
			u, err := b.auth.Authenticate(r.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := end(r, c); err != nil {
				t.Fatal(err)
			}
			if err := act(r, u); !errors.Is(err, auth.ErrNobody) {
				t.Errorf("ended %s, %s: %v", how, what, err)
			}
			if list, err := b.db.SessionsOf(t.Context(), id, ""); err != nil || len(list) != 0 {
				t.Errorf("ended %s, %s: %d sessions are open, %v", how, what, len(list), err)
			}
		}
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
