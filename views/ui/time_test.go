package ui

import (
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
	} {
		if got := Relative(now.Add(-d), now); got != want {
			t.Errorf("%s before: %q, want %q", d, got, want)
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
