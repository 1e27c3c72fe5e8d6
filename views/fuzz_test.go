package views

import (
	"strings"
	"testing"
	"time"
)

// FuzzLogLine: whatever a container prints stays one inert line.
func FuzzLogLine(f *testing.F) {
	for _, seed := range []string{"plain", "<script>alert(1)</script>", "\x1b[31mred\x1b[0m", "\x1b]8;;https://evil.example\x07x", "\x1bP1;2|\x1b\\", "a\rb\r", "\u202egnirts", "\xff\xfe", "\x1b[", "&amp;\""} {
		f.Add(seed, "x7k2q")
	}
	f.Fuzz(func(t *testing.T, text, pod string) {
		line := string(AppendLogLine(nil, time.Unix(0, 0), pod, text))
		rest, found := strings.CutPrefix(line, `<div data-line data-t="1970-01-01T00:00:00Z"`)
		if !found || strings.Count(line, "<") != 2 || strings.Count(line, ">") != 2 || !strings.HasSuffix(line, "</div>") || strings.Count(rest, `"`) > 2 {
			t.Errorf("%q became %q", text, line)
		}
		if strings.ContainsAny(line, "\r\n\x00\x07\u202e\u2028") || strings.ToValidUTF8(line, "") != line {
			t.Errorf("%q holds what must not be there", line)
		}
		for part := range strings.SplitSeq(line, "\x1b") {
			if part == line {
				break
			}
			if part != line[:strings.IndexByte(line, 0x1b)] && !strings.HasPrefix(part, "[") {
				t.Errorf("%q keeps more than colours", line)
			}
		}
	})
}
