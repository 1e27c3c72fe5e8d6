package e2e

import (
	"testing"
	"time"
)

// pollEvery is how often a condition is looked at.
const pollEvery = 50 * time.Millisecond

// patience is how long a condition may take that is usually there at once: the
// machine that runs the tests may be busy with many others.
const patience = 5 * time.Minute

// slack is how much later than a promised time something may be seen: as much
// as a busy machine takes, and less than anything takes that has no such bound.
const slack = 20 * time.Second

// eventually waits until look returns true, and fails the test with what look
// last said when it has not within limit.
func eventually(t testing.TB, limit time.Duration, what string, look func() (ok bool, seen string)) {
	t.Helper()
	deadline := time.After(limit)
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		ok, seen := look()
		if ok {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within %v; last: %s", what, limit, seen)
		}
	}
}

// holds checks that look stays true for a while: for what must not happen.
func holds(t testing.TB, during time.Duration, what string, look func() (ok bool, seen string)) {
	t.Helper()
	end := time.After(during)
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if ok, seen := look(); !ok {
			t.Fatalf("%s: %s", what, seen)
		}
		select {
		case <-ticker.C:
		case <-end:
			return
		}
	}
}
