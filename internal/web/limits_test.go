package web

import (
	"net/http"
	"regexp"
	"slices"
	"testing"

	"portolan/internal/fleet"
)

var limitMarks = regexp.MustCompile(`class="field-note( on)?" data-limit="([a-z_]+)"(?: data-limit-for="([^"]+)")?`)

// shownLimits are the marks of a page's limits: the field, of which targets, and
// + where one of these is chosen.
func shownLimits(body string) []string {
	var out []string
	for _, m := range limitMarks.FindAllStringSubmatch(body, -1) {
		mark := m[2]
		if m[3] != "" {
			mark += " " + m[3]
		}
		if m[1] != "" {
			mark += " +"
		}
		out = append(out, mark)
	}
	slices.Sort(out)
	return out
}

// TestWhatATargetHasNotIsSaidBesideTheField: without script for every target by
// name, with the chosen one marked; on the edit form for the one there is.
func TestWhatATargetHasNotIsSaidBesideTheField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	for id, checks := range map[string]string{
		"one":   `[{"stage":"storage","state":"warning","message":"No class <is> the default.","remedy":"Name one."}]`,
		"two":   `[{"stage":"storage","state":"warning","message":"No class <is> the default.","remedy":"Name one."}, {"stage":"exposure","state":"warning","message":"No links."}]`,
		"three": `[{"stage":"storage","state":"ok","message":"All is well."}, {"stage":"pull-secrets","state":"warning","message":"There is no pull secret."}]`,
	} {
		b.target(admin, id)
		if _, err := b.db.Pool().Exec(t.Context(), `UPDATE connection_tests SET checks = $2 WHERE cluster_id = $1`, id, checks); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, a answer, status int, want ...string) {
		t.Helper()
		if got := shownLimits(a.body); a.status != status || !slices.Equal(got, want) {
			t.Errorf("%s: %d %v, want %v", what, a.status, got, want)
		}
	}
	expect("none chosen", admin.get("/deploy"), http.StatusOK,
		"ports k8s:two", "pull_secrets k8s:three", "volumes k8s:one k8s:two")
	expect("one chosen", admin.get("/deploy?target=k8s:one"), http.StatusOK,
		"ports k8s:two", "pull_secrets k8s:three", "volumes k8s:one k8s:two +")
	expect("refused", admin.post("/deploy", fields{"target": "k8s:two", "runtime": "container", "volumes": "nonsense"}), http.StatusUnprocessableEntity,
		"ports k8s:two +", "pull_secrets k8s:three", "volumes k8s:one k8s:two +")
	workload, _ := b.deployed(admin, "one", "web")
	expect("edit", admin.get("/workloads/"+workload+"/edit"), http.StatusOK, "volumes")
	expect("an edit while it is deployed", admin.post("/workloads/"+workload+"/update", fields{"image": "app:1", "volumes": "nonsense"}), http.StatusConflict, "volumes")
}
