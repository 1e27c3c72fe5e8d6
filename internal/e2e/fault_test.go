package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"portolan/internal/clustertest"
)

func TestB9WithoutAClusterItServesAndSaysSo(t *testing.T) {
	t.Parallel()
	p := separate(t, nil)
	p.worker(t)
	for _, path := range []string{"/", "/admin/clusters", "/admin/clusters/new", "/workloads", "/operations", "/healthz", "/readyz"} {
		p.read(t, path)
	}
	for _, answer := range []*page{
		p.get(t, "/deploy"),
		p.post(t, "/deploy", fields{"target": "k8s:nowhere", "runtime": "container", "name": "x", "image": "x"}),
	} {
		expect(t, answer, http.StatusServiceUnavailable)
		if !answer.says("deploy requires Kubernetes") {
			t.Errorf("%s does not say “deploy requires Kubernetes”: %s", answer.request, clipped(answer.text()))
		}
	}
}

// unknownAfter is when silence makes a workload's state unknown.
const unknownAfter = 30 * time.Second

func TestB23AnUnreachableClusterIsUnknownAndHeals(t *testing.T) {
	t.Parallel()
	p := shared(t)
	for _, fault := range []struct {
		name   string
		breaks func(*clustertest.FaultProxy)
	}{
		{"black hole", (*clustertest.FaultProxy).BlackHole},
		{"reset", (*clustertest.FaultProxy).Reset},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			proxy, through := clustertest.ThroughProxy(t, real.kubeconfig(t))
			pl := p.stake(t, real, through, nil)
			pl.test(t, "ok")
			running, stopped := pl.deploy(t, fields{"replicas": "2"}), pl.deploy(t, nil)
			stopped.did(t, "stop", nil)
			watch := p.open(t, running.path("/stream"), "")

			fault.breaks(proxy)
			eventually(t, unknownAfter+patience, "unknown", func() (bool, string) {
				asked := time.Now()
				page, markers := running.page(t)
				answered := time.Now()
				seen := lastSeen(t, page)
				switch markers["phase"] {
				case "unknown":
					if age := answered.Sub(seen); age < unknownAfter {
						t.Errorf("unknown %v after the last proof of life", age)
					}
					return true, ""
				case "running":
					if age := asked.Sub(seen.Add(time.Second)); age > unknownAfter { // a page shows whole seconds
						t.Errorf("running %v after the last proof of life", age)
					}
				default:
					t.Errorf("after the break it is %s", markers["phase"])
				}
				return false, markers["phase"]
			})
			_, markers := running.page(t)
			if markers["desired"] != "2" || markers["ready"] != "2" {
				t.Errorf("the last observation is not shown: %v", markers)
			}
			stopped.becomes(t, "unknown") // it was seen to be stopped, and may not be any more
			watch.until(t, patience, "unknown on the open stream", func(m message) bool {
				return running.markers(m.fragment())["phase"] == "unknown"
			})

			// B9: nothing is begun on a cluster that cannot be reached, once whoever
			// watches it says so.
			eventually(t, patience, "the watch to be known as broken", func() (bool, string) {
				answer := running.get(t, running.path("/logs"))
				return answer.status == http.StatusServiceUnavailable, clipped(answer.text())
			})
			for verb, form := range map[string]fields{
				"stop": nil, "restart": nil, "redeploy": nil, "scale": {"replicas": "1"},
				"rollback": {"release": "1"}, "delete": {"confirm": running.name},
			} {
				expect(t, running.act(t, verb, form), http.StatusServiceUnavailable)
			}
			expect(t, stopped.act(t, "start", nil), http.StatusServiceUnavailable)
			if s, status, err := running.tryOpen(running.path("/logs/stream"), ""); err != nil || s != nil || status != http.StatusServiceUnavailable {
				t.Errorf("the log stream: %d %v, want 503", status, err)
			}
			for _, path := range []string{"/workloads", "/", pl.path("")} {
				// On a busy machine any page may be late, but not each time.
				eventually(t, patience, path+" without waiting for the cluster", func() (bool, string) {
					begun := time.Now()
					p.read(t, path)
					took := time.Since(begun)
					return took < 2*time.Second, took.String()
				})
			}

			// Its last test had passed, and the next would be long in coming.
			eventually(t, patience, "no offer of what does not answer", func() (bool, string) { return !pl.offered(t), "offered" })

			proxy.Restore()
			running.becomes(t, "running")
			stopped.becomes(t, "stopped")
			watch.until(t, patience, "running again on the open stream", func(m message) bool {
				return running.markers(m.fragment())["phase"] == "running"
			})
			running.did(t, "scale", fields{"replicas": "1"}) // what the page shows, verbs go by
			eventually(t, patience, "an offer of what answers again", func() (bool, string) { return pl.offered(t), pl.testState(t) })
		})
	}
}

// lastSeen is the time of the last proof of life that a workload's page shows.
func lastSeen(t testing.TB, p *page) time.Time {
	t.Helper()
	times := elements(p.one("aria-label", "Phase"), "time")
	if len(times) == 0 {
		t.Fatalf("%s does not show the age of the last observation", p.request)
	}
	at, err := time.Parse(time.RFC3339, attr(times[len(times)-1], "datetime"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Each step of a deploy is held open, the worker is killed within it, and
// another one has to bring the operation to its one end.
func TestB24AKilledWorkerIsReplacedAtEachStep(t *testing.T) {
	t.Parallel()
	p := separate(t, nil)

	for _, step := range []struct {
		name string
		// shuts tells by which requests the step, and no step before it, is held.
		shuts   func(r *http.Request, namespace, name string) bool
		changes fields
		release func(t *testing.T, w *held) // instead of lifting what is shut
	}{
		{name: "namespace", shuts: func(r *http.Request, _, _ string) bool {
			return r.Method == http.MethodPost && r.URL.Path == "/api/v1/namespaces"
		}},
		{name: "objects", shuts: func(r *http.Request, namespace, _ string) bool {
			return r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/apis/apps/v1/namespaces/"+namespace+"/deployments")
		}},
		{name: "rollout", shuts: looks},
		{name: "address", changes: fields{"service_annotations": balancerDelay + "=never"},
			release: func(t *testing.T, w *held) {
				annotate := []byte(`{"metadata":{"annotations":{"` + balancerDelay + `":"0s"}}}`)
				if _, err := w.kubectl.CoreV1().Services(w.namespace).Patch(t.Context(), w.name, types.MergePatchType, annotate, metav1.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(step.name, func(t *testing.T) {
			// One after the other: a kill ends the worker of all operations.
			g := newGate(t, real.kubeconfig(t))
			absent := clustertest.UniqueName("absent")
			pl := p.stake(t, real, g.kubeconfig, fields{"exposure_mode": "load-balancer", "namespace": absent})
			clustertest.DeleteNamespace(t, pl.kubectl, absent)
			pl.test(t, "ok")
			worker := p.worker(t)
			w := &held{pl, clustertest.UniqueName("demo")}

			if step.shuts != nil {
				g.shut(func(r *http.Request) bool { return step.shuts(r, absent, w.name) })
			}
			op := pl.begin(t, pl.draft(w.name, step.changes.but(fields{"replicas": "2"})))
			op.reaches(t, step.name, "running")
			worker.kill()
			if got := op.step(op.page(t), step.name); got != "running" {
				t.Fatalf("killed when the step was %s: the test did not hold it", got)
			}
			if step.shuts != nil {
				g.lift()
			}
			if step.release != nil {
				step.release(t, w)
			}
			p.worker(t)
			ended := op.ends(t, "succeeded")
			w.endedOnce(t, op, ended)
		})
	}
}

// looks tells by which requests a step follows the rollout of a workload; an
// observer follows all of a namespace at once.
func looks(r *http.Request, namespace, name string) bool {
	return r.URL.Path == "/apis/apps/v1/namespaces/"+namespace+"/deployments" && r.URL.Query().Get("fieldSelector") == "metadata.name="+name
}

// held is a workload whose deploy is held open.
type held struct {
	*place
	name string
}

// endedOnce checks that a deploy that was taken over left everything once.
func (h *held) endedOnce(t *testing.T, op operation, ended *page) {
	t.Helper()
	steps := ended.with("data-step")
	if len(steps) != 4 {
		t.Errorf("%d steps, want 4", len(steps))
	}
	for _, step := range steps {
		if state := attr(step, "data-state"); state != "succeeded" && state != "skipped" {
			t.Errorf("step %s is %s", attr(step, "data-step"), state)
		}
	}
	events := op.record(t)
	w := h.workload(t, h.name)
	if ok, state := settled(w.deployment(t)); !ok {
		t.Errorf("it ended with %s", state)
	}
	sets, err := h.kubectl.AppsV1().ReplicaSets(h.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(sets.Items) != 1 {
		t.Errorf("%d ReplicaSets, want one: the pods were rolled again", len(sets.Items))
	}
	count := map[string]int{}
	for _, object := range h.objects(t) {
		kind, _, _ := strings.Cut(object, "/")
		count[kind]++
	}
	if count["Deployment"] != 1 || count["Service"] != 1 || count["Pod"] != 2 {
		t.Errorf("made: %v", count)
	}
	if list := h.read(t, "/workloads?q="+h.name); len(list.with("data-workload")) != 1 {
		t.Errorf("the list has it %d times", len(list.with("data-workload")))
	}
	// It stays ended, and the workload is free for the next action.
	if now := op.record(t); now != events || op.state(t) != "succeeded" {
		t.Error("the operation went on after its end")
	}
	w.didOnceSeen(t, "stop", nil)
}

// didOnceSeen is did for a cluster that nobody may have looked at for a while,
// since a worker was killed.
func (w *workload) didOnceSeen(t testing.TB, verb string, form fields) {
	t.Helper()
	var answer *page
	eventually(t, patience, "the cluster to be seen again", func() (bool, string) {
		answer = w.act(t, verb, form)
		return answer.status != http.StatusServiceUnavailable, clipped(answer.text())
	})
	w.operationAt(t, expect(t, answer, http.StatusSeeOther).location()).ends(t, "succeeded")
}

// “portolan serve” is killed with its own database in the middle of a deploy.
func TestB24AKilledServeRecoversItsDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &portolan{name: t.Name(), dir: dir, env: settings(dir)}
	if err := p.begin("serve"); err != nil {
		t.Fatal(err)
	}
	killed := p.web
	t.Cleanup(func() { endProcess(t, killed) })
	g := newGate(t, real.kubeconfig(t))
	pl := p.stake(t, real, g.kubeconfig, nil)
	pl.test(t, "ok")
	name := clustertest.UniqueName("demo")
	g.shut(func(r *http.Request) bool { return looks(r, pl.namespace, name) })
	op := pl.begin(t, pl.draft(name, fields{"replicas": "2"}))
	op.reaches(t, "rollout", "running")
	killed.kill()
	g.lift()

	if err := p.begin("serve"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProcess(t, p.web) })
	op.portolan, pl.portolan = p, p
	ended := op.ends(t, "succeeded")
	(&held{pl, name}).endedOnce(t, op, ended)
}
