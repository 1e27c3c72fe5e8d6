package kube

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// breakerFailures is how many requests in a row must stay without an answer
	// before the next ones are not sent.
	breakerFailures = 3
	// breakerPause is how long they are not sent for. It is shorter than what
	// people and operations wait before they try again.
	breakerPause = 2 * time.Second
	// breakerProbe bounds the one request that then finds out whether the
	// server is back: all others wait for what comes of it.
	breakerProbe = 5 * time.Second
)

// errNotAnswering is what a request fails with that was not sent.
var errNotAnswering = errors.New("the API server has not answered the latest requests; it is asked again in a moment")

// breaker keeps a cluster that does not answer from holding whoever asks: after
// a few requests in vain the next ones fail at once, but for one now and then.
type breaker struct {
	next  http.RoundTripper // gives up on an answer that does not begin
	probe http.RoundTripper // does so sooner
	state *gobreaker.TwoStepCircuitBreaker[struct{}]
}

func newBreaker(bounded http.RoundTripper) *breaker {
	return &breaker{
		next:  &headerDeadline{next: bounded, timeout: HeaderTimeout},
		probe: &headerDeadline{next: bounded, timeout: breakerProbe},
		state: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:     breakerPause,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakerFailures },
			// That nobody waits for an answer any more says nothing about it.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		}),
	}
}

// RoundTrip implements http.RoundTripper.
func (b *breaker) RoundTrip(req *http.Request) (*http.Response, error) {
	late := beginsLate(req)
	if late && b.state.State() != gobreaker.StateClosed {
		return nil, errNotAnswering // its answer may begin too late to find out by
	}
	done, err := b.state.Allow()
	if err != nil {
		return nil, errNotAnswering
	}
	next := b.next
	if b.state.State() == gobreaker.StateHalfOpen {
		next = b.probe
	}
	resp, err := next.RoundTrip(req)
	if late && errors.Is(err, context.DeadlineExceeded) {
		done(context.Canceled) // it had nothing to say yet
	} else {
		done(err)
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport below.
func (b *breaker) WrappedRoundTripper() http.RoundTripper { return b.next }
