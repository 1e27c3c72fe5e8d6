package ui

import (
	"slices"
	"strconv"
	"strings"
)

// Form is what a form shows: the values by field name, as url.Values has them,
// and at most one error a field.
type Form struct {
	Values map[string][]string
	Errors map[string]string
	Error  string // about the form as a whole
	Again  bool   // nothing is wrong: Errors ask for what is not shown again
	Notes  map[string][]Note
}

// Note says beside a field what it cannot be used for, or not everywhere.
type Note struct {
	Text   string
	For    []string // values of the form's choice of a target of which it is true; none = always
	Labels []string // what people call those
	On     bool     // one of them is chosen
}

// where names what a note is true of, a few by name.
func (n Note) where() string {
	const named = 3
	says := "On " + strings.Join(n.Labels[:min(named, len(n.Labels))], ", ")
	if more := len(n.Labels) - named; more > 0 {
		says += " and " + strconv.Itoa(more) + " more"
	}
	return says + ": "
}

// Get returns the first value of a field.
func (f Form) Get(name string) string {
	if v := f.Values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// On reports whether a checkbox is ticked.
func (f Form) On(name string) bool {
	return slices.Contains([]string{"on", "true", "1", "yes"}, f.Get(name))
}

// Bad reports whether any of the fields has an error.
func (f Form) Bad(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return f.Errors[n] != "" })
}

func fields(n int) string {
	if n == 1 {
		return "one field below needs"
	}
	return strconv.Itoa(n) + " fields below need"
}
