package fleet

import (
	"testing"
	"time"
)

func TestParseKept(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "0d": 0, "90d": 90 * day, " 1d ": day, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "36500d": maxKept,
	} {
		if got, err := ParseKept(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "d", "-1d", "-5h", "1.5d", "forever", "99999999999999999999d", "36501d", "90"} {
		if got, err := ParseKept(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "for ever", 90 * day: "for 90 days", 12 * time.Hour: "for 12h", 90 * time.Minute: "for 1h30m", day: "for 24h", 40 * time.Second: "for 40s",
	} {
		if got := KeptWords(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}
