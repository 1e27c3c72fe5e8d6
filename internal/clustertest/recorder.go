package clustertest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd/api"
)

// Asked is what a request asks an API server to do, in the words of RBAC.
type Asked struct {
	Namespace, Group, Resource, Verb string // Resource with its sub-resource, as pods/log
}

// Recorder stands before an API server and notes what is asked of it.
type Recorder struct {
	mu      sync.Mutex
	asked   map[Asked]bool
	refused map[Asked]bool
}

// Record starts a Recorder before the server of a kubeconfig, and returns the
// kubeconfig changed to go through it. Its users must have tokens: certificates
// do not reach the server. It ends with the test.
func Record(t testing.TB, raw []byte) (*Recorder, []byte) {
	t.Helper()
	r := &Recorder{asked: map[Asked]bool{}, refused: map[Asked]bool{}}
	changed := Edit(t, raw, func(config *api.Config) {
		for _, cluster := range config.Clusters {
			upstream, err := url.Parse(cluster.Server)
			if err != nil {
				t.Fatal(err)
			}
			authorities := x509.NewCertPool()
			authorities.AppendCertsFromPEM(cluster.CertificateAuthorityData)
			transport := &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
				ForceAttemptHTTP2: true,
			}
			t.Cleanup(transport.CloseIdleConnections)
			cluster.Server, cluster.CertificateAuthorityData = standBefore(t, upstream, transport, r.note)
		}
	})
	return r, changed
}

func (r *Recorder) note(answer *http.Response) error {
	asked, ok := askedBy(answer.Request)
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[asked] = true
	if answer.StatusCode == http.StatusForbidden {
		r.refused[asked] = true
	}
	if asked.Verb == "patch" && answer.StatusCode == http.StatusCreated {
		asked.Verb = "create" // an apply of what is not there: the API server asks for both
		r.asked[asked] = true
	}
	return nil
}

// Asked returns all that was asked so far.
func (r *Recorder) Asked() map[Asked]bool { return r.copyOf(r.asked) }

// Refused returns what was answered with 403.
func (r *Recorder) Refused() map[Asked]bool { return r.copyOf(r.refused) }

func (r *Recorder) copyOf(m map[Asked]bool) map[Asked]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[Asked]bool{}
	for a := range m {
		out[a] = true
	}
	return out
}

// askedBy reads a request as the API server's own authorisation does
// (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb);
// ok is false for what is about no resource, such as /version.
func askedBy(r *http.Request) (a Asked, ok bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		a.Group, parts = parts[1], parts[3:]
	default:
		return a, false
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		a.Namespace = parts[1]
		if len(parts) > 2 {
			parts = parts[2:]
		}
	}
	a.Resource = parts[0]
	if len(parts) > 2 {
		a.Resource += "/" + parts[2]
	}
	named := len(parts) > 1
	switch r.Method {
	case http.MethodPost:
		a.Verb = "create"
	case http.MethodPut:
		a.Verb = "update"
	case http.MethodPatch:
		a.Verb = "patch"
	case http.MethodDelete:
		a.Verb = "delete"
		if !named {
			a.Verb = "deletecollection"
		}
	default:
		a.Verb = "get"
		if !named {
			a.Verb = "list"
		}
		if watch := r.URL.Query().Get("watch"); watch == "true" || watch == "1" {
			a.Verb = "watch"
		}
	}
	return a, true
}
