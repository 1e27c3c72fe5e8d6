// Package fleet is Portolan's domain: clusters, targets, runtimes, workloads,
// releases, operations, observations and users, with their validation and
// their state machines. It knows no database, no network and no Kubernetes
// client; everything else in the program knows it.
package fleet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Code classes an Error by what the person who caused it can do about it.
type Code string

const (
	CodeInvalid     Code = "invalid"     // the input is wrong; Problems say where (422)
	CodeConflict    Code = "conflict"    // the state forbids it now (409)
	CodeNotFound    Code = "not-found"   // absent, or not theirs to see (404)
	CodeForbidden   Code = "forbidden"   // their role does not allow it (403)
	CodeUnavailable Code = "unavailable" // something it needs cannot be reached (503)
)

// Error is a failure that may be shown to the person who caused it. Message
// says what happened and why, Remedy what to do; neither holds a secret.
type Error struct {
	Code     Code
	Message  string
	Remedy   string
	Problems Problems // by form field; only with CodeInvalid and CodeConflict
	Err      error    // the cause, for the log; never shown
}

func (e *Error) Error() string {
	text := e.Message
	if len(e.Problems) > 0 {
		text += " (" + e.Problems.String() + ")"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Problems holds one message per form field name.
type Problems map[string]string

// Add records message for field unless the field has one already: the first
// thing wrong with a field is the one worth reading.
func (p Problems) Add(field, format string, args ...any) {
	if _, ok := p[field]; !ok {
		p[field] = fmt.Sprintf(format, args...)
	}
}

// Err returns nil when there are no problems, else an Error with CodeInvalid.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: "Some fields need another look.", Problems: p}
}

func (p Problems) String() string {
	parts := make([]string, 0, len(p))
	for _, field := range slices.Sorted(maps.Keys(p)) {
		parts = append(parts, field+": "+p[field])
	}
	return strings.Join(parts, "; ")
}

// CodeOf returns the Code of err, or "" when err is not for showing.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Conflict says that the present state forbids what was asked.
func Conflict(format string, args ...any) *Error {
	return &Error{Code: CodeConflict, Message: fmt.Sprintf(format, args...)}
}

// NotFound says that there is no such thing, or none that this person may see.
func NotFound(format string, args ...any) *Error {
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf(format, args...)}
}

// Unavailable says that something this needs cannot be reached now.
func Unavailable(format string, args ...any) *Error {
	return &Error{Code: CodeUnavailable, Message: fmt.Sprintf(format, args...)}
}
