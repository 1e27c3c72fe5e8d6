package postgres_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"portolan/internal/fleet"
)

func TestB8TestsAreDueAfterTheInterval(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, id := range []string{"due", "fresh", "disabled", "changed", "untested", "running"} {
		b.cluster(id)
		if id != "untested" {
			b.tested(id, fleet.TestOK)
		}
	}
	b.exec(`UPDATE clusters SET tested_at = now() - interval '11 minutes' WHERE id <> 'fresh'`)
	b.must(b.SetEnabled(t.Context(), "disabled", false, fleet.AuditEntry{}))
	b.must(b.SetCredentialHash(t.Context(), "changed", "changed", "other", fleet.CredentialFacts{}))
	_, err := b.BeginTest(t.Context(), fleet.ConnectionTest{ClusterID: "running", StartedAt: time.Now(), Deadline: time.Hour})
	b.must(err)
	due, err := b.DueTests(t.Context(), 10*time.Minute, 0)
	b.must(err)
	if want := []fleet.DueTest{{ClusterID: "changed"}, {ClusterID: "due"}}; !slices.Equal(due, want) {
		t.Fatalf("due: %v", due)
	}
	b.cluster("failed")
	b.tested("failed", fleet.TestFailed)
	b.exec(`UPDATE clusters SET tested_at = now() - interval '10 minutes 30 seconds' WHERE id = 'failed'`)
	due, err = b.DueTests(t.Context(), 10*time.Minute, 2)
	b.must(err)
	if want := []fleet.DueTest{{ClusterID: "changed"}, {ClusterID: "failed"}}; !slices.Equal(due, want) {
		t.Fatalf("due first: %v", due)
	}
	b.exec(`DELETE FROM clusters WHERE id = 'failed'`)

	// Who asks for a test that is not wanted yet is named with it.
	b.must(b.WantTests(t.Context(), []string{"due", "fresh"}, "first@example.org"))
	b.must(b.WantTests(t.Context(), []string{"due", "changed"}, "second@example.org"))
	due, err = b.DueTests(t.Context(), 10*time.Minute, 0)
	b.must(err)
	by := map[string]string{}
	for _, d := range due {
		by[d.ClusterID] = d.By
	}
	if want := map[string]string{"due": "first@example.org", "fresh": "first@example.org", "changed": "second@example.org"}; !maps.Equal(by, want) {
		t.Fatalf("who asked: %v", by)
	}
}

// What a watch hears of a cluster is a reason to test it when the latest test says
// otherwise, a minute after that at the earliest.
func TestAClusterIsDueWhenItsWatchSaysOtherwise(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	b.running("c1", "web")
	due := func(when string, want bool) {
		t.Helper()
		ids, err := b.DueTests(t.Context(), time.Hour, 0)
		b.must(err)
		if (len(ids) == 1) != want {
			t.Errorf("%s is due: %v", when, ids)
		}
	}
	breaks := func() { b.must(b.MarkBroken(t.Context(), holder, "c1", "apps", "no route to host")) }
	heals := func() { b.must(b.MarkAlive(t.Context(), holder, "c1", "apps", time.Now().Add(time.Hour))) } // however long this takes
	brokenFor := func(d time.Duration) { b.exec(`UPDATE observation_sources SET error_at = now() - $1::interval`, d) }
	tested := func(state fleet.TestState, ago time.Duration) {
		b.tested("c1", state)
		b.exec(`UPDATE clusters SET tested_at = now() - $1::interval`, ago)
	}

	heals()
	due("one that was never tested", false)
	tested(fleet.TestOK, 2*time.Minute)
	due("one that passed and answers", false)
	breaks()
	brokenFor(-time.Hour)
	due("one whose watch has just broken", false)
	brokenFor(11 * time.Second)
	due("one whose watch is broken", true)
	tested(fleet.TestOK, 0)
	due("one that has just been tested", false)
	brokenFor(4 * time.Minute)
	tested(fleet.TestOK, 2*time.Minute)
	due("one that passed all the same", false)
	tested(fleet.TestFailed, 2*time.Minute)
	due("one that failed as well", false)

	heals()
	due("one that could not be reached and is heard again", true)
	tested(fleet.TestFailed, 0)
	due("one that has just failed again", false)
	tested(fleet.TestFailed, 2*time.Minute)
	due("one that still could not be reached", true)
	b.exec(`UPDATE connection_tests SET checks = replace(checks::text, '"connect"', '"permissions"')::jsonb`)
	due("one that lacks permissions", false)
	b.exec(`UPDATE connection_tests SET checks = replace(checks::text, '"permissions"', '"tls"')::jsonb`)
	b.exec(`UPDATE observation_sources SET alive_at = now() - interval '1 minute'`)
	due("one that nobody watches any more", false)
}

func TestATestIsWantedUntilItsResultIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.cluster("c1")
	due := func(want bool) {
		t.Helper()
		ids, err := b.DueTests(t.Context(), time.Hour, 0)
		b.must(err)
		if (len(ids) == 1) != want {
			t.Fatalf("due: %v", ids)
		}
	}
	begin := func(c fleet.Cluster) fleet.ConnectionTest {
		t.Helper()
		test := fleet.ConnectionTest{ClusterID: "c1", Fingerprint: c.Fingerprint(), StartedAt: time.Now(), Deadline: time.Hour}
		var err error
		test.ID, err = b.BeginTest(t.Context(), test)
		b.must(err)
		due(false) // it runs
		return test
	}
	due(false)

	// Its process gives it up, and the next one dies.
	b.must(b.DropTest(t.Context(), begin(c)))
	due(true)
	if tests, err := b.Tests(t.Context(), "c1", 10); err != nil || len(tests) != 0 {
		t.Fatalf("tests %v, %v", tests, err)
	}
	begin(c)
	b.exec(`UPDATE connection_tests SET started_at = now() - interval '2 hours'`)
	due(true)
	b.tested("c1", fleet.TestOK)
	due(false)

	// Who asked for the last one did not ask for what is due by itself.
	b.must(b.DropTest(t.Context(), begin(c)))
	if all, err := b.DueTests(t.Context(), time.Hour, 0); err != nil || len(all) != 1 || all[0].By != "" {
		t.Fatalf("due: %v, %v", all, err)
	}
	b.tested("c1", fleet.TestOK)

	// A test that dies says nothing about the cluster.
	begin(c)
	b.exec(`UPDATE connection_tests SET started_at = now() - interval '2 hours'`)
	running := begin(c)
	if s := b.status("c1"); s.Verdict() != fleet.TestOK {
		t.Fatalf("verdict %s", s.Verdict())
	}

	// The file changes while a test of what it was runs.
	b.must(b.SetCredentialHash(t.Context(), "c1", "c1", "h2", fleet.CredentialFacts{}))
	running.State = fleet.TestOK
	b.must(b.SaveTest(t.Context(), running))
	due(true)

	// What a person saves waits for a person.
	c = b.status("c1").Cluster
	c.Namespace = "elsewhere"
	b.must(b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}))
	due(false)
	c = b.status("c1").Cluster
	running = begin(c)
	c.Namespace = "apps"
	b.must(b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}))
	running.State = fleet.TestOK
	b.must(b.SaveTest(t.Context(), running))
	due(false)
}
