package views

import (
	"bytes"
	"html"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestAppendLogLine(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 4, 31, 2_000_000, time.UTC)
	for name, test := range map[string]struct{ text, want string }{
		"plain":            {"GET /health 200", "GET /health 200"},
		"html":             {`<b a="1">&amp;`, "&lt;b a=&#34;1&#34;&gt;&amp;amp;"},
		"colour":           {"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"},
		"cursor":           {"a\x1b[2J\x1b[10;10Hb", "ab"},
		"private colour":   {"a\x1b[?25mb", "ab"},
		"title":            {"\x1b]0;owned\x07text", "text"},
		"link":             {"\x1b]8;;https://x.example\x1b\\click\x1b]8;;\x1b\\", "click"},
		"unended title":    {"a\x1b]0;never ends", "a"},
		"unended sequence": {"a\x1b[31", "a"},
		"charset":          {"\x1b(Btext\x1bcmore", "textmore"},
		"lone escape":      {"end\x1b", "end"},
		"return":           {"50%\r100%\r", "50% 100%"},
		"newline":          {"a\nb", "a b"},
		"bell and nul":     {"a\x07\x00\x7fb", "ab"},
		"tab":              {"a\tb", "a\tb"},
		"c1":               {"a\u009b31mb", "a31mb"},
		"reordering":       {"a\u202eb", "ab"},
		"invalid":          {"a\xffb", "a\uFFFDb"},
		"letters":          {"grüße 日本", "grüße 日本"},
	} {
		t.Run(name, func(t *testing.T) {
			want := `<div data-line data-t="2026-03-01T12:04:31.002Z" data-pod="x7k2q">` + test.want + `</div>`
			if got := string(AppendLogLine(nil, at, "x7k2q", test.text)); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
	if got := string(AppendLogLine(nil, time.Time{}, "", "x")); got != "<div data-line>x</div>" {
		t.Errorf("without time and pod: %q", got)
	}
	if got := string(AppendLogGap(nil, 12, "12 lines <missed>")); got != `<div data-gap="12">12 lines &lt;missed&gt;</div>` {
		t.Errorf("gap: %q", got)
	}
}

func FuzzAppendLogLine(f *testing.F) {
	for _, s := range []string{"", "a<b", "\x1b[31mx\x1b[m", "\x1b]0;t\x07", "\r\n", "\xff\x1b", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := string(AppendLogLine(nil, time.Time{}, "", s))
		text, ok := strings.CutPrefix(out, "<div data-line>")
		text, end := strings.CutSuffix(text, "</div>")
		if !ok || !end || strings.ContainsAny(text, "<>\"\r\n") || !utf8.ValidString(text) {
			t.Fatalf("%q gave %q", s, out)
		}
		plain := html.UnescapeString(text)
		for i, r := range plain {
			if r == 0x1b {
				if _, colour := sequence(plain[i:]); !colour {
					t.Fatalf("%q keeps a sequence: %q", s, out)
				}
			} else if unicode.IsControl(r) && r != '\t' {
				t.Fatalf("%q keeps a control character: %q", s, out)
			}
		}
	})
}

func BenchmarkAppendLogLine(b *testing.B) {
	at := time.Now()
	buf := make([]byte, 0, 1024)
	b.SetBytes(80)
	for b.Loop() {
		buf = AppendLogLine(buf[:0], at, "x7k2q", strings.Repeat("GET /health 200 0.3ms and more ", 3)[:80])
	}
	if !bytes.HasPrefix(buf, []byte("<div")) {
		b.Fatal("nothing appended")
	}
}
