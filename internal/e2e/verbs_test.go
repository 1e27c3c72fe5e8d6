package e2e

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"portolan/internal/clustertest"
)

// slowToEnd is a container that takes three seconds to end when asked to.
var slowToEnd = fields{
	"command": "/bin/sh\n-c\ntrap 'sleep 3; exit 0' TERM; while :; do sleep 0.1; done",
	"ports":   "",
}

// The clusters' load-balancer controller reads this annotation of a Service:
// how long an address takes to come.
const balancerDelay = "devcluster.portolan.dev/lb-delay"

func TestB10SuccessMeansRolledOutAndReachable(t *testing.T) {
	onEach(t, func(t *testing.T, on profile) {
		pl := shared(t).settle(t, on, fields{"exposure_mode": "load-balancer"})
		form := pl.draft(clustertest.UniqueName("demo"), probed.but(fields{
			"replicas": "2", "env": "START_DELAY=2s", "service_annotations": balancerDelay + "=never",
		}))
		op := pl.begin(t, form)
		op.reaches(t, "address", "running")
		w := pl.workload(t, form["name"])
		if ok, state := settled(w.deployment(t)); !ok {
			t.Errorf("the rollout step ended with %s", state)
		}
		holds(t, 2*time.Second, "no success without an address", func() (bool, string) {
			p := op.page(t)
			_, markers := w.page(t)
			return op.stateOf(p) == "running" && markers["phase"] == "deploying", op.stateOf(p) + ", " + markers["phase"]
		})
		annotate := []byte(`{"metadata":{"annotations":{"` + balancerDelay + `":"0s"}}}`)
		if _, err := pl.kubectl.CoreV1().Services(pl.namespace).Patch(t.Context(), w.name, types.MergePatchType, annotate, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		op.ends(t, "succeeded")
		ingress := w.service(t).Status.LoadBalancer.Ingress
		if len(ingress) == 0 {
			t.Fatal("success without an address")
		}
		p, markers := w.page(t)
		if markers["phase"] != "running" {
			t.Errorf("phase %s just after the success", markers["phase"])
		}
		if address := ingress[0].IP + ingress[0].Hostname; !p.says(address) {
			t.Errorf("the page does not show the address %s", address)
		}
	})
}

func TestB10NeverReadyIsNeverSuccess(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	form := pl.draft(clustertest.UniqueName("demo"), probed.but(fields{"health_path": "/no-such-page"}))
	op := pl.begin(t, form)
	op.reaches(t, "rollout", "running")
	w := pl.workload(t, form["name"])
	eventually(t, patience, "the pod to run", func() (bool, string) {
		pods := w.pods(t)
		return len(pods) == 1 && pods[0].Status.Phase == "Running", ""
	})
	holds(t, 3*time.Second, "no success while no pod is ready", func() (bool, string) {
		state := op.state(t)
		return state == "running", state
	})
	expect(t, w.act(t, "stop", nil), http.StatusConflict) // busy
	expect(t, pl.post(t, op.path()+"/cancel", nil), http.StatusSeeOther)
	op.ends(t, "cancelled")
	if phase := w.phase(t); phase == "running" {
		t.Error("running, though no pod is ready")
	}
}

// classes are two load-balancer classes of the profiles that have them.
var classes = map[string][2]string{
	"gke": {"networking.gke.io/l4-rbs", "networking.gke.io/l4-regional-internal"},
	"eks": {"eks.amazonaws.com/nlb", "service.k8s.aws/nlb"},
}

func TestB11ServicePerExposureMode(t *testing.T) {
	onEach(t, func(t *testing.T, on profile) {
		pl := shared(t).settle(t, on, nil)
		both := fields{"ports": "runtime=8080\ngateway=8081", "args": "--listen\n8080,8081"}
		w := pl.deploy(t, both)
		first := w.service(t)
		if first.Spec.Type != "ClusterIP" {
			t.Fatalf("cluster-ip made a %s", first.Spec.Type)
		}
		for _, port := range first.Spec.Ports {
			if port.NodePort != 0 {
				t.Errorf("cluster-ip has the node port %d", port.NodePort)
			}
		}

		// Fixed node ports; the second workload finds them taken.
		runtimePort, gatewayPort := nodePorts(t, pl)
		pl.edit(t, fields{
			"exposure_mode": "node-port", "runtime_host": "127.0.0.1",
			"runtime_node_port": strconv.Itoa(int(runtimePort)), "gateway_node_port": strconv.Itoa(int(gatewayPort)),
		})
		pl.test(t, "ok")
		w.updates(t, nil).ends(t, "succeeded")
		service := w.service(t)
		if service.UID != first.UID || service.Spec.Type != "NodePort" {
			t.Fatalf("an update made it a %s with the UID %s, which was %s", service.Spec.Type, service.UID, first.UID)
		}
		for _, port := range service.Spec.Ports {
			if want := map[string]int32{"runtime": runtimePort, "gateway": gatewayPort}[port.Name]; port.NodePort != want {
				t.Errorf("%s has the node port %d, not %d", port.Name, port.NodePort, want)
			}
		}
		form := pl.draft(clustertest.UniqueName("demo"), both)
		fellBack := pl.begin(t, form).ends(t, "succeeded")
		if !fellBack.says(strconv.Itoa(int(runtimePort))) {
			t.Errorf("it does not say that %d was taken: %s", runtimePort, clipped(fellBack.text()))
		}
		for _, port := range pl.workload(t, form["name"]).service(t).Spec.Ports {
			if port.NodePort == 0 || port.NodePort == runtimePort || port.NodePort == gatewayPort {
				t.Errorf("the second workload's %s has the node port %d", port.Name, port.NodePort)
			}
		}

		// A load balancer; annotations, ranges and class are there and only there.
		class := classes[on.name]
		pl.edit(t, fields{
			"exposure_mode": "load-balancer", "service_annotations": `{"example.com/internal": "true"}`,
			"source_ranges": "10.0.0.0/8, 192.0.2.0/24", "load_balancer_class": class[0],
		})
		pl.test(t, "ok")
		w.updates(t, nil).ends(t, "succeeded")
		balanced := w.service(t)
		if balanced.UID != first.UID || balanced.Spec.Type != "LoadBalancer" {
			t.Fatalf("an update made it a %s with the UID %s", balanced.Spec.Type, balanced.UID)
		}
		if balanced.Annotations["example.com/internal"] != "true" || strings.Join(balanced.Spec.LoadBalancerSourceRanges, " ") != "10.0.0.0/8 192.0.2.0/24" {
			t.Errorf("annotations %v, ranges %v", balanced.Annotations, balanced.Spec.LoadBalancerSourceRanges)
		}
		if got := balanced.Spec.LoadBalancerClass; (got == nil) != (class[0] == "") || got != nil && *got != class[0] {
			t.Errorf("class %v, want %q", got, class[0])
		}
		if class[1] != "" {
			pl.edit(t, fields{"load_balancer_class": class[1]})
			pl.test(t, "ok")
			w.updates(t, nil).ends(t, "succeeded")
			if now := w.service(t); now.UID != first.UID || now.Spec.LoadBalancerClass == nil || *now.Spec.LoadBalancerClass != class[1] {
				t.Errorf("another class: %v, UID %s, which was %s", now.Spec.LoadBalancerClass, now.UID, first.UID)
			}
		}
		// And back, by a redeploy.
		pl.edit(t, fields{"exposure_mode": "cluster-ip"})
		pl.test(t, "ok")
		w.did(t, "redeploy", nil)
		last := w.service(t)
		if last.Spec.Type != "ClusterIP" || last.Annotations["example.com/internal"] != "" || len(last.Spec.LoadBalancerSourceRanges) > 0 || last.Spec.LoadBalancerClass != nil {
			t.Errorf("cluster-ip again: %+v %v", last.Spec, last.Annotations)
		}
	})
}

// nodePorts returns two node ports that nothing on the cluster has.
func nodePorts(t testing.TB, pl *place) (runtime, gateway int32) {
	t.Helper()
	services, err := pl.kubectl.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	taken := map[int32]bool{}
	for _, s := range services.Items {
		for _, p := range s.Spec.Ports {
			taken[p.NodePort] = true
		}
	}
	// Kubernetes hands out ports from the upper part of the range by itself.
	free := func() int32 {
		for p := int32(30001); p < 30086; p++ {
			if !taken[p] {
				taken[p] = true
				return p
			}
		}
		t.Fatal("no free node port")
		return 0
	}
	return free(), free()
}

func TestB13StoppedMeansNothingRuns(t *testing.T) {
	onEach(t, func(t *testing.T, on profile) {
		pl := shared(t).settle(t, on, nil)
		w := pl.deploy(t, slowToEnd.but(fields{"replicas": "2", "ports": "http=8080"}))
		deployment, service := w.deployment(t), w.service(t)

		op := w.does(t, "stop", nil)
		sawPods := false
		eventually(t, patience, "the end of the stop", func() (bool, string) {
			_, markers := w.page(t)
			left := len(w.pods(t))
			sawPods = sawPods || left > 0 && markers["phase"] == "stopping"
			if markers["phase"] == "stopped" && left > 0 {
				t.Errorf("stopped is shown while %d pods remain", left)
			}
			return markers["phase"] == "stopped", markers["phase"]
		})
		op.ends(t, "succeeded")
		if on == real && !sawPods {
			t.Error("the pods' slow end was not seen, so nothing was shown")
		}
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

func TestB16RedeployAndDelete(t *testing.T) {
	onEach(t, func(t *testing.T, on profile) {
		pl := shared(t).settle(t, on, nil)
		w := pl.deploy(t, fields{
			"env": "GREETING=hello", "secret_env": "TOKEN=s3cret", "file_path_1": "/etc/demo/settings", "file_content_1": "a=b",
		})
		before := w.deployment(t)
		w.did(t, "redeploy", nil)
		list, err := pl.kubectl.AppsV1().Deployments(pl.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].UID == before.UID {
			t.Errorf("after the redeploy there are %d Deployments, of the old UID: %v", len(list.Items), list.Items[0].UID == before.UID)
		}
		if len(pl.objects(t)) < 5 {
			t.Errorf("after the redeploy there are only %v", pl.objects(t))
		}

		if answer := w.act(t, "delete", fields{"confirm": "wrong"}); answer.status != http.StatusUnprocessableEntity {
			t.Errorf("delete without the name typed: %d, want 422", answer.status)
		}
		ended := w.did(t, "delete", fields{"confirm": w.name})
		if left := pl.objects(t); len(left) > 0 {
			t.Errorf("left after the delete: %v", left)
		}
		expect(t, w.get(t, w.path("")), http.StatusNotFound)
		if !ended.says(w.name) {
			t.Error("the operation's page does not outlive the workload")
		}
	})
}

func TestB16DeleteOfWhatIsGoneSucceeds(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, nil)
	if err := pl.kubectl.AppsV1().Deployments(pl.namespace).Delete(t.Context(), w.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pl.kubectl.CoreV1().Services(pl.namespace).Delete(t.Context(), w.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// Somebody else's object has taken the name meanwhile.
	foreign := &apps.Deployment{}
	foreign.Name, foreign.Labels = w.name, map[string]string{"app": "somebody-else"}
	foreign.Spec.Selector = &metav1.LabelSelector{MatchLabels: foreign.Labels}
	foreign.Spec.Template.Labels = foreign.Labels
	foreign.Spec.Template.Spec = w.podSpec()
	eventually(t, patience, "the Deployment to go", func() (bool, string) {
		_, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Get(t.Context(), w.name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), ""
	})
	made, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := w.did(t, "delete", fields{"confirm": w.name})
	if !ended.says("Deployment/" + w.name) {
		t.Errorf("it does not say that Deployment/%s was left alone: %s", w.name, clipped(ended.text()))
	}
	if now := w.deployment(t); now.UID != made.UID || now.Generation != made.Generation {
		t.Error("somebody else's Deployment was touched")
	}
}

func TestB16KeptVolumes(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	for _, keep := range []string{"true", ""} {
		w := pl.deploy(t, fields{"volumes": "data=/data 64Mi"})
		w.did(t, "redeploy", nil)
		w.did(t, "delete", fields{"confirm": w.name, "keep_volumes": keep})
		_, err := pl.kubectl.CoreV1().PersistentVolumeClaims(pl.namespace).Get(t.Context(), w.name+"-data", metav1.GetOptions{})
		if keep == "" && !apierrors.IsNotFound(err) {
			t.Errorf("the claim was not deleted: %v", err)
		}
		if keep != "" && err != nil {
			t.Errorf("the claim was not kept: %v", err)
		}
	}
}

func TestB17ObjectsOfOthersAreNeverTouched(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)

	t.Run("Deployment", func(t *testing.T) {
		t.Parallel()
		name := clustertest.UniqueName("taken")
		foreign := &apps.Deployment{}
		foreign.Name, foreign.Labels = name, map[string]string{"app": name}
		foreign.Spec.Selector = &metav1.LabelSelector{MatchLabels: foreign.Labels}
		foreign.Spec.Template.Labels = foreign.Labels
		foreign.Spec.Template.Spec = pl.podSpec()
		made, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pl.conflicts(t, name, "Deployment/"+name)
		now, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || now.UID != made.UID || now.Generation != made.Generation || !maps.Equal(now.Labels, made.Labels) {
			t.Errorf("it was touched: %v", err)
		}
	})
	t.Run("Service", func(t *testing.T) {
		t.Parallel()
		name := clustertest.UniqueName("taken")
		foreign := pl.foreignService(name)
		made, err := pl.kubectl.CoreV1().Services(pl.namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pl.conflicts(t, name, "Service/"+name)
		now, err := pl.kubectl.CoreV1().Services(pl.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || now.UID != made.UID || now.ResourceVersion != made.ResourceVersion {
			t.Errorf("it was touched: %v", err)
		}
	})
}

// conflicts deploys under a name that is taken, and checks that it fails with
// a conflict that names the object.
func (pl *place) conflicts(t *testing.T, name, object string) {
	t.Helper()
	ended := pl.begin(t, pl.draft(name, nil)).ends(t, "failed")
	if !ended.says("conflict", object) {
		t.Errorf("it does not say conflict and %s: %s", object, clipped(ended.text()))
	}
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
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, nil)
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

func TestB16AForbiddenDeleteFailsAndKeepsTheRow(t *testing.T) {
	t.Parallel()
	raw := real.kubeconfig(t)
	kubectl := clustertest.Client(t, raw)
	namespace := clustertest.Namespace(t, kubectl)
	role := &rbac.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "worker"},
		Rules:      []rbac.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}},
	}
	if _, err := kubectl.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbac.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "worker"},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: "worker"},
		Subjects:   []rbac.Subject{{Kind: rbac.ServiceAccountKind, Name: "worker", Namespace: namespace}},
	}
	if _, err := kubectl.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pl := shared(t).stake(t, real, clustertest.AccountKubeconfig(t, raw, namespace, "worker"), fields{"namespace": namespace})
	pl.test(t, "ok")
	w := pl.deploy(t, nil)

	// From now on Services may not be deleted.
	role.Rules = []rbac.PolicyRule{
		{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch", "create", "patch", "update"}},
		{APIGroups: []string{"apps"}, Resources: []string{"*"}, Verbs: []string{"*"}},
	}
	if _, err := kubectl.RbacV1().Roles(namespace).Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ended := w.does(t, "delete", fields{"confirm": w.name}).ends(t, "failed")
	if !ended.says("Service/"+w.name) || !ended.says("forbid") {
		t.Errorf("it does not name what was forbidden: %s", clipped(ended.text()))
	}
	w.read(t, w.path("")) // the row is kept
	role.Rules = []rbac.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}
	if _, err := kubectl.RbacV1().Roles(namespace).Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.did(t, "delete", fields{"confirm": w.name})
	pl.namespace = namespace
	for _, object := range pl.objects(t) {
		if !strings.HasPrefix(object, "Secret/") { // the service account's, if any
			t.Errorf("left after the delete: %s", object)
		}
	}
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
