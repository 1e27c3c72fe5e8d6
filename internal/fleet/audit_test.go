package fleet

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAuditEntryCanBeKeptWhateverWasTyped(t *testing.T) {
	t.Parallel()
	e := AuditEntry{
		Actor: "a\x00b", Target: "cluster/\xff" + strings.Repeat("x", 9000), Reason: "first\nsecond\x1b[31m",
		Diff: map[string][2]string{"label\x00": {"", "\x07"}},
	}.Printable()
	if e.Actor != "a·b" || e.Reason != "first\nsecond·[31m" || e.Diff["label·"] != [2]string{"", "·"} {
		t.Errorf("got %+v", e)
	}
	if !utf8.ValidString(e.Target) || utf8.RuneCountInString(e.Target) > 301 {
		t.Errorf("target of %d characters", utf8.RuneCountInString(e.Target))
	}
}
