package web

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

var inspectButton = regexp.MustCompile(`<button formaction="(/admin/clusters/inspect[^"]*)"`)

// TestInspectingWithoutScriptsKeepsTheForm: what comes back is the form that it was
// asked from, however often, also where that is an answer to a mistake.
func TestInspectingWithoutScriptsKeepsTheForm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	typed := clusterFields("one").but("id", "").but("label", "Typed").but("version", "1")
	for name, c := range map[string]struct {
		from   answer
		action string
	}{
		"adding":                  {admin.get("/admin/clusters/new"), "/admin/clusters"},
		"editing":                 {admin.get("/admin/clusters/one/edit"), "/admin/clusters/one"},
		"editing after a mistake": {admin.post("/admin/clusters/one", typed.but("label", "")), "/admin/clusters/one"},
		"rotating":                {admin.get("/admin/clusters/one/credential"), "/admin/clusters/one/credential"},
	} {
		page := c.from
		for range 3 {
			button := inspectButton.FindStringSubmatch(page.body)
			if button == nil || !strings.Contains(page.body, `<form method="post" action="`+c.action+`" class="form" id="cluster-form"`) {
				t.Fatalf("%s: %d, not the form of %s\n%s", name, page.status, c.action, page.body)
			}
			page = admin.post(html.UnescapeString(button[1]), typed)
			if page.status != http.StatusOK {
				t.Fatalf("%s: %d\n%s", name, page.status, page.body)
			}
		}
		if name != "rotating" && !strings.Contains(page.body, `value="Typed"`) {
			t.Errorf("%s: what was typed is lost", name)
		}
	}
}
