package views

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"portolan/views/ui"
)

func render(t *testing.T, c templ.Component) string {
	t.Helper()
	var b strings.Builder
	if err := c.Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func admin() Page {
	return Page{Title: "Title", Path: "/", Assets: siteFiles(), Person: Person{Email: "ada@example.org", Role: "admin", CanAdmin: true, CanOperate: true}}
}

func nobody() Page { return Page{Title: "Title", Assets: siteFiles()} }

// count is how many elements have an attribute of this name.
func count(html, attribute string) int {
	return len(regexp.MustCompile(`<[^>]*\s`+attribute+`="`).FindAllString(html, -1))
}

const hostile = `"><script>alert(1)</script><img src=x onerror=alert(1)>`

// filled is a page of each kind, with everything on it.
func filled(text string) map[string]templ.Component {
	form := ui.Form{
		Values: map[string][]string{"id": {text}, "label": {text}, "name": {text}, "env": {text}, "email": {text}, "target": {"k8s:one"}, "volumes": {text}},
		Errors: map[string]string{"id": text, "name": text, "email": text, "confirm": text, "volumes": text, "file_path_1": text},
		Error:  text,
	}
	for _, secret := range []string{"kubeconfig", "secret_env", "password", "token"} {
		form.Values[secret] = []string{"never-shown"}
	}
	now := time.Now()
	ops := []OperationRow{{ID: "o1", Title: text, State: "running", Note: text, Target: text, By: text, At: now}, {ID: "o2", Title: "Stop web", State: "failed"}}
	rows := []WorkloadRow{{ID: "w1", Name: text, Phase: "running", Reason: text, Observed: true, Ready: 1, Desired: 2}, {ID: "w2", Name: "web", Phase: "unknown"}}
	ask := Confirm{Title: text, Says: []string{text}, Action: "/x", Word: text, Submit: "Delete", Back: "/", Volumes: []string{text}, Form: form}
	fail := Failure{Status: 409, Title: text, Cause: text, Remedy: text, Links: []Option{{"/", text}}, Ref: text}
	test := Test{State: "failed", At: now, Took: time.Second, Deadline: 15 * time.Second, By: text, Checks: []Check{{Name: "permissions", State: "failed", Message: text, Remedy: text, RBAC: true}, {Name: "exposure", State: "skipped"}}}
	grid := Grid{Namespace: text, Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}, Rows: []GridRow{{Resource: text, Cells: []string{"no", "yes", "yes", "yes", "optional", ""}}}, Missing: 1, Optional: 1}
	preview := &Preview{DryRun: true, Objects: []PreviewObject{{Kind: "Service", Name: text, Summary: text, Action: "create", Problem: text, Diff: "+" + text, YAML: text}}, Problem: text, Fields: map[string]string{"name": text}}
	inspection := &Inspection{OK: true, Contexts: []InspectedContext{{Name: text, Cluster: text, Server: text, User: text, Auth: text, Current: true}}, Warnings: []string{text}}
	runtimes := []RuntimeChoice{{ID: "container", Label: text, Note: text, Image: text, Ports: []string{text}}}
	verbs := []Verb{{Name: "scale"}, {Name: "restart"}, {Name: "stop", Why: text}, {Name: "delete"}, {Name: "forget"}, {Name: "edit"}}
	logs := LogPane{WorkloadID: "w1", Name: text, Stream: "/workloads/w1/logs/stream", Pods: []string{text, "b"}, Containers: []string{text, "b"}}
	p := admin()
	p.Title, p.Query, p.Notice = text, text, text
	return map[string]templ.Component{
		"setup":           SetupPage(nobody(), Setup{Form: form}),
		"login":           LoginPage(nobody(), Login{Form: form, Next: text}),
		"failure":         FailurePage(p, fail),
		"invite":          InvitePage(nobody(), Invite{Form: form}),
		"audit":           AuditPage(p, Audit{Form: ui.Form{Values: map[string][]string{"actor": {text}, "from": {text}}, Errors: map[string]string{"from": text}}, Actions: []string{text}, Outcomes: []string{"ok"}, CSV: "/x", JSONL: "/y", Rows: []AuditRow{{At: now, Actor: text, Address: text, Action: text, Target: text, Href: "/x", Outcome: "refused", Reason: text, Times: 3, Changes: []AuditChange{{text, text, text}, {text, "", ""}, {text, text, text}}}, {Outcome: "ok", Changes: []AuditChange{{text, text, text}}}}}),
		"users":           UsersPage(p, Users{Query: text, Form: form, Rows: []UserRow{{ID: "u1", Email: text, Role: text, Version: text, Self: true, Sessions: 2, SeenAt: now, Since: now}, {ID: "u2", Disabled: true}}, Invites: []InviteRow{{ID: "i1", Email: text, Role: text, By: text, EndsAt: now}}}),
		"invited":         InvitedPage(p, Invited{Email: text, Role: text, Link: text, EndsAt: now}),
		"profile":         ProfilePage(p, Profile{Email: text, Role: text, Form: form, Sessions: []SessionRow{{ID: "s1", Browser: text, Address: text, SeenAt: now}, {Current: true}}}),
		"confirm":         ConfirmPage(p, ask),
		"overview":        OverviewPage(p, Overview{Registered: 1, Targets: 1, Attention: []Attention{{Status: ui.Phase("failed"), Title: text, Detail: text, Href: text, At: now}}, Workloads: []Count{{ui.Phase("running"), 1, "/"}}, Operations: ops}),
		"clusters":        ClustersPage(p, Clusters{All: 2, Query: text, Rows: []ClusterRow{{ID: "one", Label: text, ClusterName: text, TestState: "failed", TestStage: text, TestNote: text, TestAt: now}, {ID: "two", Label: "Two", TestState: "ok"}}, Found: []FoundConfig{{Path: text, Context: text, Server: text, Register: "/x", Contexts: []FoundContext{{text, "/x"}, {"b", "/x"}, {text + "c", "/x"}}, Used: 2}, {Path: "b", Problem: text}}, FoundError: text}),
		"found":           FoundPage(p, FoundForm{Form: form, Namespace: text, Rows: []FoundRow{{Path: text, Context: text, Server: text, ID: text, Picked: true, Error: text}, {Path: "b", Refusal: text}}}),
		"cluster":         ClusterPage(p, Cluster{ID: "one", Label: text, ClusterName: text, Region: text, TestState: "failed", NotTarget: text, Test: &test, Permissions: []Grid{grid}, Credential: []Fact{{Name: text, Value: text}}, History: []TestRow{{State: "failed", Stage: text, Note: text, By: text}}, Workloads: rows, WorkloadCount: 2, CanAdmin: true}),
		"new cluster":     ClusterFormPage(p, ClusterForm{Form: form, Paths: []string{text}, Contexts: []string{text}, Inspection: inspection, EncryptedOff: text}),
		"edit cluster":    ClusterFormPage(p, ClusterForm{ID: "one", Label: text, Form: form, Changes: []Change{{text, text, text, true}}}),
		"deploy":          DeployPage(p, Deploy{Form: form, Targets: []TargetCard{{Value: "k8s:one", Label: text, ClusterName: text}, {Value: "k8s:two"}}, NotOffered: []NotOffered{{"x", text, text}}, Runtimes: runtimes, Preview: preview, Registered: 2}),
		"no target":       DeployPage(p, Deploy{NotOffered: []NotOffered{{"x", text, text}}, Registered: 1}),
		"target gone":     DeployPage(p, Deploy{Form: form, NotOffered: []NotOffered{{"x", text, text}}, Runtimes: runtimes, Registered: 1, Typed: true}),
		"workloads":       WorkloadsPage(p, Workloads{Query: text, Targets: []Option{{text, text}}, Phases: []Count{{ui.Phase("running"), 1, "/"}}, Rows: rows}),
		"workload":        WorkloadPage(p, Workload{ID: "w1", Name: text, RuntimeLabel: text, Target: text, Namespace: text, Phase: "degraded", Reason: text, Replicas: Replicas{3, 2, 1, 1, 2, true}, Endpoints: []Endpoint{{text, text, "javascript:alert(1)", text}}, Notes: []string{text}, Conditions: []Condition{{text, text, text, text, now}}, Events: []Event{{now, "Warning", text, text, text, 3}}, Pods: []Pod{{Name: text, Phase: text, Reason: text, Node: text}, {Name: text, Phase: "Failed"}}, PodsOmitted: 1234, Verbs: verbs, Active: &ops[0], Releases: []Release{{Number: 3, State: "failed", Current: true}, {Number: 2, State: "succeeded", Runs: true}, {Number: 1, Image: text, Says: text, By: text, Rollback: true}}, Operations: ops, Spec: []Fact{{Name: text, Value: text}}, Logs: logs, Delete: ask}),
		"edit workload":   WorkloadEditPage(p, WorkloadEdit{ID: "w1", Name: text, Runtime: "container", Form: form, Runtimes: runtimes, SecretKeys: []string{text}, Notes: []string{text}, Changes: []Change{{text, text, text, true}}}),
		"delete workload": WorkloadDeletePage(p, WorkloadDelete{Delete: ask, Forget: &ask}),
		"logs":            LogsPage(p, logs),
		"operations":      OperationsPage(p, Operations{Rows: ops, Next: "/x"}),
		"operation":       OperationPage(p, Operation{ID: "o1", Title: text, State: "failed", By: text, Target: text, At: now, EndedAt: now, WorkloadID: "w1", WorkloadName: text, Cause: &Cause{text, text, text, text, []string{text}, []string{text}}, Outcome: text, Steps: []Step{{Name: "rollout", State: "failed", Message: text, At: now}, {Name: "address", State: "pending"}}, Events: []OperationEvent{{1, now, "Warning", text}}, Facts: []Fact{{Name: text, Value: text, Href: text}}}),
	}
}

// Whatever a cluster or a person is called, the page holds it as text; nothing
// needs a policy laxer than ours; secrets never come back.
func TestPagesAreInert(t *testing.T) {
	value := regexp.MustCompile(`="[^"]*"`)
	inline := regexp.MustCompile(`(?i)<[a-z][^>]*\s(style|on[a-z]+|hx-on[^=]*)=|<style`)
	address := regexp.MustCompile(`(?i)(href|src|action|formaction|hx-[a-z]+)="\s*(javascript|js|data):`)
	script := regexp.MustCompile(`<script[^>]*>`)
	for name, page := range filled(hostile) {
		t.Run(name, func(t *testing.T) {
			html := render(t, page)
			if strings.Contains(html, "<script>alert") || strings.Contains(html, "<img") {
				t.Error("text became markup")
			}
			if m := inline.FindString(value.ReplaceAllString(html, `=""`)) + address.FindString(html); m != "" {
				t.Errorf("inline style, script or handler: %s", m)
			}
			if n := len(script.FindAllString(html, -1)); n != 1 {
				t.Errorf("%d scripts, want 1", n)
			}
			if strings.Contains(html, "never-shown") {
				t.Error("a secret came back")
			}
		})
	}
}

func TestIDsAreUnique(t *testing.T) {
	id := regexp.MustCompile(`\sid="([^"]*)"`)
	for name, page := range filled("plain") {
		seen := map[string]bool{}
		for _, m := range id.FindAllStringSubmatch(render(t, page), -1) {
			if seen[m[1]] {
				t.Errorf("%s: two elements have the id %q", name, m[1])
			}
			seen[m[1]] = true
		}
	}
}

func TestMarkers(t *testing.T) {
	pages := filled("plain")
	for _, test := range []struct {
		page, attribute string
		want            int
	}{
		{"clusters", "data-cluster", 2},
		{"clusters", "data-test-state", 2},
		{"cluster", "data-cluster", 1},
		{"cluster", "data-test-state", 1},
		{"cluster", "data-workload", 0},
		{"deploy", "data-target", 2},
		{"no target", "data-target", 0},
		{"target gone", "data-target", 0},
		{"workloads", "data-workload", 2},
		{"workloads", "data-phase", 2},
		{"workload", "data-workload", 1},
		{"workload", "data-phase", 1},
		{"workload", "data-operation", 0},
		{"operations", "data-operation", 2},
		{"operation", "data-operation", 1},
		{"operation", "data-step", 2},
		{"operation", "data-state", 3},
	} {
		if got := count(render(t, pages[test.page]), test.attribute); got != test.want {
			t.Errorf("%s: %d elements with %s, want %d", test.page, got, test.attribute, test.want)
		}
	}
	for _, want := range []string{"1234 more have ended", `data-desired="3"`, `data-current="2"`, `data-ready="1"`, `data-available="1"`, `data-updated="2"`} {
		if !strings.Contains(render(t, pages["workload"]), want) {
			t.Errorf("workload: no %s", want)
		}
	}
}

func TestPodsThatAreTooManyAreNotTakenForEndedOnes(t *testing.T) {
	page := render(t, WorkloadPage(admin(), Workload{ID: "w1", Phase: "running", Pods: []Pod{{Name: "web-1", Phase: "Running"}}, PodsOmitted: 7}))
	if !strings.Contains(page, "7 more are not shown") || strings.Contains(page, "have ended") {
		t.Error("the page does not say that there are more pods than it shows")
	}
}

// Every part of a live message has the element of the page that it goes into.
func TestLiveTargets(t *testing.T) {
	target := regexp.MustCompile(`<hx-partial hx-target="#([^"]+)" hx-swap="outerMorph">\s*<[a-z]+[^>]*\sid="([^"]+)"`)
	o := Operation{ID: "o1", State: "running"}
	c := Cluster{ID: "one", TestState: "running", Test: &Test{State: "running"}}
	w := Workload{ID: "w1", Phase: "running", Releases: []Release{{Number: 1}}, Operations: []OperationRow{{ID: "o1"}}}
	for name, test := range map[string]struct{ page, live templ.Component }{
		"operation": {OperationPage(admin(), o), OperationLive(o)},
		"cluster":   {ClusterPage(admin(), c), ClusterLive(c)},
		"workload":  {WorkloadPage(admin(), w), WorkloadLive(w)},
	} {
		page, live := render(t, test.page), render(t, test.live)
		parts := target.FindAllStringSubmatch(live, -1)
		if len(parts) == 0 || len(parts) != strings.Count(live, "<hx-partial") {
			t.Fatalf("%s: %d of %d parts understood", name, len(parts), strings.Count(live, "<hx-partial"))
		}
		for _, p := range parts {
			if p[1] != p[2] || strings.Count(page, ` id="`+p[1]+`"`) != 1 {
				t.Errorf("%s: the part for #%s does not fit the page", name, p[1])
			}
		}
		if strings.Contains(live, "<input") && strings.Contains(live, `type="text"`) {
			t.Errorf("%s: a live part holds a field", name)
		}
	}
}

// Where every kubeconfig that was found is broken, nothing is offered to be
// registered, and nothing is said to be registered.
func TestBrokenKubeconfigsAreNotOffered(t *testing.T) {
	t.Parallel()
	list := func(found ...FoundConfig) string { return render(t, ClustersPage(admin(), Clusters{Found: found})) }
	broken, good := FoundConfig{Path: "a", Problem: "is not YAML"}, FoundConfig{Path: "b", Context: "c", Register: "/x"}
	const several = `href="/admin/clusters/new/found"`
	if strings.Contains(list(broken), several) || !strings.Contains(list(broken, good), several) {
		t.Error("registering several is offered with broken ones alone, or not with others")
	}
	if page := render(t, FoundPage(admin(), FoundForm{})); strings.Contains(page, "is used by a cluster") {
		t.Error("contexts that cannot be read are said to be used")
	}
}

func TestNavigationByRole(t *testing.T) {
	viewer := Page{Path: "/workloads/w1", Person: Person{Email: "v@example.org", Role: "viewer"}}
	html := render(t, Layout(viewer))
	if strings.Contains(html, `href="/deploy"`) || strings.Contains(html, `href="/admin/clusters"`) {
		t.Error("a viewer is offered what only others may do")
	}
	if !regexp.MustCompile(`href="/workloads"\s+aria-current="page"`).MatchString(html) {
		t.Error("the page of a workload does not mark Workloads as current")
	}
	if html := render(t, Layout(Page{})); strings.Contains(html, "<nav") || strings.Contains(html, "/logout") {
		t.Error("nobody is shown the navigation")
	}
}
