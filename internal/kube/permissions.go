package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	authorization "k8s.io/api/authorization/v1"

	"portolan/internal/fleet"
)

// These bound the access reviews under way: enough to hide the way there and back,
// few enough not to trouble an API server. Those of a test that nobody waits for
// take a connection each.
const (
	reviewsAtOnce      = 16
	quietReviewsAtOnce = 4
)

// permissions asks the API server for each verb, resource and namespace
// whether the identity may.
func (r *run) permissions(ctx context.Context) outcome {
	rows := make([]fleet.PermissionRow, 0, len(r.req.Cluster.Namespaces())*len(fleet.Permissions))
	for _, ns := range r.req.Cluster.Namespaces() {
		for _, p := range fleet.Permissions {
			rows = append(rows, fleet.PermissionRow{Permission: p, Namespace: ns})
		}
	}
	atOnce := reviewsAtOnce
	if r.quiet() {
		atOnce = quietReviewsAtOnce
		for _, ns := range r.req.Cluster.Namespaces() {
			r.granted(ctx, ns, rows)
		}
	}
	var answered atomic.Int64
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range rows {
		row := &rows[i]
		if row.Allowed {
			continue
		}
		group.Go(func() error {
			may, a, err := r.allowed(inner, attributes(row.Permission, row.Namespace))
			if err != nil || !a.ok() {
				return &answerError{a, err}
			}
			row.Allowed = may
			answered.Add(1)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return failed("Allow the test more time, or find out why the API server is slow.",
				"The test ran out of its %s while asking for permissions: %d of %d were answered.", seconds(r.req.Deadline), answered.Load(), len(rows))
		}
		var refused *answerError
		errors.As(err, &refused)
		return r.explain(refused.answer, refused.err)
	}
	r.test.Permissions = rows

	var required, optional []fleet.PermissionRow
	for _, row := range rows {
		switch {
		case row.Allowed:
		case row.Optional:
			optional = append(optional, row)
		default:
			required = append(required, row)
		}
	}
	if len(required) > 0 {
		return failed("Apply the manifest at "+r.manifest()+" with a cluster administrator's credential, and test again.",
			"%s may not: %s.", capital(r.who()), grouped(required))
	}
	if len(optional) > 0 {
		return passed("All %d required ones are granted. Not granted, and only needed for some features: %s.", len(rows)-optionalCount(rows), grouped(optional))
	}
	return passed("All %d are granted.", len(rows))
}

// answerError carries an answer that is of no use out of a goroutine.
type answerError struct {
	answer *answer
	err    error
}

func (e *answerError) Error() string { return fmt.Sprint(e.err) }

func attributes(p fleet.Permission, namespace string) *authorization.ResourceAttributes {
	resource, sub, _ := strings.Cut(p.Resource, "/")
	return &authorization.ResourceAttributes{Namespace: namespace, Verb: p.Verb, Group: p.Group, Resource: resource, Subresource: sub}
}

func optionalCount(rows []fleet.PermissionRow) (n int) {
	for _, row := range rows {
		if row.Optional {
			n++
		}
	}
	return n
}

// grouped names rows with one item for each resource:
// "create, patch services in namespace hermes; get secrets in namespaces a, b".
func grouped(rows []fleet.PermissionRow) string {
	type item struct {
		resource   string
		verbs      []string
		namespaces []string
	}
	var items []item
	for _, row := range rows { // by namespace and resource
		resource := row.Resource
		if row.Group != "" {
			resource += "." + row.Group
		}
		at := slices.IndexFunc(items, func(i item) bool { return i.resource == resource && i.namespaces[0] == row.Namespace })
		if at < 0 {
			items = append(items, item{resource: resource, namespaces: []string{row.Namespace}})
			at = len(items) - 1
		}
		items[at].verbs = append(items[at].verbs, row.Verb)
	}
	var merged []item
	for _, i := range items { // the same verbs in several namespaces
		at := slices.IndexFunc(merged, func(m item) bool { return m.resource == i.resource && slices.Equal(m.verbs, i.verbs) })
		if at < 0 {
			merged = append(merged, i)
			continue
		}
		merged[at].namespaces = append(merged[at].namespaces, i.namespaces...)
	}
	var parts []string
	for _, i := range merged {
		where := "namespace "
		if len(i.namespaces) > 1 {
			where = "namespaces "
		}
		parts = append(parts, strings.Join(i.verbs, ", ")+" "+i.resource+" in "+where+strings.Join(i.namespaces, ", "))
	}
	return strings.Join(parts, "; ")
}

// may reports whether a permission was granted in every namespace.
func (r *run) may(group, resource, verb string) (all bool, missing []string) {
	for _, row := range r.test.Permissions {
		if row.Group == group && row.Resource == resource && row.Verb == verb && !row.Allowed {
			missing = append(missing, row.Namespace)
		}
	}
	return len(missing) == 0, missing
}
