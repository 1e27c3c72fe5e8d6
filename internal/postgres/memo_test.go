package postgres

import (
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
			synctest.Test(t, func(*testing.T) {
				var m memory
				counted := 0
				count := func() (int, error) { counted++; return counted, nil }
				_, _ = m.get(count)
				c.happens(&m)
				<-time.After(c.after)
				if got, _ := m.get(count); (got == 2) != c.anew {
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
			synctest.Test(t, func(*testing.T) {
				var m memo[int]
				_, _ = m.get(func() (int, error) { c.overtakes(&m); return 1, nil })
				again := func() (int, error) { return 2, nil }
				if c.keptFor > 0 {
					<-time.After(c.keptFor - 1)
					if got, _ := m.get(again); got != 1 {
						t.Errorf("it was counted anew at once")
					}
					<-time.After(1)
				}
				if got, _ := m.get(again); got != 2 {
					t.Errorf("%d is still kept", got)
				}
			})
		})
	}
}
