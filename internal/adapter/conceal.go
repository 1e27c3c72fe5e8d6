package adapter

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"portolan/internal/fleet"
)

// hidden stands in the place of a secret value.
const hidden = "••••"

// leastSecret is the length from which a value is taken out of texts. A shorter
// one is no secret, but a word that would be missed in them.
const leastSecret = 6

// concealer takes the values of secrets out of texts. The API server's own
// words hold none, but an admission webhook, a node or the program itself may
// quote what it was given.
type concealer struct{ values *strings.Replacer }

func conceal(secrets map[string]string) concealer {
	var forms []string
	for _, value := range secrets {
		if len(value) < leastSecret {
			continue
		}
		quoted := strconv.Quote(value)
		forms = append(forms, value, quoted[1:len(quoted)-1], base64.StdEncoding.EncodeToString([]byte(value)))
	}
	// A value that begins with another one is looked for first.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, hidden)
	}
	return concealer{strings.NewReplacer(pairs...)}
}

func (c concealer) text(s string) string { return c.values.Replace(s) }

func (c concealer) list(texts []string) []string {
	out := slices.Clone(texts)
	for i := range out {
		out[i] = c.text(out[i])
	}
	return out
}

// result conceals what a step says of itself.
func (c concealer) result(r fleet.StepResult) fleet.StepResult {
	r.Message = c.text(r.Message)
	for i := range r.Events {
		r.Events[i].Message = c.text(r.Events[i].Message)
	}
	return r
}

// error conceals what an error says; what it is stays known.
func (c concealer) error(err error) error {
	if err == nil {
		return nil
	}
	var failure *fleet.Failure
	if errors.As(err, &failure) {
		told := *failure
		told.Message, told.Events, told.Logs = c.text(told.Message), c.list(told.Events), c.list(told.Logs)
		return &told
	}
	if text := err.Error(); c.text(text) != text {
		return &concealedError{c.text(text), err}
	}
	return err
}

type concealedError struct {
	text  string
	cause error
}

func (e *concealedError) Error() string { return e.text }
func (e *concealedError) Unwrap() error { return e.cause }

// withoutLogs takes away what a program said of itself: it may have said its
// secrets, and where their values are not known they cannot be found in it.
func withoutLogs(err error) error {
	var failure *fleet.Failure
	if !errors.As(err, &failure) || len(failure.Logs) == 0 {
		return err
	}
	told := *failure
	told.Logs = nil
	return &told
}
