package postgres_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portolan/internal/fleet"
)

func TestClaimGivesTheOperationToOneBearer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	_, op := b.deploy("c1", "web")
	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			got, err := b.Claim(t.Context(), op.ID, 1)
			switch {
			case err == nil:
				wins.Add(1)
				if got.State != fleet.OperationRunning || got.StartedAt.IsZero() || len(got.Steps) != 4 {
					t.Errorf("claimed %+v", got)
				}
			case !errors.Is(err, fleet.ErrFenced):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Fatalf("%d claims succeeded", wins.Load())
	}
	for _, token := range []int64{0, 2} {
		if _, err := b.Claim(t.Context(), op.ID, token); !errors.Is(err, fleet.ErrFenced) {
			t.Fatalf("claim with token %d: %v", token, err)
		}
	}
	if _, err := b.Claim(t.Context(), "no-such-id", 1); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("claim of nothing: %v", err)
	}
}

func TestGivenUpOperationIsClaimedAgainWhenItIsDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	_, op := b.deploy("c1", "web")
	_, err := b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	b.must(b.GiveUp(t.Context(), op.ID, 1, time.Hour))
	if err := b.GiveUp(t.Context(), op.ID, 1, 0); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("given up twice: %v", err)
	}
	if _, err := b.Heartbeat(t.Context(), op.ID, 1); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("heartbeat of nobody: %v", err)
	}
	if _, err := b.Claim(t.Context(), op.ID, 1); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("claimed an hour early: %v", err)
	}
	b.exec(`UPDATE operations SET wake_at = now() WHERE id = $1`, op.ID)
	_, err = b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	events, err := b.EventsSince(t.Context(), op.ID, 0, 0)
	b.must(err)
	if len(events) != 2 || events[1].State != "running" {
		t.Fatalf("a second claim made an event: %+v", events)
	}
}

func TestTakeOverFencesTheOldHolderOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w, op := b.deploy("c1", "web")
	_, err := b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	if n, err := b.TakeOver(t.Context(), time.Hour); n != 0 || err != nil {
		t.Fatalf("took %d over from a living holder, %v", n, err)
	}
	b.exec(`UPDATE operations SET heartbeat_at = now() - interval '61 minutes' WHERE id = $1`, op.ID)
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 4 { // as many workers sweep at once
		wg.Go(func() {
			n, err := b.TakeOver(t.Context(), time.Hour)
			if err != nil {
				t.Error(err)
			}
			taken.Add(int32(n))
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Fatalf("taken over %d times", taken.Load())
	}
	if jobs := b.enqueued(); jobs[len(jobs)-1] != (doorbell{op.ID, 2}) {
		t.Fatalf("jobs %v", jobs)
	}
	old := fleet.Change{Steps: []fleet.Step{{Name: fleet.StepNamespace, State: fleet.StepRunning}}}
	if err := b.Record(t.Context(), op.ID, 1, old); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("the old holder wrote: %v", err)
	}
	if _, err := b.Heartbeat(t.Context(), op.ID, 1); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("the old holder's heart: %v", err)
	}
	if err := b.GiveUp(t.Context(), op.ID, 1, 0); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("the old holder gave up: %v", err)
	}
	if _, err := b.Claim(t.Context(), op.ID, 1); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("the old token claimed: %v", err)
	}
	_, err = b.Claim(t.Context(), op.ID, 2)
	b.must(err)
	b.must(b.Record(t.Context(), op.ID, 2, fleet.Change{Finish: fleet.OperationFailed, Failure: &fleet.Failure{Reason: "X", Message: "It broke."}}))
	if err := b.Record(t.Context(), op.ID, 2, old); !errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("written after the end: %v", err)
	}
	if phase, reason := b.phase(w.ID); phase != fleet.PhaseFailed || reason != "It broke." {
		t.Fatalf("phase %s %q", phase, reason)
	}
	b.exec(`UPDATE operations SET wake_at = now() - interval '2 hours'`)
	if n, err := b.TakeOver(t.Context(), time.Hour); n != 0 || err != nil {
		t.Fatalf("took over %d that have ended, %v", n, err)
	}
}

func TestTakeOverCallsForALateJobWithoutSpoilingIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	_, op := b.deploy("c1", "web")
	b.exec(`UPDATE operations SET wake_at = now() - interval '61 minutes' WHERE id = $1`, op.ID)
	for i, want := range []int{1, 0} { // the next sweep gives the new job its time
		if n, err := b.TakeOver(t.Context(), time.Hour); n != want || err != nil {
			t.Fatalf("sweep %d: %d, %v", i, n, err)
		}
	}
	if jobs := b.enqueued(); len(jobs) != 2 || jobs[1] != (doorbell{op.ID, 1}) {
		t.Fatalf("jobs %v", jobs)
	}
	_, err := b.Claim(t.Context(), op.ID, 1) // by the first job, which only stood in a queue
	b.must(err)
}
