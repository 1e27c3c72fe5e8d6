package web

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// TestTheClustersTilesCountWhatTheyLeadTo: credentials that end soon take no
// figure's place, and lead to the list of their clusters.
func TestTheClustersTilesCountWhatTheyLeadTo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	if _, err := b.db.Pool().Exec(t.Context(), `UPDATE clusters SET credential_ends_at = $1`, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	body := admin.get("/admin/clusters").body
	for what, tile := range map[string]string{
		"untested":    `<a class="tile zero" href="/admin/clusters?status=untested"><strong>0</strong>`,
		"ending soon": `<a class="tile" href="/admin/clusters?status=expiring"><strong>1</strong>`,
	} {
		if !strings.Contains(body, tile) {
			t.Errorf("%s: no such tile", what)
		}
	}
}

// A list that does not follow the tests it has begun says so.
func TestTestingAllSaysHowToSeeTheResults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	if a := admin.post("/admin/clusters/test", nil); a.status != http.StatusSeeOther || a.location() != "/admin/clusters" {
		t.Fatalf("%d %s", a.status, a.location())
	}
	if a := admin.get("/admin/clusters"); !strings.Contains(a.body, "1 cluster is being tested. Reload this list to see the results.") {
		t.Errorf("it does not say how the results are seen:\n%s", a.body)
	}
}

// What a failed test has not come to is not said to be missing.
func TestWhatATestHasNotTriedIsNotSaidToBeMissing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.tester.state = fleet.TestFailed
	b.target(admin, "one")
	body := admin.get("/admin/clusters/one").body
	if strings.Count(body, "<span>not known</span>") != len(fleet.Features) || strings.Contains(body, "not available") {
		t.Errorf("the optional parts are not said to be unknown:\n%s", body)
	}
}

// TestEveryCredentialThatEndsSoonIsFound: however many there are, page by page,
// and none of a cluster that is disabled or has time.
func TestEveryCredentialThatEndsSoonIsFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	const list = "/admin/clusters?status=expiring"
	body := admin.get("/admin/clusters").body
	if strings.Count(body, list) != 2 { // the fake's tokens end soon
		t.Error("no tile and no pill lead to it")
	}
	b.exec(`UPDATE clusters SET credential_ends_at = NULL`)
	b.changed()
	if body = admin.get("/admin/clusters").body; strings.Contains(body, list) {
		t.Error("it is offered while it would be empty")
	}
	if a := admin.get(list); a.status != http.StatusOK || !strings.Contains(a.body, "Nothing matches") || !strings.Contains(a.body, `aria-current="true">Credential ends soon 0`) {
		t.Errorf("chosen while it is empty: %d\n%s", a.status, a.body)
	}

	b.exec(`INSERT INTO clusters (id, label, provider, cluster_name, credential_mode, kubeconfig_path, context, credential_hash, namespace,
			runtime_namespaces, exposure, image_pull_secrets, labels, region, enabled, fingerprint, credential_ends_at)
		SELECT 'c-' || i, 'Cluster ' || i, 'k3s', '', 'mounted', 'c-' || i, '', 'h', 'apps', '{}', '{"mode":"cluster-ip"}', '{}', '{}', '', i % 10 <> 0, 'f',
			CASE WHEN i % 10 < 5 THEN now() + (i - 20) * interval '1 hour' WHEN i % 10 < 8 THEN now() + interval '15 days' END
		FROM generate_series(1, 140) i`)
	b.changed()
	seen := map[string]bool{}
	pages := 0
	for next := list; next != ""; pages++ {
		a := admin.get(next)
		if a.status != http.StatusOK || pages > 3 {
			t.Fatalf("%s: %d", next, a.status)
		}
		for _, m := range regexp.MustCompile(`data-cluster="([^"]+)"`).FindAllStringSubmatch(a.body, -1) {
			if n := m[1][len(m[1])-1]; n < '1' || n > '4' || seen[m[1]] {
				t.Errorf("%s is among them, or twice", m[1])
			}
			seen[m[1]] = true
		}
		if !strings.Contains(a.body, `aria-current="true">Credential ends soon 56`) {
			t.Errorf("%s: the pill does not count them", next)
		}
		next = ""
		if m := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(a.body); m != nil {
			next = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != 56 || pages != 2 {
		t.Errorf("%d of 56 on %d pages", len(seen), pages)
	}
	a := admin.get(list + "&q=cluster+13")
	if n := strings.Count(a.body, "data-cluster="); n != 5 { // 13 and 131 to 134
		t.Errorf("%d that match a search, want 5", n)
	}

	operator := b.user(fleet.RoleOperator)
	if body := admin.get("/").body; !strings.Contains(body, `<a href="`+list+`">`) {
		t.Error("the overview does not lead to it")
	}
	if body := operator.get("/").body; strings.Contains(body, list) || !strings.Contains(body, "credential ends soon") {
		t.Error("the overview leads an operator to where they may not go, or says nothing")
	}
}

// changed has the counts that pages keep for a moment counted anew, as after a
// change that a person has made.
func (b *bundle) changed() {
	b.t.Helper()
	admin := fleet.AuditEntry{Action: "cluster.enable", Target: "cluster/one", Outcome: "ok"}
	if err := b.db.SetEnabled(b.t.Context(), "one", true, admin); err != nil {
		b.t.Fatal(err)
	}
}

// A cluster that was made anew is registered beside the one that it was, and told
// from it.
func TestTwoClustersOfOneNameAreToldApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "k3s-local")
	for _, id := range []string{"k3s-local-2", "k3s-local-3"} {
		page := admin.get("/admin/clusters/new?path=k3s-local&context=main").body
		if !strings.Contains(page, `value="`+id+`"`) || !strings.Contains(page, `value="k3s-local `+id[len(id)-1:]+`"`) {
			t.Fatalf("%s is not suggested:\n%s", id, page)
		}
		b.target(admin, id)
	}
	b.exec(`UPDATE clusters SET label = 'Cluster k3s-local'`)
	operator := b.user(fleet.RoleOperator)
	b.deployed(operator, "k3s-local", "web")
	b.deployed(operator, "k3s-local-2", "web")
	filter := admin.get("/workloads").body
	for _, id := range []string{"k3s-local", "k3s-local-2"} {
		if !strings.Contains(filter, "Cluster k3s-local ("+id+")") {
			t.Errorf("the filter does not tell %s from the others", id)
		}
	}
	if page := admin.get("/deploy").body; !strings.Contains(page, `<span class="mono">k8s:k3s-local</span>`) {
		t.Error("the target's card does not show its id")
	}
}
