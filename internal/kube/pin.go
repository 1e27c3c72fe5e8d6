package kube

import (
	"context"
	"net/http"
	"net/url"
	"regexp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/fleet"
)

// endpoint is where a credential goes.
type endpoint struct {
	destination string // as Kubeconfig.Destination gives it
	server      string // its URL, as CredentialFacts shows it
	verified    bool   // that whoever answers there is whom the kubeconfig means is checked
}

func (c *credential) endpoint() endpoint {
	return endpoint{destination: c.destination(), server: shown(c.server), verified: !c.insecure}
}

// sighting is how the namespace is found by which a cluster is recognised.
type sighting int

const (
	unchanged sighting = iota
	remade             // it has another UID
	gone
	hidden // it may not be read
)

// leadsTo reports whether the cluster at an endpoint is the known one, whose
// namespace is found there as seen. Where that tells nothing, or may have been
// deleted since, the endpoint must be where the UID was read, and answer as such.
func (e endpoint) leadsTo(known fleet.ClusterIdentity, seen sighting) bool {
	switch {
	case seen == unchanged:
		return true
	case known.Namespace == metav1.NamespaceSystem && seen != hidden:
		return false // that one lasts as long as its cluster
	case e.verified && e.destination == known.Destination:
		return true
	default: // all that is known of some tests is the server
		return seen != remade && e.server == known.Destination
	}
}

// pin finds out by what the cluster is recognised from now on. ok means that
// nothing speaks against its being the cluster of the earlier tests.
func (r *run) pin(ctx context.Context) (out outcome, ok bool) {
	known, seen := r.req.Pinned, unchanged
	if known.UID != "" {
		uid, a, err := r.uid(ctx, known.Namespace)
		switch {
		case a.is(http.StatusNotFound):
			seen = gone
		case a.is(http.StatusForbidden):
			seen = hidden
		case err != nil || !a.ok():
			return r.explain(a, err), false
		case uid == "":
			return r.explain(a, errNotKubernetes), false
		case uid != known.UID:
			seen = remade
		}
		if !r.endpoint.leadsTo(known, seen) {
			return r.unrecognised(known, seen), false
		}
		if seen == unchanged {
			r.recognise(known.Namespace, known.UID)
			return outcome{}, true
		}
		r.test.Pinned = known // unless another is found
		if r.endpoint.verified {
			r.test.Pinned.Destination = r.endpoint.destination
		}
	}
	for _, name := range append([]string{metav1.NamespaceSystem}, r.req.Cluster.Namespaces()...) {
		uid, a, err := r.uid(ctx, name)
		if a == nil {
			return r.silent(err), false
		}
		if err == nil && a.ok() && uid != "" {
			r.recognise(name, uid)
			break
		}
	}
	switch seen {
	case gone:
		return warned("Make sure that this is the cluster you mean.", "The namespace %s, by which this cluster was recognised, is gone.", known.Namespace), true
	case remade:
		return warned("Redeploy what ran there. If nobody made it anew, make sure that this is the cluster you mean.",
			"The namespace %s was made anew: it has another UID than before, on the same server.", known.Namespace), true
	}
	return outcome{}, true
}

// uid reads the UID of a namespace.
func (r *run) uid(ctx context.Context, namespace string) (string, *answer, error) {
	var ns metav1.PartialObjectMetadata
	a, err := r.ask(ctx, http.MethodGet, "/api/v1/namespaces/"+url.PathEscape(namespace), nil, &ns)
	return string(ns.UID), a, err
}

func (r *run) recognise(namespace, uid string) {
	r.test.Pinned = fleet.ClusterIdentity{Namespace: namespace, UID: uid, Destination: r.endpoint.destination}
}

// unrecognised says why this may be another cluster than the known one.
func (r *run) unrecognised(known fleet.ClusterIdentity, seen sighting) outcome {
	const apart = "If the cluster was made anew on purpose, register it as a new one. If not, find out where the kubeconfig's server name or file was changed."
	why := "it leads to another server than before (its address, certificate authority or proxy differs)"
	if r.endpoint.destination == known.Destination {
		why = "the server's certificate is not checked"
	}
	const unknown = "Whether this credential leads to the same cluster as before cannot be told: %s, and the namespace %s, by which the cluster is recognised, %s."
	switch {
	case seen == hidden:
		return failed(r.letRead(known.Namespace), unknown, why, known.Namespace, "may not be read")
	case seen == gone && known.Namespace != metav1.NamespaceSystem && r.endpoint.verified:
		return failed("If it is the same, test it with the server, certificate authority and proxy of before: it is then recognised by another namespace, and they can be changed. "+apart,
			unknown, why, known.Namespace, "is not there")
	case seen == gone && known.Namespace != metav1.NamespaceSystem:
		return failed(apart, unknown, why, known.Namespace, "is not there")
	default:
		return failed(apart, "This credential leads to another cluster than before: the namespace %s there has another UID.", known.Namespace)
	}
}

// plainUser is a user whose name a shell takes as it stands.
var plainUser = regexp.MustCompile(`^[A-Za-z0-9@._:/+-]+$`)

// letRead is how the identity gets the right to read a namespace.
func (r *run) letRead(namespace string) string {
	user := r.test.Identity
	if !plainUser.MatchString(user) {
		user = "USER"
	}
	name := "portolan-identity-" + r.req.Cluster.ID
	return "Let the identity read it, with an administrator's kubeconfig: “kubectl create clusterrole " + name +
		" --verb=get --resource=namespaces --resource-name=" + namespace + "”, then “kubectl create clusterrolebinding " + name +
		" --clusterrole=" + name + " --user=" + user + "”. Then try again."
}
