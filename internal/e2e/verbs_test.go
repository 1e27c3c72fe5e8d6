package e2e

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscaling "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"portolan/internal/clustertest"
)

func TestB13StoppedMeansNothingRuns(t *testing.T) {
	onEach(t, func(t *testing.T, on profile) {
		pl := shared(t).settle(t, on, nil)
		w := pl.deploy(t, fields{"replicas": "2"})
		deployment, service := w.deployment(t), w.service(t)

		var release func()
		if on == real { // elsewhere it is not the container's end that takes the pods away
			release = w.keeps(t, w.pods(t)[0].Name)
		}
		op := w.does(t, "stop", nil)
		if release != nil {
			eventually(t, patience, "a stop with a pod left", func() (bool, string) {
				status, phase := w.deployment(t).Status, w.phase(t)
				return status.Replicas == 0 && status.ReadyReplicas == 0 && len(w.pods(t)) == 1 && phase == "stopping", phase
			})
			holds(t, 2*time.Second, "not stopped while a pod remains", func() (bool, string) {
				phase, state := w.phase(t), op.state(t)
				return phase == "stopping" && state == "running", phase + ", " + state
			})
			release()
		}
		eventually(t, patience, "the end of the stop", func() (bool, string) {
			_, markers := w.page(t)
			left := len(w.pods(t))
			if markers["phase"] == "stopped" && left > 0 {
				t.Errorf("stopped is shown while %d pods remain", left)
			}
			return markers["phase"] == "stopped", markers["phase"]
		})
		op.ends(t, "succeeded")
		after := w.deployment(t)
		if *after.Spec.Replicas != 0 || after.Status.Replicas != 0 || after.Status.ReadyReplicas != 0 || len(w.pods(t)) != 0 {
			t.Errorf("stopped with spec %d, status %d, ready %d, %d pods", *after.Spec.Replicas, after.Status.Replicas, after.Status.ReadyReplicas, len(w.pods(t)))
		}
		if after.UID != deployment.UID || w.service(t).UID != service.UID {
			t.Error("the Deployment or the Service is another one")
		}
		// The count is kept: a start brings it back.
		w.did(t, "start", nil)
		if ok, state := settled(w.deployment(t)); !ok || *w.deployment(t).Spec.Replicas != 2 {
			t.Errorf("started again to %s", state)
		}
	})
}

// keeps holds a pod in the cluster, when it has ended, until release.
func (w *workload) keeps(t *testing.T, pod string) (release func()) {
	t.Helper()
	finalizers := func(list string) {
		t.Helper()
		patch := []byte(`{"metadata":{"finalizers":` + list + `}}`)
		_, err := w.kubectl.CoreV1().Pods(w.namespace).Patch(context.WithoutCancel(t.Context()), pod, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	}
	finalizers(`["example.com/kept"]`)
	t.Cleanup(func() { finalizers("null") }) // or the namespace would stay
	return func() { finalizers("null") }
}

func TestB14StartRestoresAndScaleOnlyScales(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, fields{"replicas": "3"})

	w.did(t, "stop", nil)
	for _, verb := range []string{"restart", "scale"} {
		if answer := expect(t, w.act(t, verb, fields{"replicas": "2"}), http.StatusConflict); !answer.says("start") {
			t.Errorf("%s while stopped does not offer start: %s", verb, clipped(answer.text()))
		}
	}
	w.did(t, "start", nil)
	if ok, state := settled(w.deployment(t)); !ok || *w.deployment(t).Spec.Replicas != 3 {
		t.Fatalf("started to %s", state)
	}

	before := w.deployment(t)
	w.did(t, "scale", fields{"replicas": "1"})
	after := w.deployment(t)
	if ok, state := settled(after); !ok || *after.Spec.Replicas != 1 {
		t.Errorf("scaled to %s", state)
	}
	after.Spec.Replicas = before.Spec.Replicas
	if diff := cmp.Diff(before.Spec, after.Spec); diff != "" {
		t.Errorf("scale changed more than the replicas: %s", diff)
	}
	if !maps.Equal(before.Labels, after.Labels) {
		t.Errorf("scale changed labels: %v", after.Labels)
	}
	for _, bad := range []string{"", "0", "-1", "many", "1000000"} {
		expect(t, w.act(t, "scale", fields{"replicas": bad}), http.StatusUnprocessableEntity)
	}
}

func TestB14ScaleLeavesReplicasToAnAutoscaler(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, fields{"replicas": "2"})
	one := int32(1)
	hpa := &autoscaling.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "owner"},
		Spec: autoscaling.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscaling.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: w.name},
			MinReplicas:    &one, MaxReplicas: 5,
		},
	}
	if _, err := pl.kubectl.AutoscalingV2().HorizontalPodAutoscalers(pl.namespace).Create(t.Context(), hpa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	answer := w.act(t, "scale", fields{"replicas": "4"})
	if answer.status == http.StatusSeeOther {
		op := w.operationAt(t, answer.location())
		eventually(t, patience, "the end of the scale", func() (bool, string) {
			answer = op.page(t)
			state := op.stateOf(answer)
			return state == "succeeded" || state == "failed", state
		})
	}
	if !answer.says("autoscaler") {
		t.Errorf("it does not say that an autoscaler owns the replicas: %s", clipped(answer.text()))
	}
	if now := *w.deployment(t).Spec.Replicas; now != 2 {
		t.Errorf("the replicas were set to %d", now)
	}
}

func TestB15RestartOnlyRestarts(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, fields{"replicas": "2"})
	foreign := []byte(`{"metadata":{"annotations":{"example.com/owner":"somebody"}},"spec":{"template":{"metadata":{"annotations":{"example.com/note":"kept"}}}}}`)
	if _, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Patch(t.Context(), w.name, types.MergePatchType, foreign, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the foreign change to roll out", func() (bool, string) { return settled(w.deployment(t)) })
	eventually(t, patience, "the old pods to go", func() (bool, string) { return len(w.pods(t)) == 2, "" })
	before, oldPods := w.deployment(t), podUIDs(w.pods(t))

	w.did(t, "restart", nil)
	after := w.deployment(t)
	if ok, state := settled(after); !ok {
		t.Errorf("restarted to %s", state)
	}
	if after.UID != before.UID {
		t.Error("the Deployment is another one")
	}
	changed := changedKeys(before.Spec.Template.Annotations, after.Spec.Template.Annotations)
	if len(changed) != 1 || !strings.Contains(changed[0], "restart") {
		t.Errorf("restart changed the template's annotations %v", changed)
	}
	if after.Annotations["example.com/owner"] != "somebody" || after.Spec.Template.Annotations["example.com/note"] != "kept" {
		t.Errorf("annotations of others are gone: %v, %v", after.Annotations, after.Spec.Template.Annotations)
	}
	before.Spec.Template.Annotations, after.Spec.Template.Annotations = nil, nil
	if diff := cmp.Diff(before.Spec, after.Spec); diff != "" {
		t.Errorf("restart changed more than the annotation: %s", diff)
	}
	eventually(t, patience, "the old pods to go", func() (bool, string) {
		for uid := range podUIDs(w.pods(t)) {
			if oldPods[uid] {
				return false, "pod " + uid + " is still there"
			}
		}
		return true, ""
	})
}

func changedKeys(before, after map[string]string) []string {
	var out []string
	for key, value := range after {
		if before[key] != value {
			out = append(out, key)
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			out = append(out, key)
		}
	}
	return out
}

func TestB18VerbsGoWhereTheWorkloadIs(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, nil)
	elsewhere := clustertest.Namespace(t, pl.kubectl)
	pl.edit(t, fields{"namespace": elsewhere})
	pl.test(t, "ok")

	old := podUIDs(w.pods(t))
	w.did(t, "restart", nil)
	for uid := range podUIDs(w.pods(t)) {
		if old[uid] {
			eventually(t, patience, "the old pod to go", func() (bool, string) { return !podUIDs(w.pods(t))[uid], "" })
		}
	}
	w.did(t, "scale", fields{"replicas": "2"})
	w.did(t, "stop", nil)
	w.did(t, "start", nil)
	w.updates(t, fields{"env": "CHANGED=yes"}).ends(t, "succeeded")
	w.did(t, "redeploy", nil)
	if ok, state := settled(w.deployment(t)); !ok {
		t.Errorf("in its own namespace: %s", state)
	}
	there := *pl
	there.namespace = elsewhere
	if made := there.objects(t); len(made) > 0 {
		t.Errorf("made in the cluster's new namespace: %v", made)
	}
	w.did(t, "delete", fields{"confirm": w.name})
	if left := pl.objects(t); len(left) > 0 {
		t.Errorf("left in its own namespace: %v", left)
	}
}

func TestB21OneActionWins(t *testing.T) {
	t.Parallel()
	g := newGate(t, real.kubeconfig(t))
	pl := shared(t).stake(t, real, g.kubeconfig, nil)
	pl.test(t, "ok")
	w := pl.deploy(t, nil)
	// Whichever is the first must not be over before the last is asked for.
	g.shut(func(r *http.Request) bool {
		return r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/deployments")
	})
	verbs := []string{"stop", "restart", "redeploy", "restart", "stop", "restart"}
	answers := make([]*page, len(verbs))
	errs := make([]error, len(verbs))
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i, verb := range verbs {
		all.Go(func() {
			<-begin
			answers[i], errs[i] = w.do(http.MethodPost, w.path("/"+verb), nil)
		})
	}
	close(begin)
	all.Wait()
	g.lift()
	won := 0
	for i, answer := range answers {
		switch {
		case errs[i] != nil:
			t.Fatal(errs[i])
		case answer.status == http.StatusSeeOther:
			won++
			w.operationAt(t, answer.location()).ends(t, "succeeded")
		case answer.status != http.StatusConflict:
			t.Errorf("%s: %d, want 303 or 409", verbs[i], answer.status)
		}
	}
	if won != 1 {
		t.Errorf("%d of the actions won, want one", won)
	}
}

func TestB21SameNameOnTwoClusters(t *testing.T) {
	t.Parallel()
	p := shared(t)
	one, other := p.settle(t, real, nil), p.settle(t, profiles[1], nil)
	name := clustertest.UniqueName("twin")
	var ws []*workload
	for _, pl := range []*place{one, other} {
		pl.begin(t, pl.draft(name, nil)).ends(t, "succeeded")
		ws = append(ws, pl.workload(t, name))
	}
	if ws[0].id == ws[1].id {
		t.Fatal("both are one workload")
	}
	before := ws[1].deployment(t)
	ws[0].did(t, "stop", nil)
	ws[0].did(t, "delete", fields{"confirm": name})
	if after := ws[1].deployment(t); after.UID != before.UID || after.Generation != before.Generation {
		t.Error("what was done to one touched the other")
	}
	if phase := ws[1].phase(t); phase != "running" {
		t.Errorf("the other is %s", phase)
	}
	// The same name once more in the same place is a conflict beside the field.
	answer := expect(t, other.post(t, "/deploy", other.draft(name, nil)), http.StatusConflict)
	if !answer.says(name) {
		t.Errorf("the refusal does not name it: %s", clipped(answer.text()))
	}
}

func TestB22TheSnapshotEqualsTheLiveObject(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, fields{"replicas": "2"})
	equal := func() (bool, string) {
		p, markers := w.page(t)
		d := w.deployment(t)
		want := map[string]int32{
			"desired": *d.Spec.Replicas, "current": d.Status.Replicas, "ready": d.Status.ReadyReplicas,
			"available": d.Status.AvailableReplicas, "updated": d.Status.UpdatedReplicas,
		}
		for name, n := range want {
			if markers[name] != strconv.Itoa(int(n)) {
				return false, name + " is " + markers[name] + ", live " + strconv.Itoa(int(n))
			}
		}
		if len(elements(p.root, "time")) == 0 {
			return false, "no age"
		}
		return true, ""
	}
	if ok, seen := equal(); !ok {
		t.Errorf("just after the deploy: %s", seen)
	}
	// Changed behind our back: the page follows.
	patch := []byte(`{"spec":{"replicas":3}}`)
	if _, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Patch(t.Context(), w.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the page to follow", func() (bool, string) {
		if d := w.deployment(t); d.Status.AvailableReplicas != 3 {
			return false, "not scaled yet"
		}
		return equal()
	})
	// A pod that can no longer become ready shows as what it is.
	bad := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"` + w.deployment(t).Spec.Template.Spec.Containers[0].Name + `","image":"portolan.dev/demo:none"}]}}}}`)
	if _, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Patch(t.Context(), w.name, types.StrategicMergePatchType, bad, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the page to say degraded", func() (bool, string) {
		phase := w.phase(t)
		if phase != "degraded" {
			return false, phase
		}
		return equal()
	})
}

func TestB19RollbackMakesANewRelease(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, fields{"secret_env": "TOKEN=first"})
	w.updates(t, fields{"image": "portolan.dev/demo:2"}).ends(t, "succeeded")
	if image := w.deployment(t).Spec.Template.Spec.Containers[0].Image; image != "portolan.dev/demo:2" {
		t.Fatalf("updated to %s", image)
	}
	for _, bad := range []string{"", "0", "x", "99"} {
		expect(t, w.act(t, "rollback", fields{"release": bad}), http.StatusUnprocessableEntity)
	}
	expect(t, w.act(t, "rollback", fields{"release": "2"}), http.StatusConflict) // the present one
	ended := w.did(t, "rollback", fields{"release": "1"})
	if !ended.says("release 1") {
		t.Errorf("the operation does not say where it went: %s", clipped(ended.text()))
	}
	d := w.deployment(t)
	if image := d.Spec.Template.Spec.Containers[0].Image; image != "portolan.dev/demo:1" {
		t.Errorf("rolled back to %s", image)
	}
	if release := d.Annotations["portolan.dev/release"]; release != "3" {
		t.Errorf("the Deployment is of release %q, want 3", release)
	}
}
