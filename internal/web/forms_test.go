package web

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

const markup = `"><script>alert(1)</script>`

// refused checks that a form came back: 422, the error beside the field, the
// rest kept, nothing of what was typed become part of the page.
func refused(t *testing.T, a answer, field, value string, kept ...string) {
	t.Helper()
	if a.status != http.StatusUnprocessableEntity {
		t.Errorf("%s=%q: %d, want 422", field, clip(value, 40), a.status)
		return
	}
	if !strings.Contains(a.body, `id="e-`+field+`"`) {
		t.Errorf("%s=%q: no error beside the field", field, clip(value, 40))
	}
	if strings.Contains(a.body, "<script>alert") {
		t.Errorf("%s=%q: typed markup became part of the page", field, clip(value, 40))
	}
	for _, text := range kept {
		if !strings.Contains(a.body, text) {
			t.Errorf("%s=%q: the page lost %q", field, clip(value, 40), text)
		}
	}
}

func TestClusterFormComesBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	long := strings.Repeat("x", 3000)
	bad := map[string][]string{
		"id":                    {"", "A", "-x", "new", "test", "inspect", long, markup, "a\x00b"},
		"label":                 {"", long, "a\x1bb"},
		"provider":              {"", "openstack", markup},
		"cluster_name":          {long, "a\x00b"},
		"credential_mode":       {"", "none", markup},
		"kubeconfig":            {"broken"},
		"context":               {"absent", long, "a\x00b"},
		"namespace":             {"", "Upper", long, markup},
		"openclaw_namespace":    {"Upper", long, markup},
		"hermes_namespace":      {"Upper", long, markup},
		"exposure_mode":         {"", "ingress", markup},
		"service_annotations":   {"{", "[]", `{"a": 1}`, markup},
		"source_ranges":         {"10.0.0.1", "everyone", markup},
		"load_balancer_class":   {long, "a b", markup},
		"load_balancer_timeout": {"soon", "-1s", "1000h", markup},
		"image_pull_secrets":    {"Upper", long, markup},
		"labels":                {"no equals", markup},
		"region":                {long, "a\x00b"},
	}
	for field, values := range bad {
		for _, value := range values {
			form := clusterFields("one").but("cluster_name", "kept-name").but("kubeconfig", "sEcReT").but(field, value)
			a := admin.post("/admin/clusters", form)
			refused(t, a, field, value)
			if field != "cluster_name" && !strings.Contains(a.body, "kept-name") {
				t.Errorf("%s=%q: the rest was not kept", field, clip(value, 40))
			}
			if strings.Contains(a.body, "sEcReT") {
				t.Errorf("%s=%q: the kubeconfig came back", field, clip(value, 40))
			}
		}
	}
	for field, values := range map[string][]string{
		"runtime_host": {"http://host", "host:80", markup}, "runtime_node_port": {"x", "0", "70000"}, "gateway_node_port": {"x", "-1", "1.5"},
	} {
		for _, value := range values {
			refused(t, admin.post("/admin/clusters", clusterFields("one").but("exposure_mode", "node-port").but(field, value)), field, value)
		}
	}
	a := admin.post("/admin/clusters", fields{"credential_mode": "mounted", "kubeconfig_path": "../outside", "id": "one", "label": "x", "namespace": "apps"})
	refused(t, a, "kubeconfig_path", "../outside")
	if _, err := b.db.ClusterStatus(t.Context(), "one"); fleet.CodeOf(err) != fleet.CodeNotFound {
		t.Errorf("something was stored: %v", err)
	}
}

func TestClusterIsSavedShownAndChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	if a := admin.get("/admin/clusters"); !strings.Contains(a.body, `data-found="k3s-local"`) {
		t.Error("the kubeconfig in the folder is not offered")
	}
	if a := admin.get("/admin/clusters/new?path=k3s-local&context=main"); !strings.Contains(a.body, `value="k3s-local"`) || !strings.Contains(a.body, `value="192.0.2.1"`) {
		t.Error("the form is not filled in")
	}
	a := admin.post("/admin/clusters", clusterFields("one").but("label", markup))
	if a.status != http.StatusSeeOther || a.location() != "/admin/clusters/one" {
		t.Fatalf("%d\n%s", a.status, a.body)
	}
	a = admin.get("/admin/clusters/one")
	if strings.Count(a.body, "data-cluster=") != 1 || !strings.Contains(a.body, `data-cluster="one" data-test-state="untested"`) || strings.Contains(a.body, "<script>alert") {
		t.Errorf("page:\n%s", a.body)
	}
	if !strings.Contains(a.body, "Saved.") || strings.Contains(admin.get("/admin/clusters/one").body, "Saved.") {
		t.Error("the notice is not shown exactly once")
	}
	if a := admin.post("/admin/clusters", clusterFields("one")); a.status != http.StatusConflict || !strings.Contains(a.body, `id="e-id"`) {
		t.Errorf("an id that is taken: %d", a.status)
	}

	b.target(admin, "two")
	if a := admin.get("/admin/clusters/two"); !strings.Contains(a.body, `data-test-state="ok"`) {
		t.Error("not shown as tested")
	}
	version := func(id string) string {
		s, err := b.db.ClusterStatus(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s.Cluster.Version)
	}
	stale := clusterFields("two").but("version", version("two")).but("kubeconfig", "").but("region", "theirs")
	if a := admin.post("/admin/clusters/two", stale); a.status != http.StatusSeeOther {
		t.Fatalf("update: %d\n%s", a.status, a.body)
	}
	mine := stale.but("region", "mine")
	a = admin.post("/admin/clusters/two", mine)
	if a.status != http.StatusConflict || !strings.Contains(a.body, "theirs") || !strings.Contains(a.body, `value="mine"`) {
		t.Errorf("a stale save: %d\n%s", a.status, a.body)
	}
	if !strings.Contains(a.body, `name="version" value="`+version("two")+`"`) {
		t.Error("saving the form again would be stale again")
	}
	if a := admin.post("/admin/clusters/two", mine.but("version", version("two"))); a.status != http.StatusSeeOther {
		t.Errorf("saving again: %d", a.status)
	}
	if a := admin.post("/admin/clusters/two", mine.but("version", "x")); a.status != http.StatusUnprocessableEntity {
		t.Errorf("without a version: %d", a.status)
	}
	if a := admin.post("/admin/clusters/absent", mine); a.status != http.StatusNotFound {
		t.Errorf("absent: %d", a.status)
	}
}

// What a script sends as something else must not be taken for an empty form, which
// would empty every setting.
func TestABodyThatIsNoFormIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	id, _ := b.deployed(admin, "one", "web")
	at := "/workloads/" + id
	for _, kind := range []string{"application/json", "text/plain", ""} {
		for _, path := range []string{"/admin/clusters", "/admin/clusters/one", at + "/update", at + "/stop"} {
			a := admin.do(http.MethodPost, path, strings.NewReader(`{"replicas":"3"}`), "Content-Type", kind)
			if a.status != http.StatusUnsupportedMediaType || !strings.Contains(a.body, "application/x-www-form-urlencoded") {
				t.Errorf("%q to %s: %d", kind, path, a.status)
			}
		}
	}
	for name, body := range map[string]io.Reader{"no body": nil, "an empty one of unknown length": io.MultiReader()} {
		if a := admin.do(http.MethodPost, at+"/restart", body); a.status == http.StatusUnsupportedMediaType {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

// What htmx asked for is put into a page, so an answer that tells of an error is no
// page of its own, though it shows the form again.
func TestErrorsForHtmxAreFragments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	shows := func(method, path string, sent fields, status int, says string) {
		t.Helper()
		body := url.Values{}
		for name, value := range sent {
			body.Set(name, value)
		}
		headers := []string{"Content-Type", "application/x-www-form-urlencoded"}
		page := admin.do(method, path, strings.NewReader(body.Encode()), headers...)
		fragment := admin.do(method, path, strings.NewReader(body.Encode()), append(headers, "HX-Request", "true")...)
		if page.status != status || !strings.Contains(page.body, "<html") || !strings.Contains(page.body, says) {
			t.Errorf("%s %s: %d, want %d and %q", method, path, page.status, status, says)
		}
		if fragment.status != status || strings.Contains(fragment.body, "<html") || strings.Contains(fragment.body, "<nav") || !strings.Contains(fragment.body, says) {
			t.Errorf("%s %s for htmx: %d, want %d and %q in\n%s", method, path, fragment.status, status, says, fragment.body)
		}
	}
	shows(http.MethodGet, "/deploy", nil, http.StatusServiceUnavailable, "deploy requires Kubernetes")
	shows(http.MethodPost, "/deploy", fields{"name": "kept-name"}, http.StatusServiceUnavailable, "deploy requires Kubernetes")
	shows(http.MethodPost, "/admin/clusters", clusterFields("one").but("label", "").but("region", "kept-region"), http.StatusUnprocessableEntity, "kept-region")
	b.target(admin, "one")
	shows(http.MethodPost, "/admin/clusters/one", clusterFields("one").but("version", "0"), http.StatusConflict, "Another admin")
	id, _ := b.deployed(admin, "one", "web")
	b.ended(id, fleet.OperationSucceeded, 1)
	shows(http.MethodPost, "/workloads/"+id+"/delete", fields{"confirm": "other"}, http.StatusUnprocessableEntity, "confirm")
}

func TestKubeconfigByFileAndInspection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	for id, field := range map[string]string{"one": "kubeconfig_file", "uploaded": "kubeconfig"} {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		sent := clusterFields(id)
		delete(sent, "kubeconfig")
		for name, value := range sent {
			if err := form.WriteField(name, value); err != nil {
				t.Fatal(err)
			}
		}
		part, err := form.CreateFormFile(field, "config")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte("from a file")); err != nil {
			t.Fatal(err)
		}
		if err := form.Close(); err != nil {
			t.Fatal(err)
		}
		a := admin.do(http.MethodPost, "/admin/clusters", &body, "Content-Type", form.FormDataContentType())
		if a.status != http.StatusSeeOther {
			t.Fatalf("%s: %d\n%s", field, a.status, a.body)
		}
		cred, err := b.db.Credential(t.Context(), id)
		if err != nil || string(cred.Sealed) != "from a file" {
			t.Errorf("of %s is stored %q, %v", field, cred.Sealed, err)
		}
	}

	typed := fields{"credential_mode": "encrypted", "kubeconfig": "sEcReT", "label": "kept-label"}
	if a := admin.post("/admin/clusters/inspect", typed, "HX-Request", "true"); a.status != http.StatusOK || !strings.Contains(a.body, `data-context="main"`) || strings.Contains(a.body, "<html") {
		t.Errorf("fragment: %d\n%s", a.status, a.body)
	}
	a := admin.post("/admin/clusters/inspect", typed)
	if a.status != http.StatusOK || !strings.Contains(a.body, `data-context="main"`) || !strings.Contains(a.body, "kept-label") || strings.Contains(a.body, "sEcReT") {
		t.Errorf("page: %d\n%s", a.status, a.body)
	}
	if a := admin.post("/admin/clusters/inspect", typed.but("kubeconfig", "broken"), "HX-Request", "true"); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "is not YAML") {
		t.Errorf("broken: %d\n%s", a.status, a.body)
	}
	if a := admin.post("/admin/clusters", clusterFields("big").but("kubeconfig", strings.Repeat("x", clusterBody))); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large a body: %d", a.status)
	}
}

func TestDeployOnlyToTargets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	draft := fields{"target": "k8s:one", "runtime": "container", "name": "web", "image": "demo:1"}
	says := "deploy requires Kubernetes"
	if a := operator.get("/deploy"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, says) {
		t.Errorf("GET without any target: %d", a.status)
	}
	if a := operator.post("/deploy", draft); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, says) {
		t.Errorf("POST without any target: %d\n%s", a.status, a.body)
	}
	b.target(admin, "good")
	if a := admin.post("/admin/clusters", clusterFields("one")); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	b.tester.state = fleet.TestFailed
	b.target(admin, "failed")
	b.tester.state = fleet.TestOK
	b.target(admin, "off")
	if a := admin.post("/admin/clusters/off/disable", nil); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	a := operator.get("/deploy")
	if a.status != http.StatusOK || !strings.Contains(a.body, `data-target="k8s:good"`) || strings.Count(a.body, "data-target=") != 1 {
		t.Errorf("page: %d, %d targets", a.status, strings.Count(a.body, "data-target="))
	}
	for id, reason := range map[string]string{"one": "untested", "failed": "failed at connect", "off": "disabled"} {
		a := operator.post("/deploy", draft.but("target", "k8s:"+id))
		if a.status != http.StatusConflict || !strings.Contains(a.body, reason) {
			t.Errorf("%s: %d", id, a.status)
		}
		if a := operator.post("/deploy/preview", draft.but("target", "k8s:"+id), "HX-Request", "true"); a.status != http.StatusConflict || !strings.Contains(a.body, reason) {
			t.Errorf("preview on %s: %d\n%s", id, a.status, a.body)
		}
	}
	page, err := b.db.Operations(t.Context(), fleet.OperationFilter{})
	if err != nil || len(page.Rows) != 0 {
		t.Errorf("%d operations began, %v", len(page.Rows), err)
	}
}

// TestADeployFormOutlivesItsTarget: also when the last one has just left, the
// page holds what was typed, and says at the target what is wrong with it.
func TestADeployFormOutlivesItsTarget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	form := fields{"target": "k8s:one", "runtime": "container", "name": "web", "image": "demo:1", "env": "KEPT=kept-value", "secret_env": "TOKEN=sEcReT"}
	expect := func(when string, status int, target string, want ...string) {
		t.Helper()
		for _, path := range []string{"/deploy", "/deploy/preview"} {
			a := operator.post(path, form.but("target", target))
			if a.status != status || strings.Contains(a.body, "sEcReT") || !strings.Contains(a.body, "data-error") {
				t.Errorf("%s, %s: %d\n%s", when, path, a.status, a.body)
			}
			for _, text := range append(want, "kept-value", `id="deploy-form"`) {
				if !strings.Contains(a.body, text) {
					t.Errorf("%s, %s: no %q", when, path, text)
				}
			}
		}
	}
	expect("no cluster at all", http.StatusServiceUnavailable, "k8s:one", "deploy requires Kubernetes", "No cluster is available now.")
	b.target(admin, "one")
	if a := admin.post("/admin/clusters/one/disable", nil); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	expect("the last one has left", http.StatusConflict, "k8s:one", `id="e-target"`, "not a target now: disabled", `type="hidden" name="target" value="k8s:one"`)
	expect("none chosen", http.StatusServiceUnavailable, "", "deploy requires Kubernetes")
	b.target(admin, "two")
	expect("another is left", http.StatusConflict, "k8s:one", `id="e-target"`, "not a target now: disabled", `name="target" value="k8s:two" required`)
	// Nobody has chosen that one, to which the form would go when it is sent again.
	for page, a := range map[string]answer{"sent": operator.post("/deploy", form), "a link": operator.get("/deploy?target=k8s:one")} {
		if strings.Contains(a.body, `value="k8s:two" checked`) {
			t.Errorf("%s: another target is chosen", page)
		}
	}
	if a := operator.get("/deploy"); !strings.Contains(a.body, `value="k8s:two" checked`) {
		t.Error("the only target is not chosen")
	}
}

func TestDeployFormComesBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	long := strings.Repeat("x", 3000)
	bad := map[string][]string{
		"target":              {"", "k8s:", "k8s:absent", "nomad:x", markup},
		"runtime":             {"", "vm", markup},
		"name":                {"", "Upper", "-x", "9x", strings.Repeat("x", 51), long, markup, "a\x00b"},
		"image":               {"", "a b", long, "a\x00b"},
		"command":             {"a\x00b"},
		"args":                {"a\x1bb"},
		"env":                 {"NOEQUALS", "A=1\nA=2", "a b=c"},
		"secret_env":          {"NOEQUALS", "A=1\nA=2"},
		"ports":               {"http", "http=0", "http=x", "a=80\na=81", markup + "=80"},
		"replicas":            {"0", "-1", "x", "1.5", "1000000", markup},
		"cpu":                 {"x", "-1", markup},
		"memory":              {"x", "10 apples", markup},
		"ephemeral_storage":   {"x", "-1"},
		"gpu":                 {"x", "-1", "1.5"},
		"volumes":             {"data", "data=/data", "data=data 1Gi", "DATA=/data 1Gi"},
		"file_path_1":         {"relative", "/a/../b", "/"},
		"health_type":         {"ping", markup},
		"node_selector":       {"no equals"},
		"service_annotations": {"{", `{"a": 1}`},
		"pull_secrets":        {"Upper", long},
		"workload_kind":       {"daemonset", markup},
	}
	good := fields{
		"target": "k8s:one", "runtime": "container", "name": "web", "image": "demo:1", "file_content_1": "", "region": "", "cpu": "250m",
		"env": "KEPT=kept-value", "secret_env": "TOKEN=sEcReT",
	}
	for field, values := range bad {
		for _, value := range values {
			form := good.but(field, value)
			if field == "file_path_1" {
				form["file_content_1"] = "text"
			}
			a := operator.post("/deploy", form)
			refused(t, a, field, value)
			if field != "env" && !strings.Contains(a.body, "kept-value") {
				t.Errorf("%s=%q: the rest was not kept", field, clip(value, 40))
			}
			if strings.Contains(a.body, "sEcReT") {
				t.Errorf("%s=%q: the secret came back", field, clip(value, 40))
			}
		}
	}
	if a := operator.post("/deploy/preview", good.but("name", "Upper"), "HX-Request", "true"); a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, "<html") {
		t.Errorf("preview: %d\n%s", a.status, a.body)
	}
	if a := operator.post("/deploy/preview", good.but("name", "Upper")); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "<html") || !strings.Contains(a.body, "kept-value") {
		t.Errorf("preview page: %d", a.status)
	}
	b.deployed(operator, "one", "web")
	a := operator.post("/deploy", good)
	if a.status != http.StatusConflict || !strings.Contains(a.body, `id="e-name"`) {
		t.Errorf("a name that is taken: %d\n%s", a.status, a.body)
	}
}

func TestDeletingAskForTheName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "empty")
	if a := admin.get("/admin/clusters/empty/delete"); a.status != http.StatusOK || !strings.Contains(a.body, `name="confirm"`) {
		t.Errorf("%d", a.status)
	}
	if a := admin.post("/admin/clusters/empty/delete", fields{"confirm": "other"}); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `class="field-error"`) {
		t.Errorf("wrong id: %d", a.status)
	}
	if a := admin.post("/admin/clusters/empty/delete", fields{"confirm": "empty"}); a.status != http.StatusSeeOther {
		t.Errorf("%d\n%s", a.status, a.body)
	}
	if a := admin.get("/admin/clusters/empty"); a.status != http.StatusNotFound {
		t.Errorf("after it: %d", a.status)
	}

	b.target(admin, "one")
	workload, _ := b.deployed(operator, "one", "web")
	for _, a := range []answer{admin.post("/admin/clusters/one/delete", fields{"confirm": "wrong"}), admin.get("/admin/clusters/one/delete")} {
		if !strings.Contains(a.body, "web") || !strings.Contains(a.body, "cannot be deleted") {
			t.Errorf("%d\n%s", a.status, a.body)
		}
	}
	if a := admin.post("/admin/clusters/one/delete", fields{"confirm": "one"}); a.status != http.StatusConflict {
		t.Errorf("a cluster with workloads: %d", a.status)
	}
	for _, verb := range []string{"stop", "restart", "delete"} {
		if a := operator.post("/workloads/"+workload+"/"+verb, fields{"confirm": "web"}); a.status != http.StatusConflict {
			t.Errorf("%s while it is busy: %d", verb, a.status)
		}
	}
	if a := operator.post("/workloads/"+workload+"/forget", fields{"confirm": "web"}); a.status != http.StatusForbidden {
		t.Errorf("forget by an operator: %d", a.status)
	}
}

func TestKeepSecrets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ typed, present, env, want string }{
		{"", "A=\nB=", "", "A=\nB="},
		{"A=new", "A=\nB=", "", "A=new\nB="},
		{"C=more", "A=\nB=", "", "C=more\nA=\nB="},
		{"-A", "A=\nB=", "", "B="},
		{" - A \r\n-B", "A=\nB=", "", ""},
		{"-C", "A=\nB=", "", "-C\nA=\nB="},
		{"", "", "", ""},
		{"A=x\nA=y", "A=", "", "A=x\nA=y"},
		{"", "A=\nB=", "C=1\n A =plain", "B="},
		{"", "A=\nB=", "A", "A=\nB="},
		{"A=new", "A=\nB=", "A=plain", "A=new\nB="},
	} {
		if got := keepSecrets(test.typed, test.present, test.env); got != test.want {
			t.Errorf("keepSecrets(%q, %q, %q) = %q, want %q", test.typed, test.present, test.env, got, test.want)
		}
	}
}
