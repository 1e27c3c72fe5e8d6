package ui

import (
	"fmt"
	"strings"
	"time"
)

// Relative words a moment as seen from now: "just now", "41 s ago", "7 min ago",
// "3 h ago", "12 days ago", and for what is to come the time that is left. From
// 60 days on it is the date.
func Relative(t, now time.Time) string {
	d := now.Sub(t)
	var s string
	switch {
	case d < 0 && -d < 60*24*time.Hour:
		return "in " + left(-d)
	case d < 0:
		return t.UTC().Format("2 Jan 2006")
	case d < 5*time.Second:
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
	return s + " ago"
}

// left words the time until something ends: never more of it than there is, and
// never less than nine tenths. So a second unit follows below ten of the first:
// "2 days 23 h", "26 h", "1 h 59 min".
func left(d time.Duration) string {
	two := func(n int, unit string, m int, smaller string) string {
		if n >= 10 || m == 0 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		return fmt.Sprintf("%d %s %d %s", n, unit, m, smaller)
	}
	s := int(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return two(s/60, "min", s%60, "s")
	case s < 48*3600:
		return two(s/3600, "h", s/60%60, "min")
	default:
		return two(s/86400, "days", s/3600%24, "h")
	}
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
