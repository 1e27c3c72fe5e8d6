package web

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"portolan/internal/fleet"
	"portolan/internal/registry"
	"portolan/views"
)

func TestFoundContextsAreRegisteredTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	a := admin.get("/admin/clusters/new/found")
	if a.status != http.StatusOK || strings.Count(a.body, "data-found-context=") != 2 {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	form := fields{}
	for _, m := range regexp.MustCompile(`name="((?:path|context|id)_\d)" value="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
		form[m[1]] = m[2]
	}
	if form["id_0"] == form["id_1"] || len(form) != 6 {
		t.Fatalf("the form offers %v", form)
	}
	form["namespace"] = "apps"
	if a := admin.post("/admin/clusters/new/found", form); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "Pick at least one") {
		t.Errorf("none picked: %d", a.status)
	}
	form["pick_0"], form["pick_1"], form["provider_0"], form["provider_1"] = "true", "true", "k3s", "gke"
	a = admin.post("/admin/clusters/new/found", form.but("id_1", "Not An Id"))
	if a.status != http.StatusUnprocessableEntity || strings.Count(a.body, "data-found-context=") != 1 || !strings.Contains(a.body, "1 registered, 1 not") || !strings.Contains(a.body, `value="Not An Id"`) {
		t.Fatalf("one that cannot be: %d\n%s", a.status, a.body)
	}
	delete(form, "pick_0")
	if a = admin.post("/admin/clusters/new/found", form); a.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	for i, mode := range map[string]fleet.ExposureMode{"0": fleet.ExposureNodePort, "1": fleet.ExposureLoadBalancer} {
		s, err := b.db.ClusterStatus(t.Context(), form["id_"+i])
		if err != nil || s.Cluster.Exposure.Mode != mode || s.Cluster.Namespace != "apps" || s.Cluster.KubeconfigPath != form["path_"+i] || s.TestState() != fleet.TestUntested {
			t.Errorf("%+v %v", s.Cluster, err)
		}
	}
	if a := admin.get("/admin/clusters/new/found"); !strings.Contains(a.body, "Nothing to register") {
		t.Error("they are still offered")
	}
	if rows := b.audited(fleet.AuditFilter{Action: "cluster.create"}); len(rows) != 3 {
		t.Errorf("%d rows in the record", len(rows))
	}
	// A path that was made up is none.
	if a := admin.post("/admin/clusters/new/found", fields{"path_0": "../../etc/passwd", "context_0": "x", "id_0": "evil", "pick_0": "true", "namespace": "a"}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a path outside: %d", a.status)
	}
}

func TestIdsOfFoundContexts(t *testing.T) {
	t.Parallel()
	file := registry.Found{Path: "all.yaml"}
	for _, name := range []string{"arn:aws:eks:eu-west-1:1234:cluster/Prod", "gke_project_europe-west1-b_prod", "prod", "kind-dev", strings.Repeat("x", 80), strings.Repeat("x", 80)} {
		file.Contexts = append(file.Contexts, registry.Context{Name: name})
	}
	var rows []views.FoundRow
	for _, c := range file.Contexts {
		rows = append(rows, foundRow(file, c))
	}
	unique(rows)
	want := []string{"prod", "prod-2", "prod-3", "kind-dev", strings.Repeat("x", 63), strings.Repeat("x", 58) + "-2"}
	for i, r := range rows {
		if r.ID != want[i] {
			t.Errorf("%s is offered as %q, not %q", r.Context, r.ID, want[i])
		}
		if provider := []string{"eks", "gke", "kubernetes", "kind", "kubernetes", "kubernetes"}[i]; r.Provider != provider {
			t.Errorf("%s is taken for %s", r.Context, r.Provider)
		}
	}
}
