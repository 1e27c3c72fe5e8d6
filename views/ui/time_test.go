package ui

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRelative(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for want, d := range map[string]time.Duration{
		"just now":    2 * time.Second,
		"41 s ago":    41 * time.Second,
		"7 min ago":   7*time.Minute + 59*time.Second,
		"26 h ago":    26 * time.Hour,
		"12 days ago": 12 * 24 * time.Hour,
		"1 Dec 2025":  90 * 24 * time.Hour,
		"in 9 days":   -9 * 24 * time.Hour,
		"in 3 s":      -3 * time.Second,

		"in 2 days 23 h": -(3*24*time.Hour - time.Second),
		"in 13 days":     -(14*24*time.Hour - time.Second),
		"in 47 h":        -(48*time.Hour - time.Second),
		"in 1 h 59 min":  -(2*time.Hour - time.Second),
		"in 59 min":      -(time.Hour - time.Second),
		"in 1 min 1 s":   -(61 * time.Second),
		"30 Apr 2026":    -60 * 24 * time.Hour,
	} {
		if got := Relative(now.Add(-d), now); got != want {
			t.Errorf("%s before: %q, want %q", d, got, want)
		}
	}
}

// TestWhatIsLeftIsNeverMoreThanThereIs: nobody is to believe that a credential
// lasts longer than it does, nor that it ends a good deal sooner.
func TestWhatIsLeftIsNeverMoreThanThereIs(t *testing.T) {
	units := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour, "days": 24 * time.Hour}
	for d := 5 * time.Second; d < 60*24*time.Hour; d += d/50 + 700*time.Millisecond {
		words := strings.Fields(left(d))
		var said time.Duration
		for i := 0; i < len(words); i += 2 {
			n, err := strconv.Atoi(words[i])
			if err != nil || units[words[i+1]] == 0 {
				t.Fatalf("%s: %q", d, words)
			}
			said += time.Duration(n) * units[words[i+1]]
		}
		if said > d || d-said > d/10 && d-said >= time.Second {
			t.Errorf("%s is said to be %q", d, words)
		}
	}
}

func TestTook(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"<1 ms":     200 * time.Microsecond,
		"11 ms":     11 * time.Millisecond,
		"34.2 s":    34*time.Second + 270*time.Millisecond,
		"15 s":      15 * time.Second,
		"3 min 5 s": 185 * time.Second,
		"20 min":    20 * time.Minute,
		"2 h 4 min": 2*time.Hour + 4*time.Minute,
	} {
		if got := Took(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
