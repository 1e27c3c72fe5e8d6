package postgres_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"portolan/internal/fleet"
)

// always is told with an observation that no operation's end makes outdated.
const always = math.MaxInt64

func TestObservationIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	want := seenRunning(w.ID)
	want.Generation, want.ObservedGeneration, want.Message, want.Reason = 7, 6, "waiting", "Waiting"
	want.Conditions = []fleet.Condition{{Type: "Available", Status: "False", Since: time.Now().UTC()}}
	b.must(b.SaveObservation(t.Context(), holder, want, always))
	got, err := b.Workload(t.Context(), w.ID)
	b.must(err)
	if d := cmp.Diff(&want, got.Observation, cmpopts.EquateApproxTime(time.Millisecond)); d != "" {
		t.Fatal(d)
	}
	if phase, reason := b.phase(w.ID); phase != fleet.PhaseDegraded || reason != "waiting" {
		t.Fatalf("phase %s %q", phase, reason)
	}
	gone := seenRunning("00000000-0000-0000-0000-000000000000")
	b.must(b.SaveObservation(t.Context(), holder, gone, always)) // dropped
}

func TestNobodyIsLedBackInTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	op, err := b.Begin(t.Context(), beginOf(w, fleet.VerbScale))
	b.must(err)
	_, err = b.Claim(t.Context(), op.ID, 1)
	b.must(err)

	ready := func() int32 {
		s, err := b.Workload(t.Context(), w.ID)
		b.must(err)
		return s.Observation.Ready
	}
	newer := seenRunning(w.ID)
	newer.Generation, newer.Ready = 5, 3
	b.must(b.SaveObservation(t.Context(), holder, newer, always))
	older := seenRunning(w.ID)
	older.Generation, older.Ready = 4, 1
	b.must(b.SaveObservation(t.Context(), holder, older, always))
	if ready() != 3 {
		t.Fatal("an older generation replaced a newer one")
	}
	// A watch may be late: what it stores is no newer for being stored later than
	// the last step of an operation looked.
	ended := func() int64 {
		t.Helper()
		list, err := b.Workloads(t.Context(), "c1", w.Namespace)
		b.must(err)
		return list[0].Ended
	}
	before := ended()
	step := newer
	step.SeenAt, step.Ready = newer.SeenAt.Add(-time.Second), 2
	b.must(b.Record(t.Context(), op.ID, 1, fleet.Change{Finish: fleet.OperationSucceeded, Observation: &step}))
	if ready() != 2 {
		t.Fatal("a watch's observation stayed after the operation had succeeded")
	}
	late := newer
	late.SeenAt, late.Ready = time.Now().Add(time.Hour), 1 // whatever a clock says
	if err := b.SaveObservation(t.Context(), holder, late, before); !errors.Is(err, fleet.ErrOutdated) || ready() != 2 {
		t.Fatalf("an observation from before the end of the operation: %v, ready %d", err, ready())
	}
	if before >= ended() {
		t.Fatalf("the operation's end is not told: %d, then %d", before, ended())
	}
	fresh := newer
	fresh.SeenAt, fresh.Ready = newer.SeenAt.Add(-time.Hour), 3
	b.must(b.SaveObservation(t.Context(), holder, fresh, ended()))
	if ready() != 3 {
		t.Fatal("an observation from after the end was refused")
	}

	// A step that fails looks for the causes after its last look.
	before = ended()
	op, err = b.Begin(t.Context(), beginOf(w, fleet.VerbScale))
	b.must(err)
	_, err = b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	if ended() != before {
		t.Fatal("an operation that has only begun is told as ended")
	}
	meanwhile := newer
	meanwhile.Ready = 1
	b.must(b.SaveObservation(t.Context(), holder, meanwhile, before))
	failure := fleet.Change{Finish: fleet.OperationFailed, Failure: &fleet.Failure{Message: "No."}, Observation: &step}
	b.must(b.Record(t.Context(), op.ID, 1, failure))
	if ready() != 1 {
		t.Fatal("the look of a step that failed replaced a later one")
	}
	if err := b.SaveObservation(t.Context(), holder, late, before); !errors.Is(err, fleet.ErrOutdated) {
		t.Fatalf("an observation from before the failure: %v", err)
	}
	remade := seenRunning(w.ID)
	remade.UID, remade.Generation, remade.Ready = "u2", 1, 4
	b.must(b.SaveObservation(t.Context(), holder, remade, always))
	if ready() != 4 {
		t.Fatal("a new object's observation was refused")
	}
}

func TestB23SilenceBecomesUnknownAndHeals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	busy := b.running("c1", "busy")
	_, err := b.Begin(t.Context(), beginOf(busy, fleet.VerbStop))
	b.must(err)
	failed, op := b.deploy("c1", "failed")
	_, err = b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	b.must(b.Record(t.Context(), op.ID, 1, fleet.Change{Finish: fleet.OperationFailed, Failure: &fleet.Failure{Message: "No."}}))

	check := func(when string, id string, want fleet.Phase) {
		t.Helper()
		phase, reason := b.phase(id)
		state, err := b.Workload(t.Context(), id)
		b.must(err)
		domain, why := fleet.PhaseOf(state.Operation, state.Observation, time.Now())
		if phase != want || domain != want || reason != why {
			t.Fatalf("%s: %s %q in the list, %s %q by the domain, want %s", when, phase, reason, domain, why, want)
		}
		counts, err := b.PhaseCounts(t.Context(), fleet.WorkloadFilter{Cluster: "c1"})
		b.must(err)
		page, err := b.ListWorkloads(t.Context(), fleet.WorkloadFilter{Phase: want})
		b.must(err)
		if counts[want] != len(page.Rows) || counts.All() != 3 {
			t.Fatalf("%s: counts %v, page %s", when, counts, names(page.Rows))
		}
	}
	check("fresh", w.ID, fleet.PhaseRunning)
	check("fresh", busy.ID, fleet.PhaseStopping)
	check("never seen", failed.ID, fleet.PhaseFailed)

	lastSeen := time.Now().Add(-time.Hour)
	b.exec(`UPDATE observations SET seen_at = $1`, lastSeen)
	b.exec(`UPDATE workloads SET observed_at = $1 WHERE observed_at IS NOT NULL`, lastSeen)
	check("silent", w.ID, fleet.PhaseUnknown)
	check("silent", busy.ID, fleet.PhaseStopping)
	check("silent", failed.ID, fleet.PhaseFailed)

	fresh := time.Now().Add(time.Hour) // however long this takes
	b.must(b.MarkAlive(t.Context(), holder, "c1", "apps", fresh))
	check("one row beats for all", w.ID, fleet.PhaseRunning)
	b.exec(`UPDATE observation_sources SET alive_at = now() - interval '31 seconds'`)
	b.must(b.MarkBroken(t.Context(), holder, "c1", "apps", "connection refused"))
	check("broken", w.ID, fleet.PhaseUnknown)
	state, err := b.Workload(t.Context(), w.ID)
	b.must(err)
	if age := state.Observation.Age(time.Now()); age < 30*time.Second || age > 30*time.Minute {
		t.Fatalf("age %s", age)
	}
	u, err := b.Unreachable(t.Context(), "c1", "apps")
	b.must(err)
	if u.Error != "connection refused" || time.Since(u.Since) < 30*time.Second {
		t.Fatalf("unreachable %+v", u)
	}
	b.must(b.MarkAlive(t.Context(), holder, "c1", "apps", fresh))
	if u, err := b.Unreachable(t.Context(), "c1", "apps"); err != nil || u != (fleet.Unreachability{}) {
		t.Fatalf("unreachable %+v %v", u, err)
	}
	check("healed", w.ID, fleet.PhaseRunning)
}

// A process that stood still while another took its clusters over may go on at
// any statement.
func TestAnObserverThatWasTakenOverChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	fenced := func(when, by string) {
		t.Helper()
		old := seenRunning(w.ID)
		old.Ready = 0
		for what, err := range map[string]error{
			"an observation": b.SaveObservation(t.Context(), by, old, always),
			"alive":          b.MarkAlive(t.Context(), by, "c1", "apps", time.Now().Add(2*time.Hour)),
			"broken":         b.MarkBroken(t.Context(), by, "c1", "apps", "old news"),
		} {
			if !errors.Is(err, fleet.ErrFenced) {
				t.Errorf("%s, %s: %v", when, what, err)
			}
		}
		s, err := b.Workload(t.Context(), w.ID)
		b.must(err)
		u, err := b.Unreachable(t.Context(), "c1", "apps")
		b.must(err)
		if s.Observation.Ready != 1 || s.Observation.SeenAt.After(time.Now().Add(90*time.Minute)) || u.Error != "" {
			t.Errorf("%s: %+v, unreachable %+v", when, s.Observation, u)
		}
	}
	b.must(b.SaveObservation(t.Context(), holder, seenRunning(w.ID), always))
	fenced("never had the lease", "other")
	b.exec(`UPDATE observer_leases SET expires_at = now() - interval '1 second'`)
	b.must(b.SaveObservation(t.Context(), holder, seenRunning(w.ID), always)) // nobody else sees more
	_, err := b.Lease(t.Context(), "other", time.Hour)
	b.must(err)
	fenced("taken over", holder)
	b.must(b.MarkAlive(t.Context(), "other", "c1", "apps", time.Now()))
	b.must(b.ReleaseLeases(t.Context(), "other"))
	fenced("given back", "other")
}

func TestLeasesGoToOneHolderAndPassOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	b.cluster("c2")
	b.cluster("empty")
	b.deploy("c1", "web")
	other := aWorkload("c1", "other")
	other.Namespace = "more"
	_, err := b.Begin(t.Context(), beginOf(other, fleet.VerbDeploy))
	b.must(err)
	lease := func(holder string) string {
		t.Helper()
		got, err := b.Lease(t.Context(), holder, time.Hour)
		b.must(err)
		out := ""
		for _, a := range got {
			out += fmt.Sprintf("%s%v", a.Cluster.ID, a.Namespaces)
		}
		return out
	}
	steps := []struct{ holder, want string }{
		{"a", "c1[apps more]"}, {"b", ""}, {"a", "c1[apps more]"},
	}
	for _, s := range steps {
		if got := lease(s.holder); got != s.want {
			t.Fatalf("%s has %q, want %q", s.holder, got, s.want)
		}
	}
	b.deploy("c2", "web")
	if got := lease("b"); got != "c2[apps]" {
		t.Fatalf("b has %q", got)
	}
	b.exec(`UPDATE observer_leases SET expires_at = now() - interval '1 second' WHERE holder = 'a'`)
	if got := lease("b"); got != "c1[apps more]c2[apps]" {
		t.Fatalf("b has %q", got)
	}
	b.must(b.ReleaseLeases(t.Context(), "b"))
	if got := lease("a"); got != "c1[apps more]c2[apps]" {
		t.Fatalf("a has %q", got)
	}
	list, err := b.Workloads(t.Context(), "c1", "more")
	b.must(err)
	if len(list) != 1 || list[0].Name != "other" {
		t.Fatalf("workloads %v", list)
	}
}
