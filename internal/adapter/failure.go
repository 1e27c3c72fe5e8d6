package adapter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// Reasons of failures that the adapter gives beside fleet's.
const (
	reasonNotFound    = "NotFound"
	reasonQuota       = "QuotaExceeded"
	reasonAdmission   = "AdmissionDenied"
	reasonTerminating = "NamespaceTerminating"
	reasonAddress     = "LoadBalancerTimeout"
)

// refusal turns what the API server answered to an action on an object into a
// Failure when asking again cannot help. Everything else, such as a server
// that is not reached, is overloaded or broken, stays a plain error. The API
// server's own words are kept; conceal takes the values of secrets out of them.
func refusal(err error, action, object string) error {
	if err == nil || errors.As(err, new(*fleet.Failure)) {
		return err
	}
	text := apiMessage(err)
	fail := func(reason, message, remedy string) error {
		return &fleet.Failure{Reason: reason, Message: message, Remedy: remedy, Object: object}
	}
	denied := strings.Contains(text, "denied the request") || strings.Contains(text, "violates PodSecurity") || strings.Contains(text, "ValidatingAdmissionPolicy")
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %s: %w", action, object, err)
	case denied && !apierrors.IsInternalError(err):
		return fail(reasonAdmission, fmt.Sprintf("An admission rule of the cluster refused to %s %s: %s", action, object, text),
			"Change what the rule objects to, or ask the cluster's admins about it.")
	case apierrors.IsForbidden(err) && strings.Contains(text, "exceeded quota"):
		return fail(reasonQuota, fmt.Sprintf("The namespace's quota does not allow to %s %s: %s", action, object, text),
			"Ask for less, remove something, or have the quota raised.")
	case apierrors.IsForbidden(err) && strings.Contains(text, "being terminated"):
		return fail(reasonTerminating, fmt.Sprintf("%s cannot be made: its namespace is being deleted.", object),
			"Wait until the namespace is gone, then redeploy.")
	case apierrors.IsForbidden(err) && (wanting(text) || strings.Contains(text, "not yet ready to handle request")):
		return fmt.Errorf("%s %s: %w", action, object, err) // the server or its controllers have just begun
	case apierrors.IsForbidden(err) && lacksRight(text):
		return fail(fleet.ReasonForbidden, fmt.Sprintf("The cluster's credential may not %s %s: %s", action, object, text),
			"Apply the role from the cluster's page (RBAC manifest), or use a credential that has it.")
	case apierrors.IsForbidden(err) && strings.Contains(text, "forbidden: "):
		return fail(reasonAdmission, fmt.Sprintf("A rule of the cluster does not let anybody %s %s like this: %s", action, object, text),
			"Edit the workload so that it keeps the rule, or ask the cluster's admins about it.")
	case apierrors.IsForbidden(err):
		return fail(fleet.ReasonForbidden, fmt.Sprintf("The request to %s %s was refused (403), but not in the way of a Kubernetes API server: %s", action, object, text),
			"Look for a proxy, gateway or firewall that filters requests before the API server.")
	case apierrors.IsUnauthorized(err):
		return fail(fleet.ReasonUnauthorized, fmt.Sprintf("The API server does not accept the cluster's credential (asked to %s %s).", action, object),
			"Test the cluster and rotate its credential.")
	case missesNamespace(err):
		return fail(reasonNotFound, fmt.Sprintf("%s cannot be made, because its namespace is not there: %s", object, text),
			"Redeploy makes the namespace, where the cluster's credential may, and the workload's objects anew.")
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return fail(fleet.ReasonInvalid, fmt.Sprintf("The API server refused %s: %s", object, text),
			"Edit the workload and try again.")
	default:
		return fmt.Errorf("%s %s: %w", action, object, err)
	}
}

// lacksRight reports whether a request was forbidden for want of a right, in the
// words that the API server has for every authorizer
// (k8s.io/apiserver/pkg/endpoints/handlers/responsewriters). Admission, which
// forbids what nobody may do, has others.
func lacksRight(refusal string) bool {
	_, after, named := strings.Cut(refusal, `User "`)
	return named && strings.Contains(after, `" cannot `)
}

// missesNamespace reports whether something was to be made in a namespace that
// is not there.
func missesNamespace(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &status) &&
		status.Status().Details != nil && status.Status().Details.Kind == live.Namespaces.Plural
}

// apiMessage is the API server's own message.
func apiMessage(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Message != "" {
		return status.Status().Message
	}
	return err.Error()
}

// conflict says that an object of a name that is wanted belongs to somebody else.
func conflict(object, namespace string) *fleet.Failure {
	return &fleet.Failure{
		Reason:  fleet.ReasonConflict,
		Object:  object,
		Message: fmt.Sprintf("conflict: %s in namespace %s exists and was not made by this workload, so it is left alone.", object, namespace),
		Remedy:  "Deploy under another name, or remove that object yourself if nobody needs it.",
	}
}
