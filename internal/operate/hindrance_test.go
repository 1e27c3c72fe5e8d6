package operate

import (
	"testing"
	"testing/synctest"
	"time"

	"portolan/internal/fleet"
)

func TestAskingIsCountedWhileItGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAsking()
		began := time.Now()
		ask := func(after time.Duration, step fleet.StepName) time.Duration {
			<-time.After(after)
			return a.since("one", step).Sub(began)
		}
		ask(0, fleet.StepObjects)
		for range 4 {
			if since := ask(40*time.Second, fleet.StepObjects); since != 0 {
				t.Fatalf("it began %s later", since)
			}
		}
		if since := ask(0, fleet.StepRestart); since != 160*time.Second {
			t.Errorf("another step began %s later", since)
		}
		// Nobody asked meanwhile, as while the database was away.
		if since := ask(3*time.Minute, fleet.StepRestart); since != 340*time.Second {
			t.Errorf("it began anew %s later", since)
		}
		<-time.After(time.Hour)
		a.since("another", fleet.StepObjects)
		if len(a.began) != 1 {
			t.Errorf("%d operations are remembered", len(a.began))
		}
	})
}

// TestALongQueueDoesNotKeepOperationsFromTheirEnd: where more operations wait than
// workers can look at within a minute, each is looked at rarely, and yet asked for.
func TestALongQueueDoesNotKeepOperationsFromTheirEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAsking()
		round := func() (asked time.Duration) { // each of many in its turn
			for _, other := range []string{"two", "three", "four", "five"} {
				<-time.After(25 * time.Second)
				a.since(other, fleet.StepRollout)
			}
			<-time.After(25 * time.Second)
			return time.Since(a.since("one", fleet.StepRollout))
		}
		round()
		for n, want := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute} {
			if asked := round(); asked != want {
				t.Errorf("after %d more looks it was asked for %s, want %s", n+1, asked, want)
			}
		}
		// Nobody asked for anything, as while the machine slept.
		<-time.After(8 * time.Hour)
		if asked := time.Since(a.since("one", fleet.StepRollout)); asked != 0 {
			t.Errorf("after a night it was asked for %s", asked)
		}
		if len(a.began) != 1 {
			t.Errorf("%d operations are remembered", len(a.began))
		}
		// It is not kept for good that others go on.
		for range 200 {
			<-time.After(time.Minute)
			a.since("two", fleet.StepRollout)
		}
		if len(a.began) != 1 {
			t.Errorf("%d operations are remembered", len(a.began))
		}
	})
}
