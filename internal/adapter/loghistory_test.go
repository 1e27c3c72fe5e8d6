package adapter

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// printers stands in for an API server of two pods, each of whose logs write
// writes as it likes.
type printers struct {
	lagging
	write func(w io.Writer, pod string, query map[string][]string)
}

func newPrinters(t *testing.T, write func(io.Writer, string, map[string][]string)) *printers {
	t.Helper()
	p := &printers{write: write}
	pod := func(name string) string {
		return `{"metadata":{"name":"` + name + `","uid":"` + name + `"},"spec":{"containers":[{"name":"web"}]},"status":{"phase":"Running",` +
			`"containerStatuses":[{"name":"web","state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}]}}`
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.Split(strings.TrimSuffix(r.URL.Path, "/log"), "/")
		switch query := r.URL.Query(); {
		case query.Has("watch"):
			<-r.Context().Done()
		case strings.HasSuffix(r.URL.Path, "/pods"):
			_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1"},"items":[`+pod("a")+","+pod("b")+`]}`)
		case !strings.HasSuffix(r.URL.Path, "/log"):
			_, _ = io.WriteString(w, pod(name[len(name)-1]))
		case query.Has("follow"):
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case query.Has("limitBytes"):
		default:
			p.write(w, name[len(name)-1], query)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	var err error
	if p.api, err = live.NewAPI(&rest.Config{Host: server.URL, QPS: 50, Burst: 100}, server.Client()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *printers) open(t *testing.T, q fleet.LogQuery) *LogStream {
	t.Helper()
	return openOf(t, New(p, p.options), q)
}

func openOf(t *testing.T, a *Adapter, q fleet.LogQuery) *LogStream {
	t.Helper()
	q.Workload = fleet.Workload{ID: "w", Name: "web", Namespace: "ns"}
	s, err := a.OpenLog(t.Context(), &fleet.Cluster{ID: "c"}, q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// printed is line n of both pods' logs: a has the even ones, b the odd ones.
func printed(n int) string {
	at := time.Date(2026, 1, 1, 0, 0, 0, n*1_000_000, time.UTC)
	return at.Format("2006-01-02T15:04:05.000000000Z") + fmt.Sprintf(" line %d ", n) + strings.Repeat("x", 1<<10) + "\n"
}

// prints writes the first n lines, of each pod its own.
func prints(n int) func(io.Writer, string, map[string][]string) {
	return func(w io.Writer, pod string, _ map[string][]string) {
		first := 0
		if pod == "b" {
			first = 1
		}
		for i := first; i < n; i += 2 {
			_, _ = io.WriteString(w, printed(i))
		}
	}
}

func lineNumber(text string) (n int) {
	_, _ = fmt.Sscanf(text, "line %d ", &n)
	return n
}

func TestOfTooManyEarlierLinesTheNewestAreKept(t *testing.T) {
	t.Parallel()
	const lines = 2000
	p := newPrinters(t, prints(lines))
	for _, previous := range []bool{false, true} {
		p.options = Options{LogHistoryBytes: 512 << 10}
		s, r := p.open(t, fleet.LogQuery{Tail: lines, Previous: previous}), &reading{}
		r.until(t, s, func(r *reading) bool { return len(r.lines)+r.missed >= lines })
		if len(r.lines)+r.missed != lines || r.missed == 0 || len(r.gaps) == 0 || !strings.Contains(r.gaps[0], "left out") {
			t.Errorf("previous %t: %d lines came, %d were left out, and it was said: %v", previous, len(r.lines), r.missed, r.gaps)
		}
		if previous {
			continue // of each pod apart, one after the other
		}
		for i, text := range r.lines {
			if want := lines - len(r.lines) + i; lineNumber(text) != want {
				t.Fatalf("line %d of %d is %.20q, not number %d", i, len(r.lines), text, want)
			}
		}
	}

	// What fits is all there, and nothing is said.
	p.options = Options{LogHistoryBytes: 4 << 20}
	s, r := p.open(t, fleet.LogQuery{Tail: lines}), &reading{}
	r.until(t, s, func(r *reading) bool { return len(r.lines)+r.missed >= lines })
	if r.missed != 0 || len(r.gaps) != 0 {
		t.Errorf("%d lines were left out of what fits: %v", r.missed, r.gaps)
	}
	// Who asked for few of them misses none of what was not asked for.
	p.options = Options{LogHistoryBytes: 512 << 10}
	s, r = p.open(t, fleet.LogQuery{Tail: 100}), &reading{}
	r.until(t, s, func(r *reading) bool { return len(r.lines)+r.missed >= 200 })
	if r.missed != 0 || len(r.gaps) != 0 {
		t.Errorf("%d lines were left out of the few that were asked for: %v", r.missed, r.gaps)
	}
}

func TestALongWayToCatchUpOnLosesNoLine(t *testing.T) {
	t.Parallel()
	const lines = 2000
	p := newPrinters(t, prints(lines))
	p.options = Options{LogHistoryBytes: 256 << 10, LogQueueBytes: 256 << 10}
	at := position{}
	for i, pod := range []string{"a", "b"} {
		when, _ := time.Parse(time.RFC3339Nano, strings.Fields(printed(i))[0])
		at[logKey(pod, "web")] = mark{when.UnixNano(), 1}
	}
	s, r := p.open(t, fleet.LogQuery{Tail: 10, After: at.String()}), &reading{}
	r.until(t, s, func(r *reading) bool { return len(r.lines)+r.missed >= lines-2 })
	if r.missed != 0 || len(r.gaps) != 0 {
		t.Errorf("%d lines are missing: %v", r.missed, r.gaps)
	}
	var numbers []int
	for _, text := range r.lines {
		numbers = append(numbers, lineNumber(text))
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != i+2 {
			t.Fatalf("number %d stands in the place of %d", n, i+2)
		}
	}
}

// TestAttack13EarlierLinesWithoutEnd: a server need not heed how many lines it
// was asked for, nor come to an end.
func TestAttack13EarlierLinesWithoutEnd(t *testing.T) {
	t.Parallel()
	const most = 64 << 20 // bytes that each of two logs has
	var sent atomic.Int64
	p := newPrinters(t, func(w io.Writer, _ string, _ map[string][]string) {
		text := strings.Repeat("x", 32<<10) + "\n"
		for i, total := 0, 0; total < most; i++ {
			n, err := io.WriteString(w, printed(i)[:31]+text)
			if err != nil {
				return
			}
			total += n
			sent.Add(int64(n))
		}
	})
	p.options = Options{LogHistoryBytes: 1 << 20, LogQueueBytes: 1 << 20}
	for _, previous := range []bool{false, true} {
		sent.Store(0)
		s, r := p.open(t, fleet.LogQuery{Tail: 50_000, Previous: previous}), &reading{}
		r.until(t, s, func(r *reading) bool { return len(r.lines) > 0 })
		if n := sent.Load(); n >= most {
			t.Errorf("%d MiB were taken", n>>20)
		}
		if r.missed == 0 || len(r.gaps) == 0 {
			t.Errorf("%d lines were left out, and it was said: %v", r.missed, r.gaps)
		}
	}
}

// TestAttack13ManyViewersShareTheirMemory: whoever may read logs can open as many
// as a person may have streams, and let each gather what one viewer may.
func TestAttack13ManyViewersShareTheirMemory(t *testing.T) {
	t.Parallel()
	const viewers, lines, each = 60, 1000, 256 << 10
	p := newPrinters(t, prints(lines))
	a := New(p, Options{LogHistoryBytes: each, LogQueueBytes: each})
	whole := func(s *LogStream, r *reading) (bytes int) {
		r.until(t, s, func(r *reading) bool { return len(r.lines)+r.missed >= lines })
		for _, text := range r.lines {
			bytes += len(text) + lineCost
		}
		return bytes
	}
	var open []*LogStream
	readings := make([]reading, viewers)
	for i := range readings {
		s := openOf(t, a, fleet.LogQuery{Tail: lines})
		readings[i].until(t, s, func(r *reading) bool { return len(r.lines) > 0 }) // it has gathered all
		open = append(open, s)
	}
	total := 0
	for i, s := range open {
		n := whole(s, &readings[i])
		if n == 0 {
			t.Errorf("viewer %d saw nothing", i)
		}
		total += n
		s.Close()
	}
	if total > viewers*each/3 {
		t.Errorf("%d viewers had gathered %d KiB, of %d that one may have", viewers, total>>10, each>>10)
	}
	alone := openOf(t, a, fleet.LogQuery{Tail: lines})
	if n := whole(alone, &reading{}); n < each*9/10 {
		t.Errorf("a viewer who is alone again has %d KiB", n>>10)
	}
	alone.Close()
	if a.histories.left != 8*each || a.queues.left != 16*each {
		t.Errorf("%d and %d bytes are left", a.histories.left, a.queues.left)
	}
}

// TestAttack13LinesThatHideAMark: whatever comes at the time of a viewer's last
// line, little of it is held back, and nothing of it lost.
func TestAttack13LinesThatHideAMark(t *testing.T) {
	t.Parallel()
	after := mark{1_000_000, 1}
	skip := skipper{after: after}
	text := strings.Repeat("x", 64<<10)
	sent, came := 200, 0
	for i := range sent {
		came += len(skip.pass([]line{{mark{after.at + 1, int32(i + 1)}, text}}))
		if size := sizeOf(skip.held); size > 2*maxHeld {
			t.Fatalf("%d MiB are held back", size>>20)
		}
	}
	if came += len(skip.end()); came != sent || skip.state != skipMissed {
		t.Errorf("%d of %d lines came, state %d", came, sent, skip.state)
	}
}
