package postgres

import (
	"bytes"
	"encoding/json"
	"strings"
)

// PostgreSQL keeps neither NUL nor bytes that are no UTF-8 in its texts, but
// the log lines and messages that containers write may hold both. Were they
// refused, an operation that fails with such a line could never be recorded as
// failed. They are stored with the replacement character instead.

const replacement = "\uFFFD"

// storable is a text from outside as a column of type text takes it.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
}

// marshalStorable is json.Marshal, which sees to the UTF-8, without the escape
// of NUL, which jsonb does not take.
func marshalStorable(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil || !bytes.Contains(text, []byte(`\u0000`)) {
		return text, err
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		switch {
		case text[i] != '\\':
			out = append(out, text[i])
			i++
		case bytes.HasPrefix(text[i:], []byte(`\u0000`)):
			out = append(out, replacement...)
			i += len(`\u0000`)
		default: // another escape; that of a backslash may stand before u0000
			out = append(out, text[i:i+2]...)
			i += 2
		}
	}
	return out, nil
}
