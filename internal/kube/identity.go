package kube

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

const (
	selfSubjectReviews       = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	selfSubjectAccessReviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
)

// authenticate finds out as whom the API server sees the credential.
func (r *run) authenticate(ctx context.Context) outcome {
	harden(r.config, r.opts.Policy, r.opts.Version)
	r.base = plainTransport(r.config, r.tlsConfig)
	r.base.DialTLSContext = r.dialTLS
	r.base.ForceAttemptHTTP2 = !r.quiet() // which would offer it to further connections
	var err error
	if r.client, err = httpClient(r.config, &headerDeadline{next: bounded(r.base), timeout: HeaderTimeout}); err != nil {
		return failed("", "The certificates of the kubeconfig cannot be used.")
	}

	var review authentication.SelfSubjectReview
	a, err := r.ask(ctx, http.MethodPost, selfSubjectReviews, authentication.SelfSubjectReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "SelfSubjectReview"},
	}, &review)
	switch {
	case err == nil && a.ok():
		if review.Kind != "SelfSubjectReview" {
			return r.explain(a, errNotKubernetes)
		}
		r.test.Identity = plain(review.Status.UserInfo.Username, 200)
	case a.is(http.StatusForbidden):
		r.test.Identity = userIn(a.status.Message)
		fallthrough
	case a.is(http.StatusNotFound):
		// Before Kubernetes 1.28 there is no such review, and some clusters
		// take the right to it away: that one may ask what one may do is proof
		// enough of being known.
		if _, a, err := r.allowed(ctx, &authorization.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: r.req.Cluster.Namespace}); err != nil || !a.ok() {
			return r.explain(a, err)
		}
	default:
		return r.explain(a, err)
	}
	switch r.test.Identity {
	case "system:anonymous":
		return failed(r.unauthorizedRemedy(), "The API server ignores the credential and takes Portolan for an anonymous client.")
	case "":
		return passed("The API server accepts the credential, but does not say as whom.")
	}
	return passed("As %s.", r.test.Identity)
}

// dialTLS connects for a request. The first is sent to whom the handshake has
// already been made with: one handshake is a good part of what a test costs both
// sides.
func (r *run) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	if conn := r.greeted.Swap(nil); conn != nil {
		return conn, nil
	}
	conn, err := r.config.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, r.tlsConfig)
	ctx, cancel := context.WithTimeout(ctx, TLSTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	if err := r.opened.add(secure); err != nil {
		return nil, err
	}
	return secure, nil
}

// do sends a request. Nobody has read the connection of the handshake until then,
// and the other side may have ended it meanwhile, saying why: a new one tells
// that, or serves.
func (r *run) do(req *http.Request) (*http.Response, error) {
	greeted := r.greeted.Load() != nil
	resp, err := r.client.Do(req)
	if err == nil || !greeted || r.greeted.Load() != nil || req.Context().Err() != nil || timedOut(err) {
		return resp, err
	}
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	if resp, err = r.client.Do(again); err != nil {
		err = r.alerted(req.Context(), err)
	}
	return resp, err
}

// alerted returns the alert with which the other side ends a connection that asks
// nothing, or err if it sends none. A refused client certificate is told after the
// handshake, and whoever sends a request meanwhile may hear that the connection
// is closed instead.
func (r *run) alerted(ctx context.Context, err error) error {
	conn, refused := r.dialTLS(ctx, "tcp", net.JoinHostPort(r.host, r.port))
	if refused != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, TLSTimeout) // the other side has not ended the handshake yet
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	if _, told := conn.Read(make([]byte, 1)); told != nil && strings.Contains(told.Error(), remoteAlert) {
		return told
	}
	return err
}

var forbiddenUser = regexp.MustCompile(`User "([^"]{1,200})" cannot`)

// userIn returns the user that a refusal of the API server names.
func userIn(message string) string {
	if m := forbiddenUser.FindStringSubmatch(message); m != nil {
		return plain(m[1], 200)
	}
	return ""
}

// allowed asks whether the identity may do what attributes say.
func (r *run) allowed(ctx context.Context, attributes *authorization.ResourceAttributes) (bool, *answer, error) {
	var review authorization.SelfSubjectAccessReview
	a, err := r.ask(ctx, http.MethodPost, selfSubjectAccessReviews, authorization.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
		Spec:     authorization.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes},
	}, &review)
	if err == nil && a.ok() && review.Kind != "SelfSubjectAccessReview" {
		err = errNotKubernetes
	}
	return review.Status.Allowed, a, err
}

// oldestMinor is the oldest 1.x that Portolan is known to work with.
const oldestMinor = 25

// version asks what the server is.
func (r *run) version(ctx context.Context) outcome {
	var info version.Info
	a, err := r.ask(ctx, http.MethodGet, "/version", nil, &info)
	switch {
	case a.is(http.StatusForbidden):
		return warned("", "The API server does not tell this identity its version.")
	case err != nil || !a.ok():
		return r.explain(a, err)
	case info.GitVersion == "":
		return r.explain(a, errNotKubernetes)
	}
	r.test.ServerVersion = plain(info.GitVersion, 80)
	major, _ := strconv.Atoi(info.Major)
	minor, err := strconv.Atoi(strings.TrimRight(info.Minor, "+"))
	if err != nil || major < 1 {
		return warned("", "The API server calls its version %s, which tells nothing.", quote(info.GitVersion))
	}
	if major == 1 && minor < oldestMinor {
		return warned("Upgrade the cluster.", "Kubernetes %s is older than 1.%d; not everything may work.", r.test.ServerVersion, oldestMinor)
	}
	return passed("Kubernetes %s.", r.test.ServerVersion)
}
