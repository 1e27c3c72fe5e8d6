package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// HeaderTimeout bounds the wait for the first byte of an answer. It is longer
// than an admission webhook may take (30 s by the API server's default).
const HeaderTimeout = 40 * time.Second

// errNoAnswer is the cause where an API server took a request and was silent.
var errNoAnswer = errors.New("no answer from the API server in time")

// baseTransport returns the transport under every request with cfg, which is
// hardened. It takes no proxy from the environment: a kubeconfig says where to
// connect, and its own proxy is part of cfg.Dial.
func baseTransport(cfg *rest.Config) (*http.Transport, error) {
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, err
	}
	base := plainTransport(cfg, tlsConfig)
	// One connection carries everything, watches and streams included. It is
	// pinged when quiet, so that a dead one is noticed within 15 s.
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second}
	return base, nil
}

// plainTransport is baseTransport with connections that nobody pings, for those
// that end soon: net/http keeps what belongs to a connection, 60 KiB, until its
// next ping would be due, although it has ended.
func plainTransport(cfg *rest.Config, tlsConfig *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:         cfg.Dial,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: TLSTimeout,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConnsPerHost: 4,
		ReadBufferSize:      4 << 10,
		WriteBufferSize:     4 << 10,
		// Errors quote headers that they do not understand.
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// bounded is base with bounds on the size of answers.
func bounded(base http.RoundTripper) http.RoundTripper {
	return &boundedAnswers{next: base}
}

// httpClient returns the client over base that carries the credential of cfg.
// A redirect is an answer like any other: following one would take the
// credential to another server.
func httpClient(cfg *rest.Config, base http.RoundTripper) (*http.Client, error) {
	wrapped, err := rest.HTTPWrappersForConfig(cfg, base)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     wrapped,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// harden sets what every client's configuration has besides the credential.
// From then on the way to the server, through the proxy of the kubeconfig if it
// has one, is the configuration's Dial.
func harden(cfg *rest.Config, policy AddressPolicy, version string) {
	cfg.UserAgent = "portolan/" + version
	cfg.QPS, cfg.Burst = 50, 100 // client-go's 5 and 10 would make a hundred access reviews take 20 s
	cfg.Dial = wayOf(cfg, policy).dial
	cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	cfg.ContentType = "application/vnd.kubernetes.protobuf" // a third of JSON's memory
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
}

// headerDeadline gives up on an answer that does not begin. What has begun is
// never cut, so watches and followed logs last as long as they have to.
type headerDeadline struct {
	next    http.RoundTripper
	timeout time.Duration
}

// RoundTrip implements http.RoundTripper.
func (h *headerDeadline) RoundTrip(req *http.Request) (*http.Response, error) {
	if beginsLate(req) {
		return h.next.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(h.timeout, func() { cancel(errNoAnswer) })
	resp, err := h.next.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errNoAnswer) {
			err = errNoAnswer
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &cancelOnClose{ReadCloser: resp.Body, cancel: cancel}
	return resp, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (h *headerDeadline) WrappedRoundTripper() http.RoundTripper { return h.next }

// beginsLate recognises requests whose answer may rightly begin much later: a
// kubelet sends a followed log's header with its first line.
func beginsLate(req *http.Request) bool {
	if req.Header.Get("Upgrade") != "" {
		return true
	}
	query := req.URL.Query()
	return query.Get("follow") == "true" || query.Get("watch") == "true" ||
		strings.HasSuffix(req.URL.Path, "/exec") || strings.HasSuffix(req.URL.Path, "/attach")
}

type cancelOnClose struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c *cancelOnClose) Close() error {
	err := c.ReadCloser.Close()
	c.cancel(nil)
	return err
}
