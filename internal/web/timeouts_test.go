package web

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// timeless reports each answer that begins while the times are still running
// that a server gives a request and its answer. It stands for a server whose
// times are up just then, however fast or slow the machine is.
func timeless(t *testing.T, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&timelessWriter{ResponseWriter: w, rc: http.NewResponseController(w), t: t}, r)
	})
}

type timelessWriter struct {
	http.ResponseWriter
	rc                  *http.ResponseController
	t                   *testing.T
	read, write, begins bool // whose time the handler has chosen; an answer has begun
}

func (w *timelessWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *timelessWriter) SetReadDeadline(at time.Time) error {
	w.read = at.IsZero()
	return w.rc.SetReadDeadline(at)
}

func (w *timelessWriter) SetWriteDeadline(at time.Time) error {
	w.write = true
	return w.rc.SetWriteDeadline(at)
}

func (w *timelessWriter) Write(b []byte) (int, error) {
	if !w.begins && (!w.read || !w.write) {
		w.t.Errorf("the server's own time still runs: reading %t, writing %t", !w.read, !w.write)
	}
	w.begins = true
	return w.ResponseWriter.Write(b)
}

// runningWriter notes whether a time to write runs that the handler has set.
type runningWriter struct {
	http.ResponseWriter
	rc      *http.ResponseController
	running *atomic.Bool
}

func (w *runningWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *runningWriter) SetWriteDeadline(at time.Time) error {
	err := w.rc.SetWriteDeadline(at)
	w.running.Store(!at.IsZero())
	return err
}
