package kube

import (
	"context"
	"net/http"
	"slices"

	authorization "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/fleet"
)

const selfSubjectRulesReviews = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"

// granted marks the rows of a namespace that the identity's own list of rules
// covers: one question in place of some fifty. Tests that run again by themselves
// begin with it; whatever it does not cover, such as a right that was taken away
// or one that only an authoriser without such a list grants, is asked for by an
// access review, whose word counts.
func (r *run) granted(ctx context.Context, namespace string, rows []fleet.PermissionRow) {
	var review authorization.SelfSubjectRulesReview
	a, err := r.ask(ctx, http.MethodPost, selfSubjectRulesReviews, authorization.SelfSubjectRulesReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectRulesReview"},
		Spec:     authorization.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, &review)
	if err != nil || !a.ok() || review.Status.Incomplete || review.Status.EvaluationError != "" {
		return
	}
	for i := range rows {
		if row := &rows[i]; row.Namespace == namespace {
			row.Allowed = slices.ContainsFunc(review.Status.ResourceRules, func(rule authorization.ResourceRule) bool { return covers(rule, row.Permission) })
		}
	}
}

// covers reports whether a rule grants a permission on every object.
func covers(rule authorization.ResourceRule, p fleet.Permission) bool {
	has := func(list []string, value string) bool {
		return slices.Contains(list, value) || slices.Contains(list, "*")
	}
	return len(rule.ResourceNames) == 0 && has(rule.Verbs, p.Verb) && has(rule.APIGroups, p.Group) && has(rule.Resources, p.Resource)
}
