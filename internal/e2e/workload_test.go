package e2e

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
)

// workload is one workload by its page, with the objects behind it.
type workload struct {
	*place
	id, name string
}

// draft is a deploy form for the place, of a small container that is soon ready.
func (pl *place) draft(name string, changes fields) fields {
	return fields{
		"target": pl.target(), "runtime": "container", "name": name, "image": pl.on.image(),
		"ports": "http=8080", "cpu": "10m", "memory": "32Mi", "replicas": "1",
	}.but(changes)
}

// probed adds a health check, which a pod passes some seconds after its start.
var probed = fields{"health_type": "http", "health_path": "/health"}

// begin posts a deploy form and returns the operation that it began.
func (pl *place) begin(t testing.TB, form fields) operation {
	t.Helper()
	answer := expect(t, pl.post(t, "/deploy", form), http.StatusSeeOther)
	return pl.operationAt(t, answer.location())
}

// deploy runs a new workload to the end of its deploy.
func (pl *place) deploy(t testing.TB, changes fields) *workload {
	t.Helper()
	form := pl.draft(clustertest.UniqueName("demo"), changes)
	pl.begin(t, form).ends(t, "succeeded")
	return pl.workload(t, form["name"])
}

// workload finds a workload of the place in the list by its name.
func (pl *place) workload(t testing.TB, name string) *workload {
	t.Helper()
	p := pl.read(t, "/workloads?target="+pl.target()+"&q="+name)
	for _, n := range p.with("data-workload") {
		for _, word := range strings.Fields(textOf(n)) {
			if word == name {
				return &workload{pl, attr(n, "data-workload"), name}
			}
		}
	}
	t.Fatalf("%s does not list %s\n%s", p.request, name, clipped(p.text()))
	return nil
}

func (w *workload) path(below string) string { return "/workloads/" + w.id + below }

// page reads the workload's page, and the element that carries its markers.
func (w *workload) page(t testing.TB) (*page, map[string]string) {
	t.Helper()
	p := w.read(t, w.path(""))
	return p, w.markers(p)
}

// markers are the data- attributes of the workload's state on a page.
func (w *workload) markers(p *page) map[string]string {
	out := map[string]string{}
	for _, n := range p.with("data-workload", w.id) {
		for _, a := range n.Attr {
			if name, ok := strings.CutPrefix(a.Key, "data-"); ok {
				out[name] = a.Val
			}
		}
	}
	return out
}

func (w *workload) phase(t testing.TB) string {
	t.Helper()
	_, markers := w.page(t)
	return markers["phase"]
}

// becomes waits for a phase.
func (w *workload) becomes(t testing.TB, phase string) {
	t.Helper()
	eventually(t, patience, w.name+" "+phase, func() (bool, string) {
		p, markers := w.page(t)
		return markers["phase"] == phase, markers["phase"] + ": " + clipped(p.text())
	})
}

// act posts a verb and returns the answer.
func (w *workload) act(t testing.TB, verb string, form fields) *page {
	t.Helper()
	return w.post(t, w.path("/"+verb), form)
}

// does acts and returns the operation that it began.
func (w *workload) does(t testing.TB, verb string, form fields) operation {
	t.Helper()
	answer := expect(t, w.act(t, verb, form), http.StatusSeeOther)
	return w.operationAt(t, answer.location())
}

// did acts and waits for success.
func (w *workload) did(t testing.TB, verb string, form fields) *page {
	t.Helper()
	return w.does(t, verb, form).ends(t, "succeeded")
}

// updates opens the edit form, changes fields and saves it.
func (w *workload) updates(t testing.TB, changes fields) operation {
	t.Helper()
	p := w.read(t, w.path("/edit"))
	form, ok := p.form(w.path("/update"))
	if !ok {
		t.Fatalf("%s: no form that posts to %s", p.request, w.path("/update"))
	}
	return w.does(t, "update", form.but(changes))
}

// What the cluster itself says.

func (w *workload) deployment(t testing.TB) *apps.Deployment {
	t.Helper()
	d, err := w.kubectl.AppsV1().Deployments(w.namespace).Get(t.Context(), w.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *workload) service(t testing.TB) *core.Service {
	t.Helper()
	s, err := w.kubectl.CoreV1().Services(w.namespace).Get(t.Context(), w.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *workload) pods(t testing.TB) []core.Pod {
	t.Helper()
	list, err := w.kubectl.CoreV1().Pods(w.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + w.name})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func podUIDs(pods []core.Pod) map[string]bool {
	out := map[string]bool{}
	for _, p := range pods {
		out[string(p.UID)] = true
	}
	return out
}

// objects names every object of the kinds that Portolan makes in the
// namespace, as Kind/name, but for what Kubernetes puts into each by itself.
func (pl *place) objects(t testing.TB) []string {
	t.Helper()
	ctx, all := t.Context(), metav1.ListOptions{}
	var out []string
	add := func(kind string, err error, names func(add func(string))) {
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		names(func(name string) { out = append(out, kind+"/"+name) })
	}
	deployments, err := pl.kubectl.AppsV1().Deployments(pl.namespace).List(ctx, all)
	add("Deployment", err, func(add func(string)) {
		for _, o := range deployments.Items {
			add(o.Name)
		}
	})
	sets, err := pl.kubectl.AppsV1().StatefulSets(pl.namespace).List(ctx, all)
	add("StatefulSet", err, func(add func(string)) {
		for _, o := range sets.Items {
			add(o.Name)
		}
	})
	services, err := pl.kubectl.CoreV1().Services(pl.namespace).List(ctx, all)
	add("Service", err, func(add func(string)) {
		for _, o := range services.Items {
			add(o.Name)
		}
	})
	maps, err := pl.kubectl.CoreV1().ConfigMaps(pl.namespace).List(ctx, all)
	add("ConfigMap", err, func(add func(string)) {
		for _, o := range maps.Items {
			if o.Name != "kube-root-ca.crt" {
				add(o.Name)
			}
		}
	})
	secrets, err := pl.kubectl.CoreV1().Secrets(pl.namespace).List(ctx, all)
	add("Secret", err, func(add func(string)) {
		for _, o := range secrets.Items {
			if o.Type != core.SecretTypeServiceAccountToken {
				add(o.Name)
			}
		}
	})
	claims, err := pl.kubectl.CoreV1().PersistentVolumeClaims(pl.namespace).List(ctx, all)
	add("PersistentVolumeClaim", err, func(add func(string)) {
		for _, o := range claims.Items {
			add(o.Name)
		}
	})
	pods, err := pl.kubectl.CoreV1().Pods(pl.namespace).List(ctx, all)
	add("Pod", err, func(add func(string)) {
		for _, o := range pods.Items {
			add(o.Name)
		}
	})
	return out
}

// settled reports whether a Deployment has rolled out in full: what success
// has to mean.
func settled(d *apps.Deployment) (bool, string) {
	want := *d.Spec.Replicas
	s := d.Status
	ok := s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.AvailableReplicas == want && s.Replicas == want
	return ok, "generation " + strconv.FormatInt(d.Generation, 10) + " observed " + strconv.FormatInt(s.ObservedGeneration, 10) +
		", desired " + strconv.Itoa(int(want)) + " updated " + strconv.Itoa(int(s.UpdatedReplicas)) +
		" available " + strconv.Itoa(int(s.AvailableReplicas)) + " replicas " + strconv.Itoa(int(s.Replicas))
}

// completed reports whether the rollout of the present spec has once been complete,
// which stays said though a pod is not ready again meanwhile: what the deployment
// controller calls its reason NewReplicaSetAvailable.
func completed(d *apps.Deployment) bool {
	return d.Status.ObservedGeneration >= d.Generation && slices.ContainsFunc(d.Status.Conditions, func(c apps.DeploymentCondition) bool {
		return c.Type == apps.DeploymentProgressing && c.Reason == "NewReplicaSetAvailable"
	})
}

// podSpec is that of a pod that somebody else might run.
func (pl *place) podSpec() core.PodSpec {
	now := int64(0)
	return core.PodSpec{
		TerminationGracePeriodSeconds: &now,
		Containers:                    []core.Container{{Name: "main", Image: pl.on.image()}},
	}
}

// foreignService is a Service that somebody else might have.
func (pl *place) foreignService(name string) *core.Service {
	return &core.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       core.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []core.ServicePort{{Name: "http", Port: 80}}},
	}
}
