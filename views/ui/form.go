package ui

import (
	"slices"
	"strconv"
)

// Form is what a form shows: the values by field name, as url.Values has them,
// and at most one error a field.
type Form struct {
	Values map[string][]string
	Errors map[string]string
	Error  string // about the form as a whole
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
