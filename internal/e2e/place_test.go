package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"portolan/internal/clustertest"
)

// profile is a kind of cluster that the facts are shown on.
type profile struct{ name, nodes string }

// real is the profile whose node runs containers.
var real = profile{"k3s", "containerd"}

// profiles are all of them, for the facts that must hold on each.
var profiles = []profile{real, {"aks", "kwok"}, {"gke", "kwok"}, {"eks", "kwok"}}

// onEach runs a test on every profile.
func onEach(t *testing.T, test func(t *testing.T, on profile)) {
	t.Parallel()
	for _, on := range profiles {
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			test(t, on)
		})
	}
}

var kubeconfigs struct {
	sync.Mutex
	raw map[profile][]byte
}

// kubeconfig returns an administrator's kubeconfig of the profile's cluster.
func (on profile) kubeconfig(t testing.TB) []byte {
	t.Helper()
	kubeconfigs.Lock()
	defer kubeconfigs.Unlock()
	if kubeconfigs.raw == nil {
		kubeconfigs.raw = map[profile][]byte{}
	}
	if kubeconfigs.raw[on] == nil {
		_, kubeconfigs.raw[on] = clustertest.Kubeconfig(t, on.name, on.nodes)
	}
	return kubeconfigs.raw[on]
}

// image is one that the profile's nodes can start.
func (on profile) image() string { return "portolan.dev/demo:1" }

// place is a cluster of a profile as one test has it: a row of its own in the
// registry and a namespace of its own.
type place struct {
	*portolan
	on        profile
	id        string
	kubectl   kubernetes.Interface // the test's own eyes, past Portolan
	namespace string
	form      fields // as it was registered
}

// settle makes a namespace on the profile's cluster, registers the cluster
// under a new id and waits until its test has passed.
func (p *portolan) settle(t testing.TB, on profile, changes fields) *place {
	t.Helper()
	pl := p.stake(t, on, on.kubeconfig(t), changes)
	pl.test(t, "ok")
	return pl
}

// stake registers the profile's cluster, with a kubeconfig that may lead there
// in another way, and does not test it.
func (p *portolan) stake(t testing.TB, on profile, kubeconfig []byte, changes fields) *place {
	t.Helper()
	pl := &place{portolan: p, on: on, id: clustertest.UniqueName(on.name), kubectl: clustertest.Client(t, on.kubeconfig(t))}
	if changes["namespace"] == "" {
		pl.namespace = clustertest.Namespace(t, pl.kubectl)
	} else {
		pl.namespace = changes["namespace"]
	}
	pl.mount(t, pl.id, kubeconfig)
	pl.form = fields{
		"id": pl.id, "label": "The " + pl.id, "provider": on.name, "cluster_name": "actual-" + on.name,
		"credential_mode": "mounted", "kubeconfig_path": pl.id,
		"namespace": pl.namespace, "exposure_mode": "cluster-ip", "enabled": "true",
	}.but(changes)
	answer := expect(t, p.post(t, "/admin/clusters", pl.form), http.StatusSeeOther)
	if want := "/admin/clusters/" + pl.id; answer.location() != want {
		t.Fatalf("registered, and sent to %s, not %s", answer.location(), want)
	}
	return pl
}

// mount writes a file into the folder of kubeconfigs, whole or not at all.
func (p *portolan) mount(t testing.TB, name string, raw []byte) {
	t.Helper()
	path := filepath.Join(p.kubeconfigs(), name)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// target is how forms name the place.
func (pl *place) target() string { return "k8s:" + pl.id }

// path is the address of the cluster's page, or of one below it.
func (pl *place) path(below string) string { return "/admin/clusters/" + pl.id + below }

// testState reads the state that the cluster's page shows.
func (pl *place) testState(t testing.TB) string {
	t.Helper()
	p := pl.read(t, pl.path(""))
	marked := p.one("data-cluster", pl.id)
	if marked == nil {
		t.Fatalf("%s: %d elements with data-cluster=%s, want one", p.request, len(p.with("data-cluster", pl.id)), pl.id)
	}
	return attr(marked, "data-test-state")
}

// test asks for a connection test and waits until it has ended as wanted.
func (pl *place) test(t testing.TB, want string) {
	t.Helper()
	expect(t, pl.post(t, pl.path("/test"), nil), http.StatusSeeOther)
	pl.tested(t, want)
}

// tested waits for the end of a test that is under way or about to begin.
func (pl *place) tested(t testing.TB, want string) {
	t.Helper()
	var last string
	eventually(t, patience, "the end of the test of "+pl.id, func() (bool, string) {
		last = pl.testState(t)
		return last == "ok" || last == "failed", last
	})
	if last != want {
		t.Fatalf("the test of %s: %s, want %s\n%s", pl.id, last, want, clipped(pl.read(t, pl.path("")).text()))
	}
}

// offered reports whether the Deploy page offers the place.
func (pl *place) offered(t testing.TB) bool {
	t.Helper()
	p := pl.get(t, "/deploy")
	if p.status != http.StatusOK && p.status != http.StatusServiceUnavailable {
		t.Fatalf("%s: %d", p.request, p.status)
	}
	return p.has("data-target", pl.target())
}

// edit opens the cluster's form, changes some of its fields and saves it.
func (pl *place) edit(t testing.TB, changes fields) {
	t.Helper()
	expect(t, pl.tryEdit(t, changes), http.StatusSeeOther)
}

func (pl *place) tryEdit(t testing.TB, changes fields) *page {
	t.Helper()
	return pl.post(t, pl.path(""), pl.editForm(t).but(changes))
}

func (pl *place) editForm(t testing.TB) fields {
	t.Helper()
	p := pl.read(t, pl.path("/edit"))
	form, ok := p.form(pl.path(""))
	if !ok {
		t.Fatalf("%s: no form that posts to %s", p.request, pl.path(""))
	}
	return form
}

// failedStage is the stage at which the latest test failed, with what its line
// says; "" = none.
func (pl *place) failedStage(t testing.TB) (stage, says string) {
	t.Helper()
	for _, n := range pl.read(t, pl.path("")).with("data-check-state", "failed") {
		return attr(n, "data-check"), textOf(n)
	}
	return "", ""
}

// operation is one operation by its page.
type operation struct {
	*portolan
	id string
}

func (p *portolan) operationAt(t testing.TB, location string) operation {
	t.Helper()
	var id string
	if _, err := fmt.Sscanf(location, "/operations/%s", &id); err != nil {
		t.Fatalf("sent to %q, not to an operation", location)
	}
	return operation{p, id}
}

func (o operation) path() string { return "/operations/" + o.id }

func (o operation) page(t testing.TB) *page {
	t.Helper()
	return o.read(t, o.path())
}

// stateOf reads the operation's state from its page or from a message of its
// stream; "" when there is none.
func (o operation) stateOf(p *page) string { return attr(p.one("data-operation", o.id), "data-state") }

func (o operation) state(t testing.TB) string {
	t.Helper()
	p := o.page(t)
	state := o.stateOf(p)
	if state == "" {
		t.Fatalf("%s does not carry data-operation exactly once", p.request)
	}
	return state
}

// step reads a step's state from the page.
func (o operation) step(p *page, name string) string {
	return attr(p.one("data-step", name), "data-state")
}

// ends waits for the operation's end, which must be as wanted, and returns its page.
func (o operation) ends(t testing.TB, want string) *page {
	t.Helper()
	return o.endsWithin(t, 3*patience, want)
}

func (o operation) endsWithin(t testing.TB, limit time.Duration, want string) *page {
	t.Helper()
	var last *page
	eventually(t, limit, "the end of "+o.path(), func() (bool, string) {
		last = o.page(t)
		switch o.stateOf(last) {
		case "succeeded", "failed", "cancelled":
			return true, ""
		}
		return false, clipped(last.text())
	})
	if got := o.stateOf(last); got != want {
		t.Fatalf("%s: %s, want %s\n%s", o.path(), got, want, clipped(last.text()))
	}
	return last
}

// reaches waits until a step of the operation is in a state.
func (o operation) reaches(t testing.TB, step, state string) {
	t.Helper()
	eventually(t, patience, o.path()+" at step "+step, func() (bool, string) {
		p := o.page(t)
		return o.step(p, step) == state, clipped(p.text())
	})
}

// record reads the stream of an operation that has ended, from its beginning,
// and returns how many events it has. They must be numbered without a gap.
func (o operation) record(t testing.TB) int {
	t.Helper()
	s := o.open(t, o.path()+"/stream", "")
	defer s.close()
	read := s.until(t, patience, "the end of the record", func(m message) bool { return m.name == "done" })
	for i, m := range read[:len(read)-1] {
		if m.id != strconv.Itoa(i+1) {
			t.Errorf("event %d of %s has the number %s", i+1, o.path(), m.id)
		}
	}
	return len(read) - 1
}
