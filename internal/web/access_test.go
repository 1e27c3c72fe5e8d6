package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
)

// TestEveryRouteHasAnEntry compares the live router with the table of who may
// do what, both ways.
func TestEveryRouteHasAnEntry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	served := map[string]bool{}
	err := chi.Walk(b.server.router.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served[method+" "+route] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for route := range served {
		if _, ok := access[route]; !ok {
			t.Errorf("%s has no entry in the access table", route)
		}
	}
	for route := range access {
		if !served[route] {
			t.Errorf("%s is in the access table and nobody serves it", route)
		}
	}
}

// TestAttack05EveryRouteForEveryRole asks every route with every role and with none:
// who is below the least role gets 403, and 401 or the login page who is nobody.
func TestAttack05EveryRouteForEveryRole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	people := map[fleet.Role]*client{}
	for _, role := range fleet.Roles {
		people[role] = b.user(role)
	}
	nobody := b.client()
	for route, least := range access {
		method, pattern, _ := strings.Cut(route, " ")
		path := strings.NewReplacer("{id}", "018f0000-0000-7000-8000-000000000000", "*", "none").Replace(pattern)
		if least == open || path == "/logout" {
			continue
		}
		if a := nobody.do(method, path, nil); a.status != http.StatusUnauthorized && !(a.status == http.StatusSeeOther && strings.HasPrefix(a.location(), "/login")) {
			t.Errorf("%s by nobody: %d %s", route, a.status, a.location())
		}
		if a := nobody.do(method, path, nil, "HX-Request", "true"); a.status != http.StatusUnauthorized {
			t.Errorf("%s by nobody with htmx: %d", route, a.status)
		}
		for _, role := range fleet.Roles {
			a := people[role].do(method, path, nil)
			switch forbidden := a.status == http.StatusForbidden; {
			case forbidden == role.Includes(least):
				t.Errorf("%s by %s: %d", route, role, a.status)
			case a.status == http.StatusInternalServerError || strings.HasPrefix(a.location(), "/login"):
				t.Errorf("%s by %s: %d %s", route, role, a.status, a.location())
			}
		}
	}
}

// TestAttack05DefaultIsNo: a route that is missing from the table is refused, even to
// an admin, and an address that nobody serves tells nobody anything.
func TestAttack05DefaultIsNo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.server.router.(chi.Router).Get("/forgotten", b.server.guard("GET /forgotten", smallBody, pageTimeout,
		func(w http.ResponseWriter, _ *http.Request) error { writeText(w, http.StatusOK, "here"); return nil }))
	admin := b.user(fleet.RoleAdmin)
	if a := admin.get("/forgotten"); a.status != http.StatusForbidden {
		t.Errorf("forgotten route: %d", a.status)
	}
	if a := admin.get("/no/such/page"); a.status != http.StatusNotFound {
		t.Errorf("absent page: %d", a.status)
	}
	if a := b.client().get("/no/such/page"); a.status != http.StatusSeeOther {
		t.Errorf("absent page by nobody: %d", a.status)
	}
	for path, takes := range map[string][]string{"/workloads": {"GET, HEAD"}, "/deploy": {"GET, HEAD", "POST"}, "/deploy/preview": {"POST"}} {
		if a := admin.do(http.MethodDelete, path, nil); a.status != http.StatusMethodNotAllowed || !slices.Equal(a.header.Values("Allow"), takes) {
			t.Errorf("DELETE %s: %d, %q", path, a.status, a.header.Values("Allow"))
		}
	}
}

func TestRefusedWritesAreRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	viewer := b.user(fleet.RoleViewer)
	if a := viewer.post("/deploy", nil); a.status != http.StatusForbidden {
		t.Fatalf("%d", a.status)
	}
	page, err := b.db.AuditEntries(t.Context(), fleet.AuditFilter{Target: "POST /deploy"})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Rows) != 1 || page.Rows[0].Outcome != "refused" || page.Rows[0].Actor != "viewer@example.com" {
		t.Errorf("%+v", page.Rows)
	}
}
