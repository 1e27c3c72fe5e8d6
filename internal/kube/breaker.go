package kube

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	// breakerFailures is how many requests in a row must stay without an answer
	// before the next ones are not sent.
	breakerFailures = 3
	// breakerPause is how long they are not sent for. It is shorter than what
	// people and operations wait before they try again.
	breakerPause = 2 * time.Second
	// breakerProbe bounds the one request that then finds out whether the
	// server is back: all others wait for what comes of it. The next such one
	// gets as much more time, up to breakerProbes times: a server that has
	// become slow is back as well.
	breakerProbe  = 5 * time.Second
	breakerProbes = 4
)

// notSent is what a request fails with that was not sent.
type notSent struct{ latest error }

func (e *notSent) Error() string {
	return "the latest requests to the API server failed, and it is asked again in a moment: " + e.latest.Error()
}

// Unwrap returns why the latest request failed that was sent.
func (e *notSent) Unwrap() error { return e.latest }

// errBroken stands for a connection that broke. client-go sends requests again
// whose error it recognises as that one, and would hold whoever asks.
var errBroken = errors.New("the connection broke")

// breaker keeps a cluster that does not answer from holding whoever asks: after
// a few requests in vain the next ones fail at once, but for one now and then.
type breaker struct {
	next  http.RoundTripper
	tried atomic.Int32 // probes in vain since the server has answered
	state *gobreaker.TwoStepCircuitBreaker[struct{}]
	fault atomic.Pointer[notSent] // of the latest request that failed
}

func newBreaker(bounded http.RoundTripper) *breaker {
	return &breaker{
		next: bounded,
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
		return nil, b.refusal() // its answer may begin too late to find out by
	}
	done, err := b.state.Allow()
	if err != nil {
		return nil, b.refusal()
	}
	bound := HeaderTimeout
	probing := b.state.State() == gobreaker.StateHalfOpen
	if probing {
		bound = breakerProbe * time.Duration(min(1+b.tried.Load(), breakerProbes))
	}
	resp, err := (&headerDeadline{next: b.next, timeout: bound}).RoundTrip(req)
	switch ended := req.Context().Err(); {
	case err == nil:
		b.tried.Store(0)
		done(nil)
	case errors.Is(err, context.Canceled), errors.Is(ended, context.Canceled):
		done(context.Canceled) // whatever err is: the transport may return the cause
	case late && errors.Is(ended, context.DeadlineExceeded):
		done(context.Canceled) // it had nothing to say yet
	default:
		if probing {
			b.tried.Add(1)
		}
		b.fault.Store(faultOf(err))
		done(err)
	}
	return resp, err
}

func faultOf(err error) *notSent {
	if utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) || utilnet.IsHTTP2ConnectionLost(err) {
		err = errBroken
	}
	return &notSent{latest: err}
}

// refusal is what a request fails with that is not sent.
func (b *breaker) refusal() error {
	if fault := b.fault.Load(); fault != nil {
		return fault
	}
	return gobreaker.ErrOpenState // cannot be: nothing else opens it
}

// WrappedRoundTripper lets client-go find the transport below.
func (b *breaker) WrappedRoundTripper() http.RoundTripper { return b.next }
