package kube

import (
	"errors"
	"io"
	"net/http"
	"strings"
)

// maxBody bounds an answer that is read as a whole. A list of ten thousand pods
// is smaller; a server that never stops sending must not take the memory that
// all clusters share.
const maxBody = 256 << 20

var errTooMuch = errors.New("the API server's answer does not end")

// boundedAnswers breaks off answers that grow too large. Those that are read
// piece by piece may last: watches, which bound each event, and logs, which
// bound each line.
type boundedAnswers struct {
	next  http.RoundTripper
	limit int64
}

// RoundTrip implements http.RoundTripper.
func (b *boundedAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err != nil || beginsLate(req) || strings.HasSuffix(req.URL.Path, "/log") {
		return resp, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: b.limit}
	return resp, nil
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
