package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"portolan/internal/clustertest"
)

// quiet is a container that logs only what it is asked to.
var quiet = fields{"args": "--quiet\n--print-lines\n100"}

// asks sends a request to a pod of the workload, past Portolan.
func (w *workload) asks(t testing.TB, pod, path string) {
	t.Helper()
	if err := w.ask(t, pod, path); err != nil {
		t.Fatalf("asking %s for %s: %v", pod, path, err)
	}
}

func (w *workload) ask(t testing.TB, pod, path string) error {
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	r := w.kubectl.CoreV1().RESTClient().Get().Namespace(w.namespace).Resource("pods").Name(pod + ":8080").SubResource("proxy").Suffix(u.Path)
	for key := range u.Query() {
		r.Param(key, u.Query().Get(key))
	}
	return r.Do(t.Context()).Error()
}

// listens waits until the pods answer, and returns their names.
func (w *workload) listens(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, pod := range w.pods(t) {
		names = append(names, pod.Name)
		eventually(t, patience, pod.Name+" answering", func() (bool, string) {
			err := w.ask(t, pod.Name, "/env?name=NOTHING")
			return err == nil, fmt.Sprint(err)
		})
	}
	return names
}

// linesUntil reads the log lines of a stream up to one that contains last.
func linesUntil(t testing.TB, s *stream, last string) (lines []string, id string) {
	t.Helper()
	read := s.until(t, patience, "the line "+last, func(m message) bool {
		got, gaps := m.lines()
		if gaps > 0 {
			t.Errorf("%d gaps in the log: %s", gaps, clipped(m.data))
		}
		if m.id == "" && m.name == "" {
			t.Errorf("a message without an id: %s", clipped(m.data))
		}
		lines = append(lines, got...)
		return slices.ContainsFunc(got, func(l string) bool { return strings.Contains(l, last) })
	})
	return lines, read[len(read)-1].id
}

// only keeps the lines that contain a word.
func only(lines []string, word string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, word) })
}

func TestLogPaneTailAndFollow(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, quiet)
	pod := w.listens(t)[0]
	w.asks(t, pod, "/print?lines=101") // it begins with a hundred
	eventually(t, patience, "what was printed to be in the log", func() (bool, string) {
		raw, err := pl.kubectl.CoreV1().Pods(pl.namespace).GetLogs(pod, &core.PodLogOptions{}).DoRaw(t.Context())
		return strings.Contains(string(raw), "line 101 of 101"), fmt.Sprint(err)
	})

	p := w.read(t, w.path("/logs"))
	if !p.says(w.name) || len(elements(p.root, "select")) == 0 {
		t.Errorf("the pane offers no choice: %s", clipped(p.text()))
	}
	s := w.open(t, w.path("/logs/stream?tail=10"), "")
	lines, _ := linesUntil(t, s, "line 101 of 101")
	if len(lines) != 10 || !strings.HasPrefix(lines[0], "line 92 of 101") {
		t.Errorf("tail=10 began with %d lines: %q", len(lines), lines)
	}
	for i := range 3 {
		w.asks(t, pod, "/print?lines=500")
		lines, _ = linesUntil(t, s, "line 500 of 500")
		printed := only(lines, " of 500")
		if len(printed) != 500 {
			t.Fatalf("round %d: %d lines of 500", i, len(printed))
		}
		for n, line := range printed {
			if !strings.HasPrefix(line, fmt.Sprintf("line %d of 500", n+1)) {
				t.Fatalf("round %d: line %d is %q", i, n+1, line)
			}
		}
	}
	none := w.open(t, w.path("/logs/stream?tail=0"), "")
	// From when on it follows does not show, so it is asked for more than once.
	var first message
	eventually(t, patience, "a new line", func() (bool, string) {
		w.asks(t, pod, "/print?lines=3")
		select {
		case first = <-none.messages:
			return true, ""
		case <-time.After(time.Second):
			return false, "nothing"
		}
	})
	lines, _ = first.lines()
	if got := len(only(lines, " of 500")); got != 0 {
		t.Errorf("tail=0 began with %d old lines", got)
	}
}

func TestLogPaneResumesWithoutGapOrDuplicate(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, quiet)
	pod := w.listens(t)[0]

	s := w.open(t, w.path("/logs/stream"), "")
	w.asks(t, pod, "/print?lines=7")
	linesUntil(t, s, "line 7 of 7")
	var all []string
	const rounds, each = 6, 400
	for round := range rounds {
		w.asks(t, pod, fmt.Sprintf("/print?lines=%d", each))
		// Left in the middle of what is being printed, and come back later.
		got, last := linesUntil(t, s, fmt.Sprintf("line %d of %d", each/2, each))
		all = append(all, got...)
		s.close()
		w.asks(t, pod, fmt.Sprintf("/env?name=ROUND_%d", round))
		s = w.open(t, w.path("/logs/stream?tail=0"), last)
		got, _ = linesUntil(t, s, fmt.Sprintf("ROUND_%d", round))
		all = append(all, got...)
	}
	printed := only(all, fmt.Sprintf(" of %d:", each))
	for i, line := range printed {
		if want := fmt.Sprintf("line %d of %d:", i%each+1, each); !strings.HasPrefix(line, want) {
			t.Fatalf("line %d is %q, want %q: a gap or a duplicate", i+1, line, want)
		}
	}
	if len(printed) != rounds*each {
		t.Errorf("%d lines, want %d", len(printed), rounds*each)
	}
}

func TestLogPaneChoices(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, quiet.but(fields{"replicas": "2"}))
	pods := w.listens(t)

	// Merged: lines of both, each with its pod.
	s := w.open(t, w.path("/logs/stream"), "")
	for i, pod := range pods {
		w.asks(t, pod, fmt.Sprintf("/env?name=POD_%d", i))
	}
	from := map[string]bool{}
	s.until(t, patience, "lines of both pods", func(m message) bool {
		for _, n := range m.fragment().with("data-line") {
			from[attr(n, "data-pod")] = true
		}
		return len(from) == 2
	})
	// One of them.
	s = w.open(t, w.path("/logs/stream?pod="+pods[0]), "")
	lines, _ := linesUntil(t, s, "POD_0")
	if got := only(lines, "POD_1"); len(got) > 0 {
		t.Errorf("a line of the other pod: %q", got)
	}
	// The container by its name, and names that are none.
	container := w.pods(t)[0].Spec.Containers[0].Name
	s = w.open(t, w.path("/logs/stream?container="+container+"&pod="+pods[0]), "")
	linesUntil(t, s, "POD_0")
	for _, bad := range []string{"?pod=no-such-pod", "?container=no-such-container", "?tail=many", "?tail=-1", "?pod=../../x", "?since=yesterday"} {
		if s, status, err := w.tryOpen(w.path("/logs/stream"+bad), ""); err != nil {
			t.Error(err)
		} else if s != nil {
			// An open stream may also say so and end.
			s.until(t, patience, bad+": an end", func(m message) bool { return m.name == "done" })
			s.close()
		} else if status < 400 || status >= 500 {
			t.Errorf("%s: %d", bad, status)
		}
	}

	// The container before its crash.
	eventually(t, patience, "the crash", func() (bool, string) {
		// Other errors are of the way there.
		said := fmt.Sprint(w.ask(t, pods[1], "/crash"))
		return strings.Contains(said, "EOF") || strings.Contains(said, "reset by peer"), said
	})
	eventually(t, patience, "the container to come back", func() (bool, string) {
		for _, pod := range w.pods(t) {
			if pod.Name == pods[1] && len(pod.Status.ContainerStatuses) > 0 {
				c := pod.Status.ContainerStatuses[0]
				return c.RestartCount > 0 && c.Ready, fmt.Sprint(c.RestartCount)
			}
		}
		return false, "no such pod"
	})
	s = w.open(t, w.path("/logs/stream?previous=true&pod="+pods[1]), "")
	linesUntil(t, s, "asked to crash")
	s.until(t, patience, "the end of the previous log", func(m message) bool { return m.name == "done" })
}

func TestLogPaneOneUpstreamForManyViewers(t *testing.T) {
	t.Parallel()
	counted := countingAPI(t, real.kubeconfig(t))
	pl := shared(t).stake(t, real, counted.kubeconfig, nil)
	pl.test(t, "ok")
	w := pl.deploy(t, quiet)
	pod := w.listens(t)[0]

	const viewers, lines = 20, 2000
	var streams []*stream
	for range viewers {
		streams = append(streams, w.open(t, w.path("/logs/stream?tail=5"), ""))
	}
	for _, s := range streams {
		s.next(t, patience)
	}
	eventually(t, patience, "one upstream stream for all viewers", func() (bool, string) {
		open := counted.following.Load()
		return open == 1, fmt.Sprint(open)
	})
	w.asks(t, pod, fmt.Sprintf("/print?lines=%d", lines))
	var all sync.WaitGroup
	for i, s := range streams {
		all.Go(func() {
			n := 0
			deadline := time.After(patience)
			for n < lines {
				select {
				case m, ok := <-s.messages:
					if !ok {
						t.Errorf("viewer %d: the stream ended after %d lines", i, n)
						return
					}
					got, gaps := m.lines()
					if gaps > 0 {
						t.Errorf("viewer %d: a gap", i)
					}
					n += len(only(got, fmt.Sprintf(" of %d:", lines)))
				case <-deadline:
					t.Errorf("viewer %d: %d of %d lines", i, n, lines)
					return
				}
			}
		})
	}
	all.Wait()
	if most := counted.most.Load(); most != 1 {
		t.Errorf("at most %d upstream streams at a time, want one", most)
	}
	for _, s := range streams {
		s.close()
	}
	eventually(t, patience, "the upstream to end with its last viewer", func() (bool, string) {
		open := counted.following.Load()
		return open == 0, fmt.Sprint(open)
	})
}

// countedAPI stands between Portolan and an API server and counts the logs
// that are being followed.
type countedAPI struct {
	kubeconfig      []byte
	following, most atomic.Int32
}

func countingAPI(t testing.TB, raw []byte) *countedAPI {
	t.Helper()
	counted := &countedAPI{}
	counted.kubeconfig = between(t, raw, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/log") && r.URL.Query().Get("follow") == "true" {
			now := counted.following.Add(1)
			for most := counted.most.Load(); now > most && !counted.most.CompareAndSwap(most, now); most = counted.most.Load() {
			}
			defer counted.following.Add(-1)
		}
		forward.ServeHTTP(w, r)
	})
	return counted
}

func TestAttack10StreamsEndWithTheRightToReadThem(t *testing.T) {
	t.Parallel()
	p := shared(t)
	pl := p.settle(t, real, nil)
	w := pl.deploy(t, nil)
	reader := p.person(t, adminEmail, adminPassword)
	var streams []*stream
	for _, path := range []string{w.path("/stream"), w.path("/logs/stream"), pl.path("/stream")} {
		s := reader.open(t, path, "")
		s.next(t, patience)
		streams = append(streams, s)
	}
	expect(t, reader.post(t, "/logout", nil), http.StatusSeeOther)
	for _, s := range streams {
		s.ended(t, 15*time.Second+slack)
	}
	if s, status, err := reader.tryOpen(w.path("/stream"), ""); err != nil || s != nil || status == http.StatusOK {
		t.Errorf("after the logout a stream opens: %d %v", status, err)
	}
}

func TestOperationStreamResumes(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	form := pl.draft(clustertest.UniqueName("demo"), probed.but(fields{"env": "START_DELAY=2s"}))
	op := pl.begin(t, form)

	// A reader that leaves after every few messages and comes back.
	var ids []string
	last := ""
	for ended := false; !ended; {
		s, status, err := op.tryOpen(op.path()+"/stream", last)
		if err != nil || s == nil {
			t.Fatalf("the stream: %d %v", status, err)
		}
		for range 3 {
			m, ok := <-s.messages
			if !ok {
				break
			}
			if m.name == "done" {
				ended = true
				break
			}
			ids, last = append(ids, m.id), m.id
		}
		s.close()
	}
	for i, id := range ids {
		if id != fmt.Sprint(i+1) {
			t.Fatalf("messages %v: a gap or a duplicate", ids)
		}
	}
	if events := op.record(t); op.state(t) != "succeeded" || events != len(ids) {
		t.Errorf("%s with %d events, and %d were streamed", op.state(t), events, len(ids))
	}
	// From the beginning, after the end: the last message is the whole state.
	s := op.open(t, op.path()+"/stream", "")
	var state string
	s.until(t, patience, "the end", func(m message) bool {
		if m.name == "" {
			state = op.stateOf(m.fragment())
		}
		return m.name == "done"
	})
	if state != "succeeded" {
		t.Errorf("the stream's last state is %q", state)
	}
}
