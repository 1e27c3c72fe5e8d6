package e2e

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"portolan/internal/clustertest"
)

var setupToken = regexp.MustCompile(`token=("?)([^\s"]+)`)

// fresh starts “portolan serve” on a machine where nothing is set up yet, with
// the kubeconfig of a cluster with a real node in its folder, and returns the
// one-time token that it logs.
func fresh(t testing.TB) (p *portolan, token string) {
	t.Helper()
	dir := t.TempDir()
	p = &portolan{name: t.Name(), dir: dir, env: settings(dir)}
	delete(p.env, "PORTOLAN_ADMIN_EMAIL")
	delete(p.env, "PORTOLAN_ADMIN_PASSWORD")
	if err := p.begin("serve"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProcess(t, p.web) })
	p.mount(t, "k3s-local", real.kubeconfig(t))
	eventually(t, patience, "the setup token in the log", func() (bool, string) {
		if m := setupToken.FindStringSubmatch(p.web.log.String()); m != nil {
			token = m[2]
		}
		return token != "", p.web.tail()
	})
	return p, token
}

// The main job with nothing but the routes, fields and markers of a script.
func TestMainJobByPlainHTTP(t *testing.T) {
	t.Parallel()
	p, token := fresh(t)
	if answer := p.get(t, "/"); answer.status != http.StatusSeeOther {
		t.Errorf("a stranger at /: %d, want 303", answer.status)
	}
	expect(t, p.post(t, "/setup", fields{"token": "wrong", "email": adminEmail, "password": adminPassword}), http.StatusUnprocessableEntity)
	expect(t, p.post(t, "/setup", fields{"token": token, "email": adminEmail, "password": adminPassword}), http.StatusSeeOther)
	if answer := newClient(p.base).post(t, "/setup", fields{"token": token, "email": "b@example.com", "password": adminPassword}); answer.status < 300 || answer.has("data-notice") {
		t.Errorf("a second setup: %d", answer.status)
	}
	p.client = p.person(t, adminEmail, adminPassword)
	expect(t, p.get(t, "/deploy"), http.StatusServiceUnavailable)

	namespace := clustertest.UniqueName("walk")
	kubectl := clustertest.Client(t, real.kubeconfig(t))
	expect(t, p.post(t, "/admin/clusters", fields{
		"id": "k3s-local", "label": "K3s here", "provider": "k3s", "credential_mode": "mounted", "kubeconfig_path": "k3s-local",
		"namespace": namespace, "exposure_mode": "node-port", "runtime_host": "127.0.0.1", "enabled": "true",
	}), http.StatusSeeOther)
	clustertest.DeleteNamespace(t, kubectl, namespace)
	pl := &place{portolan: p, on: real, id: "k3s-local", kubectl: kubectl, namespace: namespace}
	if state := pl.testState(t); state != "untested" {
		t.Errorf("registered, and %s", state)
	}
	pl.test(t, "ok")
	if !pl.offered(t) {
		t.Fatal("not offered")
	}
	op := pl.begin(t, fields{
		"target": "k8s:k3s-local", "runtime": "container", "name": "demo", "image": "portolan.dev/demo:1", "ports": "http=8080",
	})
	watch := op.open(t, op.path()+"/stream", "")
	watch.until(t, patience, "success on the stream", func(m message) bool {
		return m.name == "" && op.stateOf(m.fragment()) == "succeeded"
	})
	w := pl.workload(t, "demo")
	if phase := w.phase(t); phase != "running" {
		t.Errorf("deployed, and %s", phase)
	}
	logs := w.open(t, w.path("/logs/stream"), "")
	linesUntil(t, logs, "tick")
	w.did(t, "stop", nil)
	if phase := w.phase(t); phase != "stopped" {
		t.Errorf("stopped, and %s", phase)
	}
	w.did(t, "start", nil)
	w.did(t, "restart", nil)
	w.did(t, "scale", fields{"replicas": "2"})
	if _, markers := w.page(t); markers["desired"] != "2" || markers["available"] != "2" || markers["phase"] != "running" {
		t.Errorf("scaled to two: %v", markers)
	}
	ended := w.did(t, "delete", fields{"confirm": "demo"})
	if left := pl.objects(t); len(left) > 0 {
		t.Errorf("left after the delete: %v", left)
	}
	if !ended.says("demo") || p.read(t, "/workloads").has("data-workload") {
		t.Error("the deleted workload is still listed, or its operation has lost its name")
	}
}

func TestMainJobInABrowser(t *testing.T) {
	t.Parallel()
	walk(t, true)
}

func TestMainJobWithoutJavaScript(t *testing.T) {
	t.Parallel()
	walk(t, false)
}

// walk does the main job by hand, from the first page to the deleted workload.
func walk(t *testing.T, scripts bool) {
	p, token := fresh(t)
	s := surf(t, p.base, scripts)
	namespace := clustertest.UniqueName("walk")
	kubectl := clustertest.Client(t, real.kubeconfig(t))
	portray := func(name string) {
		t.Helper()
		if scripts {
			s.portray(name)
		}
	}

	// The first admin.
	s.open("/setup")
	portray("setup")
	s.fill("input[name=token]", token)
	s.fill("input[name=email]", adminEmail)
	s.fill("input[name=password]", adminPassword)
	s.follow("form[action='/setup'] button")
	s.arrives("body.app, form[action='/login']")
	if s.count("form[action='/login']") > 0 {
		s.signIn()
	}
	portray("overview-empty")
	s.open("/workloads")
	portray("workloads-empty")

	// A cluster that was found in the folder.
	s.open("/admin/clusters")
	portray("clusters-found")
	s.follow("[data-found='k3s-local'] a")
	s.arrives("#cluster-form")
	s.fill("input[name=namespace]", namespace)
	s.click("label:has(input[name=exposure_mode][value=node-port])")
	s.fill("input[name=runtime_host]", "127.0.0.1")
	portray("cluster-new")
	s.follow("#cluster-form .form-end button")
	s.arrives("[data-cluster='k3s-local'][data-test-state=untested]")
	portray("cluster-untested")
	clustertest.DeleteNamespace(t, kubectl, namespace)
	s.follow("form[action='/admin/clusters/k3s-local/test'] button")
	s.sees("[data-cluster='k3s-local'][data-test-state=ok]")
	portray("cluster")
	for _, page := range []string{"edit", "delete"} {
		s.open("/admin/clusters/k3s-local/" + page)
		portray("cluster-" + page)
	}
	s.open("/admin/clusters")
	s.sees("tr[data-cluster='k3s-local'][data-test-state=ok]")
	portray("clusters")

	// A workload on it.
	s.open("/deploy")
	s.click("label[data-target='k8s:k3s-local']")
	s.click("label:has(input[name=runtime][value=container])")
	s.fill("input[name=name]", "demo")
	s.fill("input[name=image]", "portolan.dev/demo:1")
	s.fill("textarea[name=ports]", "runtime=8080")
	if preview := "button[formaction='/deploy/preview']"; scripts {
		s.click(preview) // puts it into the page
	} else {
		s.follow(preview)
	}
	s.arrives("[data-object='Deployment/demo']")
	portray("deploy")
	s.follow("#deploy-form .card-foot button.primary")
	s.arrives("[data-operation]")
	portray("operation-running")
	s.sees("[data-operation][data-state=succeeded]")
	portray("operation")
	s.follow("#operation-head a[href^='/workloads/']")
	s.sees("[data-workload][data-phase=running]")
	id := s.attribute("[data-workload]", "data-workload")
	w := &workload{&place{portolan: p, on: real, id: "k3s-local", kubectl: kubectl, namespace: namespace}, id, "demo"}

	// It answers where its page says.
	endpoint := s.attribute(".endpoints a", "href")
	eventually(t, patience, "an answer at "+endpoint, func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		status, text, err := fetch(ctx, endpoint)
		if err != nil {
			return false, err.Error()
		}
		return status == http.StatusOK && strings.Contains(text, "demo version 1"), text
	})
	if scripts {
		s.sees("[data-logs] [data-line]")
		s.shows("[data-logs] [data-line]")
	} else {
		s.sees("noscript a[href*='/logs/stream']")
	}
	portray("workload")
	s.open(w.path("/logs"))
	if scripts {
		s.sees("[data-logs] [data-line]")
	}
	portray("logs")
	s.open(w.path("/edit"))
	portray("workload-edit")
	s.open(w.path("/delete"))
	portray("workload-delete")

	// Its life.
	button := func(verb, phase string) {
		t.Helper()
		s.open(w.path(""))
		s.follow("form[action='" + w.path("/"+verb) + "'] button")
		s.arrives("[data-operation]")
		s.sees("[data-operation][data-state=succeeded]")
		s.open(w.path(""))
		s.sees("[data-workload][data-phase=" + phase + "]")
	}
	button("stop", "stopped")
	portray("workload-stopped")
	button("start", "running")
	button("restart", "running")
	s.click("button[popovertarget=scale]")
	s.fill("#scale input[name=replicas]", "2")
	s.follow("#scale button.primary")
	s.arrives("[data-operation]")
	s.sees("[data-operation][data-state=succeeded]")
	s.open(w.path(""))
	s.sees("[data-workload][data-phase=running][data-available='2']")
	s.open("/workloads")
	s.sees("[data-workload][data-phase=running]")
	portray("workloads")
	s.open("/operations")
	portray("operations")
	s.open("/")
	portray("overview")

	// A failure is shown as one.
	if scripts {
		s.expects("404")
		s.open("/workloads/no-such-workload")
		portray("not-found")
	}

	// Its end.
	s.open(w.path(""))
	form, ask := "form[action='"+w.path("/delete")+"']", "a[href='"+w.path("/delete")+"']"
	if !scripts {
		s.follow(ask)
	} else {
		s.click(ask)
		form = "dialog[open] " + form
		s.arrives(form)
		portray("workload-delete-dialog")
	}
	s.fill(form+" input[name=confirm]", "demo")
	s.follow(form + " button.danger")
	s.arrives("[data-operation]")
	s.sees("[data-operation][data-state=succeeded]")
	s.open("/workloads")
	if s.count("[data-workload]") > 0 {
		t.Error("the deleted workload is still listed")
	}
	if left := w.objects(t); len(left) > 0 {
		t.Errorf("left after the delete: %v", left)
	}

	// And out.
	s.open("/")
	s.click("button[popovertarget=me]")
	s.follow("form[action='/logout'] button")
	s.arrives("form[action='/login']")
	portray("login")
	s.signIn()
}

func (s *surfer) signIn() {
	s.t.Helper()
	s.fill("input[name=email]", adminEmail)
	s.fill("input[name=password]", adminPassword)
	s.follow("form[action='/login'] button")
	s.arrives("body.app")
}
