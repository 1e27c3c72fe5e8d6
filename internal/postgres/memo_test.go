package postgres

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestAKeptCountIsCountedAnew(t *testing.T) {
	t.Parallel()
	type memory = memo[int]
	for name, c := range map[string]struct {
		happens func(*memory)
		after   time.Duration
		anew    bool
	}{
		"not at once":                          {func(*memory) {}, memoFor - 1, false},
		"when time is up":                      {func(*memory) {}, memoFor, true},
		"when a person changes something":      {(*memory).forget, 0, true},
		"not yet after work in the background": {func(m *memory) { m.outdate(); <-time.After(outdatedFor - 1); m.outdate() }, 0, false},
		"soon after work in the background":    {func(m *memory) { m.outdate(); <-time.After(outdatedFor - 1); m.outdate() }, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var m memory
				counted := 0
				count := func(context.Context) (int, error) { counted++; return counted, nil }
				_, _ = m.get(t.Context(), count)
				c.happens(&m)
				<-time.After(c.after)
				if got, _ := m.get(t.Context(), count); (got == 2) != c.anew {
					t.Errorf("counted %d times", got)
				}
			})
		})
	}
}

func TestACountThatWasOvertakenIsNotKeptForLong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		overtakes func(*memo[int])
		keptFor   time.Duration
	}{
		"by a person":               {(*memo[int]).forget, 0},
		"by work in the background": {(*memo[int]).outdate, outdatedFor},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var m memo[int]
				_, _ = m.get(t.Context(), func(context.Context) (int, error) { c.overtakes(&m); return 1, nil })
				again := func(context.Context) (int, error) { return 2, nil }
				if c.keptFor > 0 {
					<-time.After(c.keptFor - 1)
					if got, _ := m.get(t.Context(), again); got != 1 {
						t.Errorf("it was counted anew at once")
					}
					<-time.After(1)
					synctest.Wait()
				}
				if got, _ := m.get(t.Context(), again); got != 2 {
					t.Errorf("%d is still kept", got)
				}
			})
		})
	}
}

func TestACountThatIsReadIsCountedAnewBeforeItIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m memo[int]
		counted := 0
		count := func(context.Context) (int, error) { counted++; return counted, nil }
		passes := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		_, _ = m.get(t.Context(), count)
		_, _ = m.get(t.Context(), count)
		if passes(memoFor); counted != 2 {
			t.Errorf("counted %d times, want anew for its readers", counted)
		}
		if got, _ := m.get(t.Context(), count); got != 2 || counted != 2 {
			t.Errorf("the reader counts, %d times now", counted)
		}
		m.outdate()
		if passes(outdatedFor); counted != 3 {
			t.Errorf("counted %d times, want anew after work in the background", counted)
		}
		if passes(time.Hour); counted != 3 {
			t.Errorf("counted %d times, while nobody read", counted)
		}
		if _, _ = m.get(t.Context(), count); counted != 4 {
			t.Errorf("counted %d times, want anew after an hour", counted)
		}
	})
}
