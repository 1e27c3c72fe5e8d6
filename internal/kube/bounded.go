package kube

import (
	"errors"
	"io"
	"net/http"
	"strings"
)

// The bounds on answers that are read as a whole, in bytes after decompression:
// a server that never stops sending must not take the memory that all clusters
// share. A list of ten thousand pods is smaller than the one, an error with a
// line for each of a thousand invalid fields smaller than the other.
const (
	maxBody  = 128 << 20
	maxError = 1 << 20
)

var errTooMuch = errors.New("the API server's answer does not end")

// boundedAnswers breaks off answers that grow too large. Those that are read
// piece by piece may last: watches, which bound each event, and logs, which
// bound each line. An error in their place is read as a whole like any other.
type boundedAnswers struct {
	next           http.RoundTripper
	limit, onError int64
}

// RoundTrip implements http.RoundTripper.
func (b *boundedAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, err
	}
	switch good := resp.StatusCode >= 200 && resp.StatusCode < 300; {
	case good && lasts(req):
	case good:
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: b.limit}
	default:
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: b.onError}
	}
	return resp, nil
}

// lasts recognises requests whose answer has no size that could be foreseen.
func lasts(req *http.Request) bool {
	return req.URL.Query().Get("watch") == "true" || strings.HasSuffix(req.URL.Path, "/log")
}

// WrappedRoundTripper lets client-go find the transport below.
func (b *boundedAnswers) WrappedRoundTripper() http.RoundTripper { return b.next }

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
