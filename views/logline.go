package views

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendLogLine appends one line of a log as the pane takes it:
//
//	<div data-line data-t="2026-03-01T12:04:31.002Z" data-pod="x7k2q">text</div>
//
// The text is escaped and has no line break, so that it is one "data:" line of
// an event stream. Of its control sequences only those that set colours
// (ESC [ … m) are kept, for the pane to colour; every other one is dropped, and
// a carriage return in mid-line becomes a space. Invalid UTF-8 is replaced. A
// zero t leaves data-t out, an empty pod data-pod.
func AppendLogLine(dst []byte, t time.Time, pod, text string) []byte {
	dst = append(dst, `<div data-line`...)
	if !t.IsZero() {
		dst = append(dst, ` data-t="`...)
		dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	if pod != "" {
		dst = append(dst, ` data-pod="`...)
		dst = appendEscaped(dst, pod)
		dst = append(dst, '"')
	}
	dst = append(dst, '>')
	dst = appendEscaped(dst, text)
	return append(dst, `</div>`...)
}

// AppendLogGap appends the mark of n lines that are missing, in the same form;
// why says where they went. An n of zero is a number that nobody knows.
func AppendLogGap(dst []byte, n int, why string) []byte {
	dst = append(dst, `<div data-gap="`...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, `">`...)
	dst = appendEscaped(dst, why)
	return append(dst, `</div>`...)
}

// appendEscaped copies runs of harmless bytes at once: nearly every line is one
// such run.
func appendEscaped(dst []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '<' && c != '>' && c != '&' && c != '"' && c != 0x7f || c == '\t' {
			i++
			continue
		}
		width, with := 1, ""
		switch {
		case c == '<':
			with = "&lt;"
		case c == '>':
			with = "&gt;"
		case c == '&':
			with = "&amp;"
		case c == '"':
			with = "&#34;"
		case c == 0x1b:
			var colour bool
			if width, colour = sequence(s[i:]); colour {
				i += width
				continue
			}
		case c == '\r' && i+1 < len(s) || c == '\n':
			with = " "
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				with = "\uFFFD"
			case r >= 0x80 && r < 0xa0, direction(r):
				width = n
			default:
				i += n
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		dst = append(dst, with...)
		i += width
		start = i
	}
	return append(dst, s[start:]...)
}

// direction reports the characters that reorder the text around them, with
// which a line could be made to read as another.
func direction(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// sequence returns the length of the control sequence at the beginning of s,
// which is an ESC, and whether all it does is set colours. The forms are those
// of ECMA-48: CSI ends with a byte from @ to ~, a string (OSC, DCS, APC, PM,
// SOS) with BEL or ESC \, any other with one byte after its intermediates.
func sequence(s string) (n int, colour bool) {
	if len(s) < 2 {
		return len(s), false
	}
	switch s[1] {
	case '[':
		plain := true
		for i := 2; i < len(s); i++ {
			c := s[i]
			if c >= '@' && c <= '~' {
				return i + 1, c == 'm' && plain
			}
			if c < ' ' || c > '?' {
				return i, false
			}
			if (c < '0' || c > '9') && c != ';' && c != ':' {
				plain = false
			}
		}
		return len(s), false
	case ']', 'P', '_', '^', 'X':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1, false
			}
			if s[i] == 0x1b {
				if i+1 < len(s) && s[i+1] == '\\' {
					return i + 2, false
				}
				return i, false
			}
		}
		return len(s), false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '/' {
			if s[i] < '0' || s[i] > '~' {
				return i, false
			}
			return i + 1, false
		}
	}
	return len(s), false
}
