package cloudtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
)

// inside hands requests to a stand-in without a network, so that a test can let
// hours pass at once (testing/synctest).
type inside struct {
	host string // the only one there is; "" = any
	next http.Handler
}

// RoundTrip implements http.RoundTripper.
func (i inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if i.host != "" && r.URL.Host != i.host {
		return nil, fmt.Errorf("asked %s, which nobody should", r.URL.Host)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	served := r.Clone(r.Context())
	if served.Host == "" {
		served.Host = r.URL.Host
	}
	if served.Body == nil {
		served.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	i.next.ServeHTTP(recorder, served)
	answer := recorder.Result()
	answer.Request = r
	return answer, nil
}

// counter counts from several goroutines.
type counter struct{ n atomic.Int64 }

func (c *counter) add()       { c.n.Add(1) }
func (c *counter) value() int { return int(c.n.Load()) }
