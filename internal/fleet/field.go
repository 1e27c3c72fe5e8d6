package fleet

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/resource"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var clusterIDPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$`)

// reservedClusterIDs are words that stand where an id stands in a route.
var reservedClusterIDs = []string{"new", "test", "inspect"}

// ValidClusterID reports whether id may name a cluster.
func ValidClusterID(id string) bool {
	return clusterIDPattern.MatchString(id) && !contains(reservedClusterIDs, id)
}

// reader takes the text of form fields, checks each and notes what is wrong.
type reader struct{ problems Problems }

// hidden reports whether a character changes how others read without being seen: a
// control, or one that overrides the direction of text (U+202A to U+202E and U+2066
// to U+2069; see Unicode Technical Report 36 on bidirectional text spoofing).
func hidden(c rune) bool {
	return unicode.IsControl(c) || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069
}

// line returns the trimmed text of a one-line field of at most limit characters.
func (r reader) line(name, text string, limit int) string {
	text = strings.TrimSpace(text)
	switch {
	case !utf8.ValidString(text) || strings.ContainsFunc(text, hidden):
		r.problems.Add(name, "must be one line of plain text, without characters that control the text or turn its direction")
	case utf8.RuneCountInString(text) > limit:
		r.problems.Add(name, "must be at most %d characters; this is %d", limit, utf8.RuneCountInString(text))
	}
	return text
}

func (r reader) required(name, text string, limit int) string {
	text = r.line(name, text, limit)
	if text == "" {
		r.problems.Add(name, "must not be empty")
	}
	return text
}

// maxText bounds a text area: more than that is no setting but a mistake.
const maxText = 256 << 10

// lines returns the non-empty trimmed lines of a text area.
func (r reader) lines(name, text string) []string {
	var out []string
	for _, l := range r.rawLines(name, text) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// rawLines is lines with the white space kept, for values where it may count.
func (r reader) rawLines(name, text string) []string {
	if len(text) > maxText {
		r.problems.Add(name, "must be at most %d KiB", maxText>>10)
		return nil
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }) {
		r.problems.Add(name, "must be plain text, without control characters")
		return nil
	}
	var out []string
	for l := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(l) != "" {
			out = append(out, l)
		}
	}
	return out
}

// pairs reads one KEY=VALUE a line, each key once.
func (r reader) pairs(name, text string, check func(key, value string) string) []EnvVar {
	var out []EnvVar
	seen := map[string]bool{}
	for i, l := range r.rawLines(name, text) {
		key, value, ok := strings.Cut(l, "=")
		key = strings.TrimSpace(key)
		switch {
		case !ok:
			r.problems.Add(name, "line %d has no “=”: write one KEY=VALUE a line", i+1)
		case seen[key]:
			r.problems.Add(name, "line %d repeats %s", i+1, clip(key))
		default:
			if wrong := check(key, value); wrong != "" {
				r.problems.Add(name, "line %d: %s", i+1, wrong)
			}
		}
		seen[key] = true
		out = append(out, EnvVar{Name: key, Value: value})
	}
	return out
}

func (r reader) label63(name, text string) string {
	text = r.line(name, text, 253)
	if text != "" && len(validation.IsDNS1123Label(text)) > 0 {
		r.problems.Add(name, "must be a name of at most 63 lower-case letters, digits and hyphens that begins and ends with a letter or digit")
	}
	return text
}

func (r reader) number(name, text string, low, high int64) int64 {
	text = r.line(name, text, 20)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		r.problems.Add(name, "must be a whole number from %d to %d", low, high)
		return 0
	}
	return n
}

func (r reader) quantity(name, text, example string) string {
	text = r.line(name, text, 40)
	if text == "" {
		return ""
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() <= 0 {
		r.problems.Add(name, "must be a quantity such as %s", example)
	}
	return text
}

// bytes is quantity for an amount of memory or of storage. Less than a MiB can hold
// no container: most often the unit was forgotten, without which it is bytes.
func (r reader) bytes(name, text, example string) string {
	text = r.quantity(name, text, example)
	if q, err := resource.ParseQuantity(text); err == nil && q.Sign() > 0 && q.CmpInt64(1<<20) < 0 {
		r.problems.Add(name, "%s is %s, less than 1Mi: write it as in %s", text, Counted(int(q.Value()), "byte", "bytes"), example)
	}
	return text
}

// brief is a duration without the zeroes that Go ends it with: 24h, 10s.
func brief(d time.Duration) string {
	s := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, end) {
			s = s[:len(s)-2]
		}
	}
	return s
}

func (r reader) duration(name, text string, low, high time.Duration) time.Duration {
	text = r.line(name, text, 40)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if n, numErr := strconv.Atoi(text); numErr == nil { // a bare number is seconds
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < low || d > high {
		r.problems.Add(name, "must be a duration from %s to %s, such as 20m", brief(low), brief(high))
		return 0
	}
	return d
}

// annotations reads a JSON object of strings, or one key=value a line.
func (r reader) annotations(name, text string) map[string]string {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	if len(text) > maxText {
		r.problems.Add(name, "must be at most %d KiB", maxText>>10)
		return nil
	}
	out := map[string]string{}
	if strings.HasPrefix(text, "{") {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			r.problems.Add(name, `must be a JSON object whose values are strings, such as {"key": "value"}`)
			return nil
		}
	} else {
		for _, p := range r.pairs(name, text, func(string, string) string { return "" }) {
			out[p.Name] = strings.TrimSpace(p.Value)
		}
	}
	for _, key := range sortedKeys(out) {
		if len(validation.IsQualifiedName(strings.ToLower(key))) > 0 {
			r.problems.Add(name, "%s is not a valid key: write name or domain/name", clip(key))
		}
	}
	for _, key := range sortedKeys(out) {
		if strings.ContainsFunc(out[key], func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }) {
			r.problems.Add(name, "the value of %s has control characters", clip(key))
		}
	}
	return out
}

func (r reader) labels(name, text string) map[string]string {
	out := r.annotations(name, text)
	if errs := metavalidation.ValidateLabels(out, field.NewPath(name)); len(errs) > 0 {
		r.problems.Add(name, "%s", errs[0].Detail)
	}
	if len(out) == 0 {
		return nil
	}
	return r.notOurs(name, out)
}

// notOurs refuses the keys by which Portolan marks what it makes.
func (r reader) notOurs(name string, m map[string]string) map[string]string {
	for _, key := range sortedKeys(m) {
		if strings.HasPrefix(key, "portolan.dev/") || strings.HasPrefix(key, "app.kubernetes.io/") {
			r.problems.Add(name, "%s is set by Portolan itself", clip(key))
		}
	}
	return m
}

func (r reader) cidrs(name, text string) []string {
	var out []string
	for _, part := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || unicode.IsSpace(c) }) {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			r.problems.Add(name, "%s is not a CIDR such as 10.0.0.0/8", clip(part))
			continue
		}
		if masked := p.Masked(); masked != p {
			r.problems.Add(name, "%s has host bits set; did you mean %s?", part, masked)
			continue
		}
		out = append(out, p.String())
	}
	return out
}

// names reads DNS-1123 subdomain names separated by commas or white space.
func (r reader) names(name, text string) []string {
	var out []string
	for _, part := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || unicode.IsSpace(c) }) {
		if len(validation.IsDNS1123Subdomain(part)) > 0 {
			r.problems.Add(name, "%s is not the name of a Kubernetes object", clip(part))
		} else if !contains(out, part) {
			out = append(out, part)
		}
	}
	return out
}

// clip quotes what was typed, so that a message stays readable whatever it was.
func clip(s string) string { return "“" + printable(s, 60) + "”" }
