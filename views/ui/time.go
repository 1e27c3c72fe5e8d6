package ui

import (
	"fmt"
	"strings"
	"time"
)

// Relative words a moment as seen from now: "just now", "41 s ago", "7 min ago",
// "3 h ago", "12 days ago", and "in …" for what is to come. From 60 days on it
// is the date.
func Relative(t, now time.Time) string {
	d := now.Sub(t)
	ahead := d < 0
	if ahead {
		d = -d
	}
	var s string
	switch {
	case d < 5*time.Second && !ahead:
		return "just now"
	case d < time.Minute:
		s = fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		s = fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		s = fmt.Sprintf("%d h", int(d.Hours()))
	case d < 60*24*time.Hour:
		s = fmt.Sprintf("%d days", int(d.Hours()/24))
	default:
		return t.UTC().Format("2 Jan 2006")
	}
	if ahead {
		return "in " + s
	}
	return s + " ago"
}

// Took words a duration with the precision that its size deserves: "11 ms",
// "34.2 s", "3 min 5 s", "2 h 4 min".
func Took(d time.Duration) string {
	switch {
	case d < 0:
		return ""
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Truncate(100*time.Millisecond).Seconds()), ".0") + " s"
	case d < time.Hour && d.Truncate(time.Second)%time.Minute == 0:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func absolute(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04:05 UTC") }
