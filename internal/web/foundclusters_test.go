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

// Where a refusal speaks of the manifest that makes a service account, its
// reader finds one: on the form, or by way of it.
func TestTheManifestIsWhereARefusalSendsPeople(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.Registry.Kubeconfigs = kubeconfigs{"person.yaml": "wants a person", "http.yaml": "plain http", "good.yaml": "good"}
	})
	admin := b.user(fleet.RoleAdmin)
	shows := func(what string, a answer, status, manifests int, id string) {
		t.Helper()
		if n := strings.Count(a.body, "data-manifest"); a.status != status || n != manifests || manifests > 0 && !strings.Contains(a.body, "kind: Role # "+id+"\n") {
			t.Errorf("%s: %d with %d manifests\n%s", what, a.status, n, a.body)
		}
	}
	inspected := clusterFields("one").but("kubeconfig", "wants a person")
	shows("inspecting", admin.post("/admin/clusters/inspect", inspected, "HX-Request", "true"), http.StatusOK, 1, "one")
	shows("inspecting without scripts", admin.post("/admin/clusters/inspect", inspected), http.StatusOK, 1, "one")
	shows("refused otherwise", admin.post("/admin/clusters/inspect", inspected.but("kubeconfig", "plain http"), "HX-Request", "true"), http.StatusOK, 0, "")
	shows("registering", admin.post("/admin/clusters", inspected), http.StatusUnprocessableEntity, 1, "one")

	b.target(admin, "two")
	const rotate = "/admin/clusters/two/credential"
	shows("rotating", admin.get(rotate), http.StatusOK, 1, "two")
	shows("rotating to it", admin.post(rotate, fields{"credential_mode": "encrypted", "kubeconfig": "wants a person"}), http.StatusUnprocessableEntity, 1, "two")
	shows("inspecting it for that", admin.post("/admin/clusters/inspect?page="+rotate, fields{"credential_mode": "encrypted", "kubeconfig": "wants a person"}), http.StatusOK, 1, "two")

	a := admin.get("/admin/clusters/new/found")
	links := regexp.MustCompile(`href="(/admin/clusters/new\?[^"]*)"`).FindAllStringSubmatch(a.body, -1)
	if len(links) != 2 {
		t.Fatalf("%d links to forms\n%s", len(links), a.body)
	}
	for _, link := range links {
		manifests := 0
		if strings.Contains(link[1], "person.yaml") {
			manifests = 1
		}
		form := admin.get(strings.ReplaceAll(link[1], "&amp;", "&"))
		shows(link[1], form, http.StatusOK, manifests, "person")
		if !strings.Contains(form.body, `data-context="main"`) {
			t.Errorf("%s: the form does not say what is wrong", link[1])
		}
	}
	a = admin.post("/admin/clusters/new/found", fields{"path_0": "person.yaml", "context_0": "main", "id_0": "person", "pick_0": "true", "namespace": "apps"})
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `href="/admin/clusters/new?context=main&amp;path=person.yaml"`) {
		t.Errorf("picked all the same: %d\n%s", a.status, a.body)
	}
}

func TestIdsOfFoundContexts(t *testing.T) {
	t.Parallel()
	file := registry.Found{Path: "all.yaml"}
	for _, name := range []string{"arn:aws:eks:eu-west-1:1234:cluster/Prod", "gke_project_europe-west1-b_prod", "prod", "kind-dev", strings.Repeat("x", 80), strings.Repeat("x", 80), "arn:aws-cn:eks:cn-north-1:1234:cluster/cn"} {
		file.Contexts = append(file.Contexts, registry.Context{Name: name})
	}
	var rows []views.FoundRow
	for _, c := range file.Contexts {
		rows = append(rows, foundRow(file, c))
	}
	unique(rows)
	want := []string{"prod", "prod-2", "prod-3", "kind-dev", strings.Repeat("x", 63), strings.Repeat("x", 58) + "-2", "cn"}
	for i, r := range rows {
		if r.ID != want[i] {
			t.Errorf("%s is offered as %q, not %q", r.Context, r.ID, want[i])
		}
		if provider := []string{"eks", "gke", "kubernetes", "kind", "kubernetes", "kubernetes", "eks"}[i]; r.Provider != provider {
			t.Errorf("%s is taken for %s", r.Context, r.Provider)
		}
	}
}
