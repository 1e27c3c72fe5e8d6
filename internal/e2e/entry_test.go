package e2e

import (
	"net/http"
	"strings"
	"testing"
)

func TestEntryFormsRefuseBadFields(t *testing.T) {
	t.Parallel()
	p, token := fresh(t)
	long := strings.Repeat("x", 5000)
	good := fields{"token": token, "email": adminEmail, "password": adminPassword}
	for field, values := range map[string][]string{
		"token":    {"", "wrong", long, markup, "a\x00b"},
		"email":    {"", "nobody", "a b@example.com", "a\x00@example.com", long + "@example.com", markup},
		"password": {"", "short", long, strings.Repeat("a", 8)},
	} {
		for _, value := range values {
			answer := p.post(t, "/setup", good.but(fields{field: value}))
			if answer.status != http.StatusUnprocessableEntity {
				t.Errorf("/setup %s=%q: %d, want 422", field, short(value), answer.status)
				continue
			}
			if answer.problem(field) == "" {
				t.Errorf("/setup %s=%q: no error beside the field: %s", field, short(value), clipped(answer.text()))
			}
			assertInert(t, answer)
			kept, _ := answer.form("/setup")
			if field != "email" && kept["email"] != adminEmail {
				t.Errorf("/setup %s=%q: the e-mail address was not kept", field, short(value))
			}
			if kept["password"] != "" || kept["token"] != "" {
				t.Errorf("/setup %s=%q: a secret came back", field, short(value))
			}
		}
	}
	expect(t, p.post(t, "/setup", good), http.StatusSeeOther)

	stranger := newClient(p.base)
	for field, values := range map[string][]string{
		"email":    {"", "nobody", "a\x00@example.com", long},
		"password": {""},
	} {
		for _, value := range values {
			answer := stranger.post(t, "/login", good.but(fields{field: value}))
			if answer.status != http.StatusUnprocessableEntity || answer.problem(field) == "" {
				t.Errorf("/login %s=%q: %d %q", field, short(value), answer.status, answer.problem(field))
			}
		}
	}
	// Wrong ones say the same, whether the account exists or not, and then wait.
	absent := expect(t, stranger.post(t, "/login", fields{"email": "nobody@example.com", "password": "wrong wrong wrong"}), http.StatusUnauthorized)
	known := expect(t, stranger.post(t, "/login", fields{"email": adminEmail, "password": "wrong wrong wrong"}), http.StatusUnauthorized)
	if a, b := absent.with("data-error"), known.with("data-error"); len(a) != 1 || len(b) != 1 || textOf(a[0]) != textOf(b[0]) {
		t.Error("the answers tell which accounts exist")
	}
	throttled := false
	for range 6 {
		throttled = stranger.post(t, "/login", fields{"email": adminEmail, "password": "wrong wrong wrong"}).status == http.StatusTooManyRequests
	}
	if !throttled {
		t.Error("guessing is not slowed down")
	}
}
