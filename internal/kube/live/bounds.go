package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds on what a server may make Portolan keep. An API server stores no
// object that is nearly as large (etcd takes 1.5 MiB unless told otherwise); but
// what has the address of one may send anything.
const (
	maxObject = 8 << 20  // bytes of one object, or of one event of a watch
	maxParts  = 250_000  // members and elements of one; what is 3 bytes there may take 100 here
	maxKept   = 48 << 20 // bytes that a list takes once it is decoded, and the events of a watch; 10,000 pods take about 20 MiB
	maxText   = 4_000    // bytes of one text, such as a condition's message
	maxTexts  = 128      // elements of one list within an object, such as its conditions
)

const cut = " … (cut)"

var (
	errLarge = errors.New("the API server's answer does not end")
	errParts = errors.New("the API server's answer has too many parts")
	errKept  = errors.New("the API server's list is too long")
)

// Meter is a reader of JSON that fails when one object is larger, or has more
// parts, than any that an API server keeps.
type Meter struct {
	from              io.Reader
	bytes, parts      int // of the present object
	inString, escaped bool
}

// NewMeter returns a Meter of one object.
func NewMeter(from io.Reader) *Meter { return &Meter{from: from} }

// next lets another object begin. Up to one reading of it has been counted to
// the one before.
func (m *Meter) next() { m.bytes, m.parts = 0, 0 }

// Read implements io.Reader.
func (m *Meter) Read(p []byte) (int, error) {
	const once = 32 << 10 // so that little is read ahead of an object's end
	n, err := m.from.Read(p[:min(len(p), once)])
	m.count(p[:n])
	switch {
	case m.bytes > maxObject:
		return n, errLarge
	case m.parts > maxParts:
		return n, errParts
	}
	return n, err
}

// count counts the commas outside of strings: there is one between any two parts.
func (m *Meter) count(p []byte) {
	m.bytes += len(p)
	parts, inString, escaped := 0, m.inString, m.escaped
	for _, c := range p {
		switch {
		case escaped:
			escaped = false
		case c == '"':
			inString = !inString
		case inString:
			escaped = c == '\\'
		case c == ',':
			parts++
		}
	}
	m.parts, m.inString, m.escaped = m.parts+parts, inString, escaped
}

type listing struct{}

// IsList reports whether ctx is that of a request whose answer List decodes
// piece by piece, and bounds by what it keeps of it.
func IsList(ctx context.Context) bool { return ctx.Value(listing{}) != nil }

// Clip returns text, or as much of it as is worth keeping.
func Clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for end > maxText-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end]) + cut
}

// ClipAll clips every text in what object points to, and its lists too.
func ClipAll(object any) { clip(reflect.ValueOf(object).Elem()) }

// decoding says what could not be decoded; the decoder quotes what it has met at
// any length.
func decoding(what string, err error) error {
	if text := err.Error(); len(text) > maxText {
		return errors.New(what + ": " + Clip(text))
	}
	return fmt.Errorf("%s: %w", what, err)
}

var timeType = reflect.TypeFor[time.Time]()

// clip clips the texts and lists in v and returns how many bytes there are
// beside v's own.
func clip(v reflect.Value) (kept int) {
	switch v.Kind() {
	case reflect.String:
		if v.Len() > maxText && v.CanSet() {
			v.SetString(Clip(v.String()))
		}
		return v.Len()
	case reflect.Struct:
		if v.Type() == timeType {
			return 0
		}
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() {
				kept += clip(field)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Cap()
		}
		if v.Len() > maxTexts && v.CanSet() {
			few := reflect.MakeSlice(v.Type(), maxTexts, maxTexts)
			reflect.Copy(few, v)
			v.Set(few)
		}
		kept = v.Cap() * int(v.Type().Elem().Size())
		for i := range v.Len() {
			kept += clip(v.Index(i))
		}
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			kept += 64 + clip(entries.Key()) + clip(entries.Value())
		}
	case reflect.Pointer:
		if !v.IsNil() {
			kept = int(v.Type().Elem().Size()) + clip(v.Elem())
		}
	}
	return kept
}
