package operate

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"portolan/internal/fleet"
)

// outdated returns a conflict when an edit form would put back what others have
// changed since it was made; its Problems name those fields. now is the present
// release, spec and typed are what the form says. The fields release and
// replicas_before say what the form was made from; without them it is not
// compared.
func (o *Operator) outdated(ctx context.Context, form fleet.WorkloadForm, w fleet.Workload, now fleet.Release, spec fleet.Spec, typed map[string]string) error {
	then, err := o.madeFrom(ctx, form["release"], now)
	if err != nil {
		return err
	}
	before, present, wanted := FormOf(then.Spec), FormOf(now.Spec), FormOf(spec)
	present["replicas"] = strconv.Itoa(int(w.Replicas)) // scaling makes no release
	if before["replicas"] = form["replicas_before"]; before["replicas"] == "" {
		before["replicas"] = present["replicas"]
	}
	fields := maps.Clone(before)
	maps.Copy(fields, present)
	delete(fields, "secret_env") // the names of others' are kept
	changed := fleet.Problems{}
	for field := range fields {
		if before[field] != present[field] && present[field] != wanted[field] {
			changed.Add(field, "was changed meanwhile")
		}
	}
	if len(typed) > 0 && then.Number != now.Number {
		o.secretsChanged(changed, then, now, typed)
	}
	if len(changed) == 0 {
		return nil
	}
	e := fleet.Conflict("Somebody else changed %s of %s while you were editing it.", strings.Join(slices.Sorted(maps.Keys(changed)), ", "), w.Name)
	e.Remedy = "Compare, then save again to put your values in their place."
	e.Problems = changed
	return e
}

// madeFrom returns the release of that number. One that there is not, or no
// longer, differs from the present one in everything.
func (o *Operator) madeFrom(ctx context.Context, number string, now fleet.Release) (fleet.Release, error) {
	n, err := releaseNumber(number)
	switch {
	case number == "" || n == now.Number:
		return now, nil
	case err != nil:
		return fleet.Release{}, nil
	}
	then, err := o.Store.Release(ctx, now.WorkloadID, n)
	if fleet.CodeOf(err) == fleet.CodeNotFound {
		return fleet.Release{}, nil
	}
	return then, err
}

// releaseNumber reads a number that a form brings.
func releaseNumber(text string) (int, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	return int(n), err
}

// secretsChanged notes when a secret that was typed anew has got another value
// meanwhile. Of what cannot be opened, as its key is lost, it says nothing: who
// types all secrets anew is on the way out of that.
func (o *Operator) secretsChanged(changed fleet.Problems, then, now fleet.Release, typed map[string]string) {
	present, err := o.openSecrets(now)
	if err != nil {
		return
	}
	before, _ := o.openSecrets(then) // without it, all may have changed
	for name, value := range typed {
		if before[name] != present[name] && present[name] != value {
			changed.Add("secret_env", "was changed meanwhile")
		}
	}
}
