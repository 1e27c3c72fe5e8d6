package kube

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"

	authorization "k8s.io/api/authorization/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/fleet"
)

// namespaces checks that this is the cluster of the earlier tests, and that
// its namespaces are there or can be made.
func (r *run) namespaces(ctx context.Context) outcome {
	identity, ok := r.pin(ctx)
	if !ok {
		return identity
	}
	var there, creatable, missing, ending, unseen []string
	for _, name := range r.req.Cluster.Namespaces() {
		seen, trouble := r.look(ctx, name)
		switch seen {
		case namespaceThere:
			there = append(there, name)
		case namespaceCreatable:
			creatable = append(creatable, name)
			r.absent[name] = true
		case namespaceMissing:
			missing = append(missing, name)
		case namespaceEnding:
			ending = append(ending, name)
		case namespaceUnseen:
			unseen = append(unseen, name)
		default:
			return trouble
		}
	}
	switch {
	case len(missing) > 0:
		return failed("Make it there, for instance with the manifest at "+r.manifest()+", or choose another namespace.",
			"%s not in the cluster, and %s may not make it.", are(missing), r.who())
	case len(ending) > 0:
		return failed("Wait until it is gone, or choose another namespace.", "%s being deleted.", are(ending))
	case identity.state == fleet.CheckWarning:
		return identity
	case len(creatable) > 0:
		return warned("Nothing needs to be done; or make it now with the manifest at "+r.manifest()+".",
			"%s not in the cluster; the first deploy makes it.", are(creatable))
	case len(unseen) > 0:
		return passed("%s may not look at namespaces; whether %s there shows in the permissions.", capital(r.who()), lower(are(unseen)))
	default:
		return passed("%s there.", are(there))
	}
}

// namespaceState is what can be said of one namespace.
type namespaceState int

const (
	namespaceUnknown namespaceState = iota // the question itself failed
	namespaceThere
	namespaceEnding    // being deleted
	namespaceCreatable // absent, but may be made
	namespaceMissing   // absent, and may not be made
	namespaceUnseen    // hidden from this identity
)

// look finds out about one namespace. The outcome says what is wrong where the
// state is unknown.
func (r *run) look(ctx context.Context, name string) (namespaceState, outcome) {
	path := "/api/v1/namespaces/" + url.PathEscape(name)
	if r.quiet() { // pin has found that etcd answers
		var ns core.Namespace
		a, err := r.ask(ctx, http.MethodGet, path+"?"+fromCache, nil, &ns)
		if err == nil && a.ok() && ns.Status.Phase == core.NamespaceActive {
			return namespaceThere, outcome{}
		}
	}
	var ns core.Namespace
	a, err := r.ask(ctx, http.MethodGet, path, nil, &ns)
	switch {
	case err == nil && a.ok() && ns.Status.Phase == core.NamespaceTerminating:
		return namespaceEnding, outcome{}
	case err == nil && a.ok():
		return namespaceThere, outcome{}
	case a.is(http.StatusForbidden):
		// A scoped identity may not look at namespaces. Making something in
		// it without keeping it tells: in an absent one nothing can be made.
		a, err = r.ask(ctx, http.MethodPost, "/api/v1/namespaces/"+url.PathEscape(name)+"/configmaps?dryRun=All", core.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Name: probeName},
		}, nil)
		switch {
		case err == nil && (a.ok() || a.is(http.StatusConflict)):
			return namespaceThere, outcome{}
		case !a.is(http.StatusNotFound):
			return namespaceUnseen, outcome{}
		}
	case !a.is(http.StatusNotFound):
		return namespaceUnknown, r.explain(a, err)
	}
	may, a, err := r.allowed(ctx, &authorization.ResourceAttributes{Verb: "create", Resource: "namespaces"})
	switch {
	case err != nil || !a.ok():
		return namespaceUnknown, r.explain(a, err)
	case may:
		return namespaceCreatable, outcome{}
	default:
		return namespaceMissing, outcome{}
	}
}

// probeName is the name of objects that are tried but never kept.
const probeName = "portolan-connection-test"

// who names the identity in sentences: as the API server does, or else as the
// credential says of itself.
func (r *run) who() string {
	return cmp.Or(r.test.Identity, r.test.Credential.Subject, "this identity")
}

// are begins a sentence about namespaces: "Namespace a is", "Namespaces a, b are".
func are(names []string) string {
	if len(names) == 1 {
		return "Namespace " + names[0] + " is"
	}
	return "Namespaces " + strings.Join(names, ", ") + " are"
}

func capital(s string) string {
	if strings.HasPrefix(s, "this ") {
		return "T" + s[1:]
	}
	return s
}

func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }
