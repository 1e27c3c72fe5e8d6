package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/auth"
	"portolan/internal/fleet"
)

const (
	// retryHint is how soon a browser should come back.
	retryHint = time.Second
	// stateTick is how often a page's state is computed anew without a ring:
	// age alone can make it unknown.
	stateTick = 5 * time.Second
	// gather is how long rings are gathered into one message.
	gather = 20 * time.Millisecond
)

// eventStream writes server-sent events.
type eventStream struct {
	w        http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration // how long a reader may take nothing
	buf      []byte
}

// openStream answers with the head of an event stream. Its end is for the
// caller to call.
func openStream(w http.ResponseWriter, patience time.Duration) (*eventStream, error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would gather it
	w.WriteHeader(http.StatusOK)
	e := &eventStream{w: w, rc: http.NewResponseController(w), patience: patience}
	if err := supported(e.rc.SetReadDeadline(time.Time{})); err != nil {
		return nil, err
	}
	e.buf = append(e.buf, "retry: "+strconv.FormatInt(retryHint.Milliseconds(), 10)+"\n\n"...)
	return e, e.flush()
}

// message adds a message; id and event may be "".
func (e *eventStream) message(id, event string, data []byte) {
	if id != "" {
		e.buf = append(append(append(e.buf, "id: "...), id...), '\n')
	}
	if event != "" {
		e.buf = append(append(append(e.buf, "event: "...), event...), '\n')
	}
	for len(data) > 0 {
		line, rest := data, []byte(nil)
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			line, rest = data[:i], data[i+1:]
		}
		if len(line) > 0 { // an empty line means nothing in HTML or JSON
			e.buf = append(append(append(e.buf, "data: "...), line...), '\n')
		}
		data = rest
	}
	e.buf = append(e.buf, '\n')
}

// fragment adds a message of a component.
func (e *eventStream) fragment(ctx context.Context, id string, c templ.Component) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	if err := c.Render(ctx, buf); err != nil {
		return err
	}
	e.message(id, "", withoutControls(buf.Bytes()))
	return nil
}

// done adds the message that ends a stream for good, with the reason.
func (e *eventStream) done(reason string) { e.message("", "done", []byte(reason)) }

// flush sends what was added. A reader that takes nothing for the stream's
// patience makes it fail.
func (e *eventStream) flush() error {
	if err := e.deadline(time.Now().Add(e.patience)); err != nil {
		return err
	}
	if len(e.buf) > 0 {
		_, err := e.w.Write(e.buf)
		e.buf = e.buf[:0]
		if err != nil {
			return err
		}
	}
	if err := e.rc.Flush(); err != nil {
		return err
	}
	// Nothing is being written now: HTTP/2 resets a stream when its deadline
	// passes, even one that has nothing to say.
	return e.deadline(time.Time{})
}

// end bounds how long the server waits to write the last of the answer.
func (e *eventStream) end() { _ = e.deadline(time.Now().Add(e.patience)) }

func (e *eventStream) deadline(at time.Time) error {
	return supported(e.rc.SetWriteDeadline(at))
}

// ping adds what shows that a silent stream lives, to the reader and to proxies
// between.
func (e *eventStream) ping() { e.buf = append(e.buf, ": \n\n"...) }

// errEnded ends a stream for good; its text is what the reader is told.
type errEnded string

func (e errEnded) Error() string { return string(e) }

// due reports whether the answer to mayRead is too old to send anything more.
func (s *Server) due(r *http.Request) bool {
	return time.Since(visitOf(r.Context()).asked) >= s.Recheck
}

// mayRead asks again whether the person of a stream may read it.
func (s *Server) mayRead(r *http.Request) error {
	visitOf(r.Context()).asked = time.Now()
	user, err := s.Auth.Recheck(r.Context())
	switch {
	case errors.Is(err, auth.ErrNobody):
		return errEnded("Your session has ended.")
	case err != nil:
		return err
	}
	if !user.Role.Includes(access["GET "+chi.RouteContext(r.Context()).RoutePattern()]) {
		return errEnded("Your role no longer allows this.")
	}
	visitOf(r.Context()).user = user
	return nil
}

// follow streams a state: it calls show at once, after a ring of one of the
// topics, and every stateTick. show adds what has changed to out; an errEnded
// from it ends the stream for good, any other error breaks it off, so that the
// reader comes back.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, show func(ctx context.Context, out *eventStream) error, topics ...string) error {
	ctx := r.Context()
	rings := make(chan struct{}, 1)
	for _, topic := range topics {
		ring, stop := s.Bell.Subscribe(topic)
		defer stop()
		go forward(ctx, ring, rings)
	}
	// What cannot be shown at all is answered as a page would be.
	first := &eventStream{}
	var ended errEnded
	err := show(ctx, first)
	if err != nil && !errors.As(err, &ended) {
		return err
	}
	out, openErr := openStream(w, s.Patience)
	if openErr != nil {
		return nil // the reader has gone
	}
	defer out.end()
	out.buf = append(out.buf, first.buf...)

	tick, recheck, ping := time.NewTicker(stateTick), time.NewTicker(s.Recheck), time.NewTicker(s.Ping)
	defer tick.Stop()
	defer recheck.Stop()
	defer ping.Stop()
	for {
		// However much there always is to send, and however long each of it
		// takes, nothing more is sent on an old answer.
		if len(out.buf) > 0 && s.due(r) {
			if denied := s.mayRead(r); denied != nil {
				err, out.buf = denied, out.buf[:0]
			}
			recheck.Reset(s.Recheck)
		}
		if err != nil && ctx.Err() != nil {
			return nil // the reader has gone, or the process ends
		}
		if errors.As(err, &ended) {
			out.done(string(ended))
			_ = out.flush()
			return nil
		}
		if err != nil {
			return err
		}
		if len(out.buf) > 0 {
			if out.flush() != nil {
				return nil
			}
			ping.Reset(s.Ping)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-rings:
			pause(ctx, gather)
			err = show(ctx, out)
		case <-tick.C:
			err = show(ctx, out)
		case <-recheck.C:
			err = s.mayRead(r)
		case <-ping.C:
			// An event without data, which no reader is told of, but the script of the page sees.
			out.message("", "ping", nil)
		}
	}
}

// forward merges the rings of several topics into one channel.
func forward(ctx context.Context, from <-chan struct{}, to chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-from:
			select {
			case to <- struct{}{}:
			default: // one is waiting to be received already
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// streamLimit bounds the streams that one person has open.
type streamLimit struct {
	max  int
	mu   sync.Mutex
	open map[string]int
}

func newStreamLimit(max int) *streamLimit { return &streamLimit{max: max, open: map[string]int{}} }

func (l *streamLimit) take(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[user] >= l.max {
		return false
	}
	l.open[user]++
	return true
}

func (l *streamLimit) give(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[user]--; l.open[user] <= 0 {
		delete(l.open, user)
	}
}

// limited bounds how many streams a person has, and ends them with the process.
func (s *Server) limited(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		user := visitOf(r.Context()).user
		if !s.streams.take(user.ID) {
			return &statusError{
				status: http.StatusTooManyRequests, title: "Too many streams",
				message: "You have " + strconv.Itoa(s.MaxStreams) + " live pages open.", remedy: "Close some and reload this one.",
			}
		}
		defer s.streams.give(user.ID)
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			return nil
		}
		gauge := s.metrics.streams.WithLabelValues(chi.RouteContext(r.Context()).RoutePattern())
		gauge.Inc()
		defer gauge.Dec()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.Context, cancel)()
		return h(w, r.WithContext(ctx))
	}
}

// gone says that what a stream is about no longer exists.
func gone(err error) error {
	if fleet.CodeOf(err) == fleet.CodeNotFound {
		return errEnded("This is gone.")
	}
	return err
}
