package kube

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"portolan/internal/kube/live"
)

// The bounds on answers in bytes after decompression: a server that never stops
// sending must not take the memory that all clusters share. A list of ten
// thousand pods is smaller than the one, an error with a line for each of a
// thousand invalid fields smaller than the other.
const (
	maxList  = 128 << 20
	maxError = 1 << 20
)

var errTooMuch = errors.New("the API server's answer does not end")

// boundedAnswers breaks off answers that grow larger than an object of the API
// server can be. Those that are read piece by piece may last: lists, which bound
// what is kept of them, watches, which bound each event, and logs, which bound
// each line. An error in their place is read as a whole like any other.
type boundedAnswers struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b *boundedAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, err
	}
	switch good := resp.StatusCode >= 200 && resp.StatusCode < 300; {
	case good && lasts(req):
	case good && live.IsList(req.Context()):
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxList}
	case good:
		resp.Body = &meteredBody{Reader: live.NewMeter(resp.Body), Closer: resp.Body}
	default:
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxError}
	}
	return resp, nil
}

// lasts recognises requests whose answer has no size that could be foreseen.
func lasts(req *http.Request) bool {
	return req.URL.Query().Get("watch") == "true" || strings.HasSuffix(req.URL.Path, "/log")
}

// WrappedRoundTripper lets client-go find the transport below.
func (b *boundedAnswers) WrappedRoundTripper() http.RoundTripper { return b.next }

type meteredBody struct {
	io.Reader
	io.Closer
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, errTooMuch
	}
	return n, err
}
