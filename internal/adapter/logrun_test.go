package adapter

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/live"
)

// lagging stands in for an API server whose pod has been restarted by a node
// that is slow to say so: which run a log is of shows in no status then.
type lagging struct {
	api *live.API

	mu       sync.Mutex
	listed   int           // restarts, as the list of pods says
	known    int           // restarts, as the pod says
	present  []string      // what the present run has said, each with its time
	previous []string      // what the run before has said
	over     chan struct{} // closed when the present run ends
	refuses  time.Duration // after this long it is answered that the log cannot be read; 0 = it can
	breaks   bool          // each follow brings one more line, and then the node says that it cannot go on
	options  Options       // of the reader
}

func newLagging(t *testing.T) *lagging {
	t.Helper()
	l := &lagging{over: make(chan struct{}), options: Options{LogRotationInterval: 50 * time.Millisecond}}
	server := httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	var err error
	if l.api, err = live.NewAPI(&rest.Config{Host: server.URL, QPS: 50, Burst: 100}, server.Client()); err != nil {
		t.Fatal(err)
	}
	return l
}

// Get implements Clients.
func (l *lagging) Get(context.Context, *fleet.Cluster) (*kube.Client, error) {
	return &kube.Client{API: l.api, Hash: "hash"}, nil
}

// restart puts another run in the place of the present one, which has said last.
func (l *lagging) restart(last string, present ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.previous, l.present = append(slices.Clone(l.present), last), present
	close(l.over)
	l.over = make(chan struct{})
}

func (l *lagging) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	l.mu.Lock()
	message := ""
	if l.breaks && query.Has("follow") {
		l.present = append(l.present, fmt.Sprintf("2026-01-01T00:00:01.%03dZ line %d", len(l.present), len(l.present)))
		message = "failed to create fsnotify watcher: too many open files"
	}
	listed, known, lines, over, refuses := l.listed, l.known, l.present, l.over, l.refuses
	if query.Has("previous") {
		lines = l.previous
	}
	l.mu.Unlock()
	pod := func(restarts int) string {
		return fmt.Sprintf(`{"metadata":{"name":"web","uid":"u"},"spec":{"containers":[{"name":"web"}]},"status":{"phase":"Running",`+
			`"containerStatuses":[{"name":"web","restartCount":%d,"state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}]}}`, restarts)
	}
	switch {
	case query.Has("watch"):
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, "/pods"):
		_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1"},"items":[`+pod(listed)+`]}`)
	case strings.HasSuffix(r.URL.Path, "/web"):
		_, _ = io.WriteString(w, pod(known))
	case refuses != 0:
		select {
		case <-time.After(refuses):
		case <-r.Context().Done():
		}
		http.Error(w, "the node does not answer", http.StatusInternalServerError)
	default:
		var text string
		for _, line := range lines {
			text += line + "\n"
		}
		if query.Has("limitBytes") {
			text = text[:min(len(text), 64)]
		}
		_, _ = io.WriteString(w, text+message)
		if query.Has("follow") && message == "" {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-over:
			case <-r.Context().Done():
			}
		}
	}
}

func (l *lagging) read(t *testing.T, after string) (*LogStream, *reading) {
	t.Helper()
	a := New(l, l.options)
	s, err := a.OpenLog(t.Context(), &fleet.Cluster{ID: "c"}, fleet.LogQuery{Workload: fleet.Workload{ID: "w", Name: "web", Namespace: "ns"}, Tail: 10, After: after})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, &reading{}
}

const (
	startLine  = "2026-01-01T00:00:01.1Z starts"
	crashLine  = "2026-01-01T00:00:02.2Z fatal"
	againLine  = "2026-01-01T00:00:03.3Z starts again"
	servesLine = "2026-01-01T00:00:04.4Z serves"
)

func TestARestartIsToldFromARotationBeforeTheClusterKnows(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	l.present = []string{startLine}
	s, r := l.read(t, "")
	r.until(t, s, func(r *reading) bool { return r.has("starts") })
	l.restart(crashLine, againLine, servesLine)
	r.until(t, s, func(r *reading) bool { return r.has("serves") })
	if want := []string{"starts", "fatal", "starts again", "serves"}; !slices.Equal(r.lines, want) || len(r.gaps) > 0 {
		t.Errorf("came %q, gaps %q", r.lines, r.gaps)
	}
}

func TestAViewerWhoReturnsAfterARestartGetsWhatWasSaidBefore(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	l.present = []string{startLine}
	s, r := l.read(t, "")
	r.until(t, s, func(r *reading) bool { return r.has("starts") })
	s.Close()
	l.restart(crashLine, againLine)
	again, r2 := l.read(t, r.position)
	r2.until(t, again, func(r *reading) bool { return r.has("starts again") })
	if want := []string{"fatal", "starts again"}; !slices.Equal(r2.lines, want) || len(r2.gaps) > 0 {
		t.Errorf("came %q, gaps %q", r2.lines, r2.gaps)
	}
}

func TestALogIsNotReadAgainWhenTheClusterKnowsOfARestart(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	l.previous, l.present, l.known = []string{startLine, crashLine}, []string{againLine}, 1
	s, r := l.read(t, "")
	r.until(t, s, func(r *reading) bool { return r.has("starts again") })
	l.mu.Lock()
	l.present = append(l.present, servesLine)
	close(l.over) // of the connection
	l.over = make(chan struct{})
	l.mu.Unlock()
	r.until(t, s, func(r *reading) bool { return r.has("serves") })
	if want := []string{"starts again", "serves"}; !slices.Equal(r.lines, want) || len(r.gaps) > 0 {
		t.Errorf("came %q, gaps %q", r.lines, r.gaps)
	}
}

func TestALogThatIsRefusedSlowlySaysSo(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	l.refuses = 1100 * time.Millisecond
	s, r := l.read(t, "")
	r.until(t, s, func(r *reading) bool { return strings.Contains(strings.Join(r.notes, "\n"), "cannot be read") })
}

func TestALogThatBreaksOffIsNotRefused(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	l.breaks, l.options.LogReconnectInterval = true, 200*time.Millisecond
	s, r := l.read(t, "")
	r.until(t, s, func(r *reading) bool { return len(r.lines) > maxRefused+1 })
	if len(r.notes) > 0 {
		t.Errorf("lines come, and it says %q", r.notes)
	}
	l.mu.Lock()
	l.breaks, l.refuses = false, time.Millisecond
	l.mu.Unlock()
	r.until(t, s, func(r *reading) bool { return strings.Contains(strings.Join(r.notes, "\n"), "cannot be read") })
}
