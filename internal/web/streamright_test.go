package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// slowWriter is a reader who has something happen, once, while what holds the
// mark is being sent.
type slowWriter struct {
	http.ResponseWriter
	mark string
	then func()
}

func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.then != nil && strings.Contains(string(p), w.mark) {
		w.then()
		w.then = nil
	}
	return w.ResponseWriter.Write(p)
}

// endless always has the next lines ready.
type endless struct{}

func (endless) OpenLog(context.Context, fleet.LogQuery) (LogStream, error) { return endless{}, nil }
func (endless) Close()                                                     {}
func (endless) Next(context.Context) (fleet.LogBatch, error) {
	return fleet.LogBatch{Lines: []fleet.LogLine{{Pod: "web-1", Position: "p1", Text: strings.Repeat("secret ", logChunk/7)}}}, nil
}

// TestAttack10NothingIsSentOnAnOldAnswer: a stream that always has something to
// send, to a reader who takes long for each of it, asks before the next of it
// whether the reader still may have it.
func TestAttack10NothingIsSentOnAnOldAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.Recheck, o.Logs = time.Nanosecond, endless{} // each answer is old at once
	})
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	workload, operation := b.deployed(admin, "one", "web")
	ctx := context.WithoutCancel(t.Context())
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.server.Handler().ServeHTTP(&slowWriter{w, r.Header.Get("Mark"), func() {
			if err := b.auth.EndSessions(ctx, fleet.Actor{}, b.find("viewer@example.com").ID); err != nil {
				t.Error(err)
			}
		}}, r)
	}))
	t.Cleanup(slow.Close)
	const atOnce, atALine = "retry:", "secret"
	logs := "/workloads/" + workload + "/logs/stream"
	for _, at := range []struct{ path, mark string }{
		{"/workloads/" + workload + "/stream", atOnce}, {"/operations/" + operation + "/stream", atOnce}, {logs, atOnce},
		{logs, atALine}, {logs, atALine}, {logs, atALine}, {logs, atALine}, {logs, atALine}, {logs, atALine},
	} {
		viewer := b.user(fleet.RoleViewer)
		viewer.base = slow.URL
		viewer.http.Transport = marked(at.mark)
		live := viewer.open(at.path, "")
		m, _ := live.next()
		if at.mark == atALine {
			if !strings.Contains(m.data, "secret") {
				t.Errorf("%s begins with %.100s %.100s", at.path, m.name, m.data)
			}
			m, _ = live.next()
		}
		if m.name != "done" || !strings.Contains(m.data, "session has ended") {
			t.Errorf("%s sends %.100s %.100s", at.path, m.name, m.data)
			live.close()
			continue
		}
		if m, more := live.next(); more {
			t.Errorf("%s goes on: %.100s %.100s", at.path, m.name, m.data)
		}
	}
}

// marked says with each request which mark to wait for.
type marked string

func (m marked) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Mark", string(m))
	return http.DefaultTransport.RoundTrip(r)
}

// TestAttack10TheRightToReadIsAskedForOften: what was allowed at the last moment,
// and is taken as slowly as it may be, has ended within 15 seconds.
func TestAttack10TheRightToReadIsAskedForOften(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Recheck, o.Patience = 0, 0 })
	if longest := b.server.Recheck + b.server.Patience; longest > 15*time.Second {
		t.Errorf("%v", longest)
	}
}
