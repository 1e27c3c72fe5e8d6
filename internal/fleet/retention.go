package fleet

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Retention is how long the rows of the past are kept. 0 keeps them for ever.
type Retention struct {
	Audit      time.Duration // entries of the record
	Operations time.Duration // finished operations, with their steps and events
	Events     time.Duration // events of finished operations
	Tests      time.Duration // connection tests, of which the newest 50 of a cluster are kept at most
}

// Removed counts what the end of its retention has removed.
type Removed struct {
	Audit, Operations, Events, Tests int64
}

// Any reports whether anything was removed.
func (r Removed) Any() bool { return r != Removed{} }

const day = 24 * time.Hour

// maxKept is the longest time that can be told apart from for ever.
const maxKept = 100 * 365 * day

// ParseKept reads how long something is kept: whole days such as 90d, or what
// time.ParseDuration takes; 0 is for ever.
func ParseKept(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	bad := fmt.Errorf("%q is not a time such as 90d or 12h, nor 0", text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || time.Duration(n) > maxKept/day {
			return 0, bad
		}
		return time.Duration(n) * day, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxKept {
		return 0, bad
	}
	return d, nil
}

// KeptWords says how long something is kept, such as "for 90 days".
func KeptWords(d time.Duration) string {
	switch {
	case d == 0:
		return "for ever"
	case d%day == 0 && d != day:
		return "for " + strconv.Itoa(int(d/day)) + " days"
	default:
		return "for " + strings.NewReplacer("m0s", "m", "h0m0s", "h").Replace(d.String())
	}
}
