package registry_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/postgres"
	"portolan/internal/registry"
)

func TestATestThatIsCutShortSaysNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	first := b.another()
	b.must(first.StartTest(t.Context(), admin, "c1"))
	b.begun()
	wantCode(t, b.StartTest(t.Context(), admin, "c1"), fleet.CodeConflict) // one runs already
	b.wantRefused("cluster.test", "cluster/c1", "already running")
	first.Close() // the process shuts down
	if s := b.status("c1"); !s.IsTarget() || s.Running {
		t.Fatalf("%s, running %t", s.WhyNotTarget(), s.Running)
	}
	b.poll() // another makes up for it
	b.begun()
	b.tester.end <- fleet.TestFailed
	b.until("the result is there", func() bool { s := b.status("c1"); return s.WhyNotTarget() == "failed at connect" })
	b.wantAskedBy(admin.Email, "c1")
}

func TestAllAreTestedHoweverLittleRoomThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *registry.Options) { o.MaxTests = 3 })
	for i := range 5 {
		b.register(fmt.Sprintf("c%d", i))
	}
	b.register("off", "enabled", "")
	n, err := b.TestAll(t.Context(), admin)
	b.must(err)
	if n != 5 {
		t.Fatalf("%d started", n)
	}
	b.begun()
	b.begun()
	// A test that somebody asks for does not wait for those.
	b.must(b.StartTest(t.Context(), admin, "off"))
	if r := b.begun(); r.Cluster.ID != "off" {
		t.Fatalf("test of %s", r.Cluster.ID)
	}
	b.poll()
	for range 6 {
		b.tester.end <- fleet.TestOK
	}
	b.until("all are targets", func() bool {
		all, err := b.db.AllClusters(t.Context())
		b.must(err)
		targets := 0
		for _, s := range all {
			if s.IsTarget() {
				targets++
			}
		}
		return targets == 5
	})
	b.wantAskedBy(admin.Email, "c0", "c1", "c2", "c3", "c4")
	b.until("no test is left", func() bool { s := b.status("off"); return s.TestState() == fleet.TestOK })
	select {
	case r := <-b.tester.began:
		if r.Cluster.ID == "off" {
			t.Fatal("a disabled cluster was tested by itself")
		}
	default:
	}
}

// interrupted is a Store in which something happens just before a credential is
// read for the first time.
type interrupted struct {
	*postgres.DB
	once *sync.Once
	by   func()
}

func (i interrupted) Credential(ctx context.Context, id string) (fleet.SealedCredential, error) {
	i.once.Do(i.by)
	return i.DB.Credential(ctx, id)
}

func TestATestIsOfARowAndItsOwnCredential(t *testing.T) {
	t.Parallel()
	b := setup(t)
	encrypted := []string{"credential_mode", "encrypted", "kubeconfig_path", "", "kubeconfig"}
	b.register("c1", append(encrypted, "one", "context", "allowed")...)
	replaced := b.another(func(o *registry.Options) {
		o.Store = interrupted{b.db, new(sync.Once), func() {
			_, err := b.Update(t.Context(), admin, "c1", form("c1", append(encrypted, "two", "context", "other", "version", "1")...))
			if err != nil {
				t.Error(err)
			}
		}}
	})
	b.must(replaced.StartTest(t.Context(), admin, "c1"))
	r := b.begun()
	b.tester.end <- fleet.TestOK
	if string(r.Kubeconfig) != "two" || r.Cluster.Context != "other" {
		t.Errorf("%s is tested with the context %s", r.Kubeconfig, r.Cluster.Context)
	}
	b.until("it counts for the present row", func() bool { s := b.status("c1"); return s.IsTarget() })
}

// stalling stores the progress of tests only when it is let.
type stalling struct {
	registry.Store
	let chan struct{}
}

func (s *stalling) SaveTest(ctx context.Context, t fleet.ConnectionTest) error {
	if t.State == fleet.TestRunning {
		<-s.let
	}
	return s.Store.SaveTest(ctx, t)
}

// A database that stalls takes nothing of the time that a cluster has to answer.
func TestATestDoesNotWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	let := make(chan struct{})
	slow := b.another(func(o *registry.Options) { o.Store = &stalling{b.db, let} })
	b.must(slow.StartTest(t.Context(), admin, "c1"))
	b.begun()
	select {
	case b.tester.end <- fleet.TestOK:
	case <-time.After(patience):
		t.Error("the test has stopped for the database")
	}
	close(let)
	b.until("the cluster is a target", func() bool { s := b.status("c1"); return s.IsTarget() })
}

// What a test that found something missing tells people to apply is for the
// identity that it was about, and for nobody else.
func TestB7TheManifestIsForWhomTheTestWasAbout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestFailed)
	for remedy, want := range map[string]string{
		"Look at the network.": "kind: Role for ", // such as of another cluster, which may say any name
		"Apply the manifest at " + fleet.ManifestPath("c1") + ".": "kind: Role for ana",
	} {
		_, err := b.db.Pool().Exec(t.Context(), `UPDATE connection_tests SET identity = 'ana', checks = jsonb_build_array(jsonb_build_object('stage', 'namespaces', 'state', 'failed', 'remedy', $1::text))`, remedy)
		b.must(err)
		if text, err := b.RBAC(t.Context(), "c1"); err != nil || string(text) != want {
			t.Errorf("after “%s”: %q, %v", remedy, text, err)
		}
	}
	_, err := b.db.Pool().Exec(t.Context(), `UPDATE connection_tests SET checks = jsonb_build_array(jsonb_build_object('state', 'failed', 'remedy', $1::text))`, fleet.ManifestPath("c1"))
	b.must(err)
	_, err = b.Update(t.Context(), admin, "c1", form("c1", "kubeconfig_path", "two", "version", "1"))
	b.must(err)
	if text, err := b.RBAC(t.Context(), "c1"); err != nil || string(text) != "kind: Role for " {
		t.Errorf("of another kubeconfig: %q, %v", text, err)
	}
}
