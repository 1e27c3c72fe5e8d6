package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	if err != nil {
		if text := err.Error(); live.Clip(text) != text { // it quotes what was sent
			err = errors.New(live.Clip(text))
		}
		return resp, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil
	}
	switch good := resp.StatusCode >= 200 && resp.StatusCode < 300; {
	case good && lasts(req):
	case good && live.IsList(req.Context()):
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxList}
	case good:
		resp.Body = &meteredBody{Reader: live.NewMeter(resp.Body), Closer: resp.Body}
	default:
		resp.Body = &refusalBody{Closer: resp.Body, sent: &boundedBody{ReadCloser: resp.Body, left: maxError}}
		resp.ContentLength = -1
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

// refusalBody is the body of an error. What the API server says in it is shown
// to people and kept, so it is clipped before anybody reads it.
type refusalBody struct {
	io.Closer
	sent io.Reader
	text io.Reader // what is read of it; nil before the first reading
}

func (b *refusalBody) Read(p []byte) (int, error) {
	if b.text == nil {
		text, err := io.ReadAll(b.sent)
		if err != nil {
			return 0, err
		}
		b.text = bytes.NewReader(clipped(text))
	}
	return b.text.Read(p)
}

// clipped returns an error's text with what a Status says clipped.
func clipped(text []byte) []byte {
	const short = 4 << 10
	var status metav1.Status
	if len(text) <= short || json.Unmarshal(text, &status) != nil || status.Kind != "Status" {
		return text
	}
	live.ClipAll(&status)
	if less, err := json.Marshal(status); err == nil {
		return less
	}
	return text
}
