package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"portolan/internal/clustertest"
)

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
		if d := w.deployment(t); !completed(d) {
			_, state := settled(d)
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

// A namespace that has just been made has no service account yet, without which
// the API server lets nobody make pods there.
func TestADeployWaitsForTheAccountOfItsNamespace(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	for _, kind := range []string{"deployment", "statefulset"} {
		// As if the controller that makes the account had not come to it.
		quotas, accounts := pl.kubectl.CoreV1().ResourceQuotas(pl.namespace), pl.kubectl.CoreV1().ServiceAccounts(pl.namespace)
		none := &core.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: "no-accounts"},
			Spec:       core.ResourceQuotaSpec{Hard: core.ResourceList{"count/serviceaccounts": resource.MustParse("0")}},
		}
		if _, err := quotas.Create(t.Context(), none, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "no account to be there", func() (bool, string) {
			if err := accounts.Delete(t.Context(), "default", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return false, err.Error()
			}
			_, err := accounts.Create(t.Context(), &core.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
			if !apierrors.IsForbidden(err) {
				return false, fmt.Sprint(err)
			}
			// The controller may have made it just before the quota counted.
			_, err = accounts.Get(t.Context(), "default", metav1.GetOptions{})
			return apierrors.IsNotFound(err), fmt.Sprint(err)
		})
		op := pl.begin(t, pl.draft(clustertest.UniqueName("demo"), fields{"workload_kind": kind}))
		eventually(t, patience, "a refusal to make pods", func() (bool, string) {
			events, err := pl.kubectl.CoreV1().Events(pl.namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			refused := slices.ContainsFunc(events.Items, func(e core.Event) bool { return e.Reason == "FailedCreate" })
			return refused, op.state(t)
		})
		holds(t, 5*time.Second, "no failure by what mends itself", func() (bool, string) {
			p := op.page(t)
			return op.stateOf(p) == "running", clipped(p.text())
		})
		if err := quotas.Delete(t.Context(), none.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "the account", func() (bool, string) {
			_, err := accounts.Create(t.Context(), &core.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
			return err == nil || apierrors.IsAlreadyExists(err), fmt.Sprint(err)
		})
		op.ends(t, "succeeded")
		if err := pl.kubectl.CoreV1().Events(pl.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
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
