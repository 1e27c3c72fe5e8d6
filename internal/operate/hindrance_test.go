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
