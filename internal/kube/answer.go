package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/fleet"
)

// maxAnswer bounds what the test reads of one answer.
const maxAnswer = 4 << 20

// answer is what came back for one request of the test.
type answer struct {
	code   int
	header http.Header
	body   []byte
	status metav1.Status // where the body is one
}

// nameList is what is read of a list: decoded in full, the smallest item that a
// server can send takes hundreds of times its bytes.
type nameList struct {
	Items []struct {
		Metadata struct {
			Name        string `json:"name"`
			Annotations struct {
				DefaultClass string `json:"storageclass.kubernetes.io/is-default-class"`
			} `json:"annotations"`
		} `json:"metadata"`
	} `json:"items"`
}

// ask sends one request to the API server, as JSON so that whatever else may
// answer there can be recognised. into is filled from a 2xx answer.
func (r *run) ask(ctx context.Context, method, path string, body, into any) (*answer, error) {
	r.yield(ctx)
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.config.Host+path, payload)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if _, ok := into.(*nameList); ok {
		req.Header.Set("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	a := &answer{code: resp.StatusCode, header: resp.Header, body: text}
	if a.ok() {
		if into != nil && json.Unmarshal(text, into) != nil {
			return a, errNotKubernetes
		}
		return a, nil
	}
	if json.Unmarshal(text, &a.status) != nil || a.status.Kind != "Status" {
		a.status = metav1.Status{}
	}
	return a, nil
}

// fromCache is the query with which an API server answers from its watch cache
// (“Kubernetes API Concepts”), which spares its etcd. A test that nobody waits for
// is content with it. The cache answers too where etcd is gone, and may be behind:
// nothing that it says may fail a test.
const fromCache = "resourceVersion=0"

// names asks for the names of a list.
func (r *run) names(ctx context.Context, path string) (list nameList, a *answer, err error) {
	path += "?limit=200" // without one, a cache that is not ready refuses
	if r.quiet() {
		path += "&" + fromCache
	}
	a, err = r.ask(ctx, http.MethodGet, path, nil, &list)
	return list, a, err
}

// errNotKubernetes is returned for a 2xx answer that is not what an API server
// sends.
var errNotKubernetes = errors.New("the answer is not that of a Kubernetes API server")

func (a *answer) ok() bool { return a != nil && a.code >= 200 && a.code < 300 }

// is reports whether the API server itself answered with code.
func (a *answer) is(code int) bool { return a != nil && a.code == code && a.status.Kind == "Status" }

// explain says what is wrong with an answer that a stage has no use for.
func (r *run) explain(a *answer, err error) outcome {
	if a == nil {
		return r.silent(err)
	}
	at := net.JoinHostPort(r.host, r.port)
	message := plain(a.status.Message, 240)
	switch {
	case a.code >= 300 && a.code < 400:
		to := "another address"
		if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Host != "" {
			to = plain(u.Host, 100)
		}
		return failed("Use the address of the API server itself, not of a dashboard or login page before it.",
			"%s redirects to %s (%d) instead of answering. Redirects are not followed: they would carry the credential elsewhere.", at, to, a.code)
	case a.html():
		return failed("Use the address of the API server itself, not of a dashboard, proxy or login page before it.",
			"A web page answered instead of the Kubernetes API (%d%s).", a.code, title(a.body))
	case a.code == http.StatusUnauthorized:
		return failed(r.unauthorizedRemedy(), "The API server does not accept the credential (401).")
	case a.is(http.StatusForbidden):
		return failed("Grant the identity the rights of the manifest at "+r.manifest()+".", "The API server knows the credential but forbids the request (403): %s.", strings.TrimSuffix(message, "."))
	case a.code == http.StatusForbidden:
		return failed("Look for a proxy, gateway or firewall that filters requests before the API server.", "%s answered 403, but not in the way of a Kubernetes API server.", at)
	case a.code == http.StatusTooManyRequests:
		return failed("Try again later.", "The API server has too many requests to answer this one (429).")
	case a.code >= 500 && a.status.Kind == "Status":
		return failed("Look into the API server's log.", "The API server answered with an error of its own (%d): %s.", a.code, strings.TrimSuffix(message, "."))
	case a.code >= 500:
		return failed("Check the load balancer or proxy before the API server, and that it has a healthy one behind it.", "%s answered %d %s, without reaching a Kubernetes API server.", at, a.code, strings.ToLower(http.StatusText(a.code)))
	case a.status.Kind == "Status":
		return failed("", "The API server answered %d: %s.", a.code, strings.TrimSuffix(message, "."))
	default:
		return failed("Check the server in the kubeconfig, its port and its path.", "What answers at %s is not a Kubernetes API server (%d).", at, a.code)
	}
}

func (r *run) unauthorizedRemedy() string {
	if r.recipe != nil {
		return r.recipe.Unknown()
	}
	if r.test.Credential.Kind == "client certificate" {
		return "The certificate may be of another cluster, or its certificate authority was replaced: fetch a fresh kubeconfig."
	}
	return "The token may have expired, been deleted, or be of another cluster: make a new one and put it into the kubeconfig."
}

// manifest is where the page with the needed rights is.
func (r *run) manifest() string { return fleet.ManifestPath(r.req.Cluster.ID) }

// silent explains a request without an answer.
func (r *run) silent(err error) outcome {
	at := net.JoinHostPort(r.host, r.port)
	var alert tls.AlertError
	var dial *net.OpError
	var told *fleet.Error
	switch {
	case errors.As(err, &told): // no token could be made
		return failed(told.Remedy, "%s", told.Message)
	case errors.Is(err, errRefusedAddress), errors.As(err, &dial) && dial.Op == "dial":
		return r.unreachable(err)
	case errors.As(err, &alert), strings.Contains(err.Error(), remoteAlert):
		return failed("A load balancer or proxy before the API server may want another client certificate.", "%s broke off the TLS connection: %s.", at, alertText(err))
	case timedOut(err), errors.Is(err, context.Canceled):
		return failed("The API server, or what it depends on (etcd, a webhook), hangs; or a proxy before it has lost it. Look into its log.",
			"%s took the request and did not answer within %s.", at, r.waited())
	case errors.Is(err, errNotKubernetes):
		return failed("Check the server in the kubeconfig, its port and its path.", "What answers at %s is not a Kubernetes API server.", at)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(err.Error(), "GOAWAY"), strings.Contains(err.Error(), "could not be established"),
		strings.Contains(err.Error(), "closed idle connection"):
		return failed("The API server, or a proxy before it, may be restarting: try again.", "%s closed the connection before it answered.", at)
	default:
		return failed("Check that the port is that of the API server.", "%s did not answer in a way that could be understood.", at)
	}
}

func (a *answer) html() bool {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if kind == "text/html" || kind == "application/xhtml+xml" {
		return true
	}
	head := bytes.ToLower(bytes.TrimSpace(a.body[:min(len(a.body), 512)]))
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

var titleTag = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// title returns the title of a web page, ready to follow a status code.
func title(page []byte) string {
	m := titleTag.FindSubmatch(page[:min(len(page), 64<<10)])
	if m == nil {
		return ""
	}
	text := plain(strings.Join(strings.Fields(string(m[1])), " "), 80)
	if text == "" {
		return ""
	}
	return ", titled “" + text + "”"
}
