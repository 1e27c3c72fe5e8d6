package e2e

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
)

// TestB7ThePublishedRoleIsEnoughForAFullLifeCycle: and no more than enough, by
// what is asked of the API servers.
func TestB7ThePublishedRoleIsEnoughForAFullLifeCycle(t *testing.T) {
	seen := &life{asked: map[fleet.Permission]bool{}}
	t.Cleanup(func() { // after those of each profile
		if !t.Failed() && seen.servers == len(profiles) { // not where only some were chosen
			seen.neededAll(t)
		}
	})
	onEach(t, func(t *testing.T, on profile) {
		exposure := "load-balancer"
		if on == real {
			exposure = "node-port"
		}
		pl := shared(t).confine(t, on, on.kubeconfig(t), fields{"exposure_mode": exposure})
		account := clustertest.AccountKubeconfig(t, on.kubeconfig(t), pl.namespace, "portolan")
		mayBecome(t, account, true, pl.namespace, "create", "apps", "deployments") // else it is refused at first
		recorder, through := clustertest.Record(t, account)
		pl.rotate(t, through)
		preview := expect(t, pl.post(t, "/deploy/preview", pl.draft(clustertest.UniqueName("demo"), nil)), http.StatusOK)
		if !preview.says("create") {
			t.Errorf("the preview: %s", clipped(preview.text()))
		}
		state := fields{
			"volumes": "data=/data 64Mi", "secret_env": "TOKEN=secret", "env": "A=1",
			"file_path_1": "/etc/demo/conf", "file_content_1": "a",
		}
		set := pl.draft(clustertest.UniqueName("set"), state.but(fields{"workload_kind": "statefulset"}))
		setDeploy := pl.begin(t, set)
		var doomed operation // why something fails is asked for, too
		lost := pl.draft(clustertest.UniqueName("lost"), fields{"image": "127.0.0.1:1/no/such:1"})
		if on == real {
			doomed = pl.begin(t, lost)
		}
		w := pl.deploy(t, state)
		w.becomes(t, "running")
		if on == real {
			w.open(t, w.path("/logs/stream?tail=1"), "").next(t, patience)
		}
		w.updates(t, fields{"env": "A=2", "file_content_1": "b"}).ends(t, "succeeded")
		w.did(t, "scale", fields{"replicas": "2"})
		w.did(t, "restart", nil)
		w.did(t, "stop", nil)
		w.did(t, "start", nil)
		w.did(t, "rollback", fields{"release": "1"})
		w.did(t, "redeploy", nil)
		w.did(t, "delete", fields{"confirm": w.name})
		setDeploy.ends(t, "succeeded")
		other := pl.workload(t, set["name"])
		other.did(t, "restart", nil)
		other.did(t, "stop", nil)
		other.did(t, "delete", fields{"confirm": other.name})
		if on == real {
			doomed.ends(t, "failed")
			last := pl.workload(t, lost["name"])
			last.did(t, "delete", fields{"confirm": last.name})
		} else {
			awaitsAddress(t, pl, recorder)
		}
		if left := pl.objects(t); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		seen.add(t, recorder, pl.namespace)
	})
}

// askedBeyond is what the connection test asks outside the cluster's namespaces,
// where a refusal only leaves something unknown: an address of a node, a default
// storage class, what enforces network policies.
var askedBeyond = []clustertest.Asked{
	{Resource: "nodes", Verb: "list"},
	{Group: "storage.k8s.io", Resource: "storageclasses", Verb: "list"},
	{Namespace: "kube-system", Group: "apps", Resource: "daemonsets", Verb: "list"},
	{Namespace: "kube-system", Resource: "namespaces", Verb: "get"}, // its UID, rather than that of a namespace of ours
	// What everybody may ask about themselves.
	{Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews", Verb: "create"},
	{Group: "authorization.k8s.io", Resource: "selfsubjectrulesreviews", Verb: "create"},
	{Group: "authentication.k8s.io", Resource: "selfsubjectreviews", Verb: "create"},
}

// life is what was asked of API servers in the namespaces of clusters.
type life struct {
	mu      sync.Mutex
	asked   map[fleet.Permission]bool
	servers int // those looked at
}

// add looks at what was asked of one API server: nothing may be missing in the
// table of permissions.
func (l *life) add(t *testing.T, recorder *clustertest.Recorder, namespace string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers++
	for a := range recorder.Asked() {
		at := slices.IndexFunc(fleet.Permissions, func(p fleet.Permission) bool {
			return a == clustertest.Asked{Namespace: namespace, Group: p.Group, Resource: p.Resource, Verb: p.Verb}
		})
		if at >= 0 {
			l.asked[fleet.Permissions[at]] = true
		} else if !slices.Contains(askedBeyond, a) {
			t.Errorf("asked for, and not in the table: %+v", a)
		}
	}
	for a := range recorder.Refused() {
		if !slices.Contains(askedBeyond, a) {
			t.Errorf("refused: %+v", a)
		}
	}
}

// awaitsAddress deploys what waits for the address of a load balancer, and gives
// up when it is watched for.
func awaitsAddress(t *testing.T, pl *place, recorder *clustertest.Recorder) {
	t.Helper()
	form := pl.draft(clustertest.UniqueName("late"), fields{"service_annotations": balancerDelay + "=never"})
	op := pl.begin(t, form)
	eventually(t, 2*patience, "a watch for the address", func() (bool, string) {
		return recorder.Asked()[clustertest.Asked{Namespace: pl.namespace, Resource: "services", Verb: "watch"}], clipped(op.page(t).text())
	})
	expect(t, pl.post(t, op.path()+"/cancel", nil), http.StatusSeeOther)
	op.ends(t, "cancelled")
	w := pl.workload(t, form["name"])
	w.did(t, "delete", fields{"confirm": w.name})
}

// neededAll reports what stands in the table and is never asked for.
func (l *life) neededAll(t *testing.T) {
	for _, p := range fleet.Permissions {
		if !l.asked[p] && p.Feature == "" {
			t.Errorf("in the table, and never asked for: %s", p)
		}
	}
}
