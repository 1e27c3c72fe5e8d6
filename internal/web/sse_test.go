package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"portolan/internal/fleet"
)

type message struct{ id, name, data string }

// stream is an open event stream.
type stream struct {
	t        testing.TB
	messages chan message
	close    context.CancelFunc
}

// open follows a stream, and fails the test when there is none.
func (c *client) open(path, lastID string) *stream {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	res, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		c.t.Fatalf("GET %s: %d\n%s", path, res.StatusCode, text)
	}
	s := &stream{t: c.t, messages: make(chan message, 10_000), close: cancel}
	go func() {
		defer func() { _ = res.Body.Close() }()
		defer close(s.messages)
		var m message
		var data []string
		lines := bufio.NewReaderSize(res.Body, 1<<20)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\n")
			field, value, _ := strings.Cut(line, ": ")
			switch {
			case line == "": // one without data is told to nobody: it shows that the stream lives
				if m.data = strings.Join(data, "\n"); len(data) > 0 {
					s.messages <- m
				}
				m, data = message{}, nil
			case field == "id":
				m.id = value
			case field == "event":
				m.name = value
			case field == "data":
				data = append(data, value)
			}
		}
	}()
	return s
}

// next returns the next message; ok is false at the end of the stream.
func (s *stream) next() (m message, ok bool) {
	s.t.Helper()
	select {
	case m, ok = <-s.messages:
		return m, ok
	case <-time.After(patience):
		s.t.Fatal("no message")
	}
	return m, false
}

// until returns the messages up to the first that look is satisfied with.
func (s *stream) until(look func(message) bool) []message {
	s.t.Helper()
	var all []message
	for {
		m, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended after %d messages", len(all))
		}
		if all = append(all, m); look(m) {
			return all
		}
	}
}

func named(name string) func(message) bool { return func(m message) bool { return m.name == name } }

func TestOperationStreamResumes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	_, id := b.deployed(admin, "one", "web")
	path := "/operations/" + id + "/stream"
	live := admin.open(path, "")
	first, _ := live.next()
	if first.id != "1" || !strings.Contains(first.data, `data-operation="`+id+`" data-state="queued"`) {
		t.Fatalf("first message: %+v", first)
	}

	op, err := b.db.Claim(t.Context(), id, 1)
	if err != nil {
		t.Fatal(err)
	}
	record := func(c fleet.Change) {
		t.Helper()
		if err := b.db.Record(t.Context(), id, op.Token, c); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	record(fleet.Change{Steps: []fleet.Step{{Name: fleet.StepNamespace, State: fleet.StepRunning, StartedAt: now}}})
	for i := range 5 {
		record(fleet.Change{Events: []fleet.Event{{Type: fleet.EventWarning, Message: fmt.Sprintf("<b>line</b>\r\n%d", i)}}})
	}
	record(fleet.Change{Steps: []fleet.Step{{Name: fleet.StepNamespace, State: fleet.StepFailed, StartedAt: now, FinishedAt: now}},
		Finish: fleet.OperationFailed, Failure: &fleet.Failure{Reason: "QuotaExceeded", Message: "no room"}})
	all := append([]message{first}, live.until(named("done"))...)
	if _, ok := live.next(); ok {
		t.Error("the stream goes on after its end")
	}
	last := all[len(all)-2]
	for _, part := range []string{`data-state="failed"`, "QuotaExceeded", `data-step="namespace" data-state="failed"`, "&lt;b&gt;line"} {
		if !strings.Contains(last.data, part) {
			t.Errorf("the last state lacks %s:\n%s", part, last.data)
		}
	}
	numbers(t, all, 1)

	// A reader who comes back gets what is missing: all of it, once.
	total, _ := strconv.Atoi(last.id)
	for _, after := range []int{1, 3, total - 1} {
		again := admin.open(path, strconv.Itoa(after)).until(named("done"))
		numbers(t, again, after+1)
		if got := again[len(again)-2].id; got != last.id {
			t.Errorf("after %d the stream ends with %s, want %s", after, got, last.id)
		}
	}
	if rest := admin.open(path, last.id).until(named("done")); len(rest) != 1 {
		t.Errorf("with everything read there are %d messages", len(rest))
	}
	if a := admin.get("/operations/" + id); strings.Count(a.body, "data-operation=") != 1 || !strings.Contains(a.body, "no room") {
		t.Errorf("page:\n%s", a.body)
	}
}

// numbers checks that the ids count up from first, without gap or repetition.
func numbers(t *testing.T, messages []message, first int) {
	t.Helper()
	for _, m := range messages {
		if m.name == "done" {
			continue
		}
		if m.id != strconv.Itoa(first) {
			t.Errorf("id %s, want %d", m.id, first)
		}
		first++
	}
}

func TestWorkloadStreamShowsThePhaseAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	workload, id := b.deployed(admin, "one", "web")
	live := admin.open("/workloads/"+workload+"/stream", "")
	phase := func(p fleet.Phase) func(message) bool {
		return func(m message) bool { return strings.Contains(m.data, `data-phase="`+string(p)+`"`) }
	}
	read := live.until(phase(fleet.PhaseDeploying))
	op, err := b.db.Claim(t.Context(), id, 1)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	o := fleet.Observation{
		WorkloadID: workload, SeenAt: begun.Add(time.Hour) /* fresh, however long this takes */, ChangedAt: begun, Exists: true, Generation: 1, ObservedGeneration: 1,
		Desired: 1, Current: 1, Ready: 1, Available: 1, Updated: 1, Health: "Current", Pods: []fleet.Pod{{Name: "web-x-1", Ready: true, Phase: "Running"}},
	}
	if err := b.db.Record(t.Context(), id, op.Token, fleet.Change{Finish: fleet.OperationSucceeded, Observation: &o}); err != nil {
		t.Fatal(err)
	}
	read = append(read, live.until(phase(fleet.PhaseRunning))...)
	t.Logf("running was shown %v after it was written", time.Since(begun))
	last := int64(0)
	for _, m := range read {
		n, err := strconv.ParseInt(m.id, 10, 64)
		if err != nil || n <= last {
			t.Errorf("id %s after %d", m.id, last)
		}
		last = n
	}
	again, _ := admin.open("/workloads/"+workload+"/stream", strconv.FormatInt(last, 10)).next()
	if n, _ := strconv.ParseInt(again.id, 10, 64); n <= last || !phase(fleet.PhaseRunning)(again) {
		t.Errorf("after %d: %+v", last, again)
	}
	a := admin.get("/workloads/" + workload)
	for _, part := range []string{`data-phase="running"`, `data-desired="1"`, `data-ready="1"`, "web-x-1"} {
		if !strings.Contains(a.body, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
	if a := admin.get("/workloads?q=web"); !strings.Contains(a.body, `data-workload="`+workload+`"`) {
		t.Errorf("list:\n%s", a.body)
	}
}

func TestClusterStreamShowsTheTest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	if a := admin.post("/admin/clusters", clusterFields("one")); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	live := admin.open("/admin/clusters/one/stream", "")
	live.until(func(m message) bool { return strings.Contains(m.data, `data-test-state="untested"`) })
	if a := admin.post("/admin/clusters/one/test", nil); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	live.until(func(m message) bool {
		return strings.Contains(m.data, `data-test-state="ok"`) && strings.Contains(m.data, `data-check="connect" data-check-state="ok"`)
	})
}

func TestAttack10StreamsEndWithTheRight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	workload, _ := b.deployed(admin, "one", "web")
	b.logs.batches = make(chan fleet.LogBatch)
	for _, path := range []string{"/workloads/" + workload + "/stream", "/workloads/" + workload + "/logs/stream"} {
		viewer := b.user(fleet.RoleViewer)
		live := viewer.open(path, "")
		if a := viewer.post("/logout", nil); a.status != http.StatusSeeOther {
			t.Fatal(a.status)
		}
		live.until(named("done"))
		if _, ok := live.next(); ok {
			t.Errorf("%s goes on after the logout", path)
		}
	}
	t.Run("role", func(t *testing.T) {
		live := admin.open("/admin/clusters/one/stream", "")
		if _, err := b.db.Pool().Exec(t.Context(), "UPDATE users SET role = 'viewer' WHERE email = 'admin@example.com'"); err != nil {
			t.Fatal(err)
		}
		live.until(named("done"))
	})
}

func TestAttack13StreamsPerPersonAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.MaxStreams = 3 })
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	path := "/admin/clusters/one/stream"
	var open []*stream
	for range 3 {
		s := admin.open(path, "")
		s.next()
		open = append(open, s)
	}
	if a := admin.get(path); a.status != http.StatusTooManyRequests || !strings.Contains(a.body, "data-error") {
		t.Errorf("one too many: %d", a.status)
	}
	open[0].close()
	b.until("the place to be free", func() bool { return admin.get(path).status == http.StatusOK })
}

func TestStreamsEndWithTheProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	b := setup(t, func(o *Options) { o.Context = ctx })
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	live := admin.open("/admin/clusters/one/stream", "")
	live.next()
	cancel()
	for {
		if _, ok := live.next(); !ok {
			return
		}
	}
}

func TestLogStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	viewer, admin := b.user(fleet.RoleViewer), b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	workload, _ := b.deployed(admin, "one", "web")
	path := "/workloads/" + workload + "/logs/stream"
	b.logs.batches = make(chan fleet.LogBatch, 4)
	at := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	b.logs.batches <- fleet.LogBatch{Lines: []fleet.LogLine{
		{At: at, Pod: "web-abc-x1", Text: "<i>one</i>", Position: "p1"}, {At: at, Pod: "web-abc-x2", Text: "two\x1b]0;title\x07", Position: "p2"},
	}}
	live := viewer.open(path+"?tail=10&container=main&previous=true&since=10m", "p0")
	m, _ := live.next()
	if m.id != "p2" || strings.Count(m.data, "<div data-line") != 2 || !strings.Contains(m.data, `data-pod="x1">&lt;i&gt;one&lt;/i&gt;</div>`) || strings.Contains(m.data, "title") {
		t.Errorf("%+v", m)
	}
	q := b.logs.query
	if q.Workload.ID != workload || q.Tail != 10 || q.Container != "main" || !q.Previous || q.After != "p0" || time.Since(q.Since) < 9*time.Minute {
		t.Errorf("%+v", q)
	}
	b.logs.batches <- fleet.LogBatch{Missed: 7, Gap: "too slow", Lines: []fleet.LogLine{{Text: "three", Position: "p3"}}}
	if m, _ = live.next(); m.id != "p3" || !strings.Contains(m.data, `data-gap="7"`) {
		t.Errorf("%+v", m)
	}
	b.logs.batches <- fleet.LogBatch{Note: "web-abc-x1 ended"}
	if m, _ = live.next(); m.name != "notice" || m.data != "web-abc-x1 ended" || m.id != "p3" {
		t.Errorf("%+v", m)
	}
	close(b.logs.batches)
	if m, _ = live.next(); m.name != "done" {
		t.Errorf("%+v", m)
	}

	for _, query := range []string{"tail=x", "tail=-1", "tail=999999", "since=yesterday", "pod=../x", "container=%00", "pod=" + strings.Repeat("x", 300)} {
		if a := viewer.get(path + "?" + query); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", query, a.status)
		}
	}
	b.logs.err = fleet.Unavailable("logs requires Kubernetes")
	if a := viewer.get(path); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "data-error") {
		t.Errorf("unavailable: %d\n%s", a.status, a.body)
	}
	if a := viewer.get("/workloads/" + workload + "/logs?tail=100"); a.status != http.StatusOK || !strings.Contains(a.body, `data-logs="/workloads/`+workload+`/logs/stream?tail=100"`) {
		t.Errorf("pane: %d", a.status)
	}
	if a := viewer.get("/workloads/nope/logs/stream"); a.status != http.StatusNotFound {
		t.Errorf("absent: %d", a.status)
	}
}

// flood gives out lines as fast as they are taken.
type flood struct {
	lines []fleet.LogLine
	left  int
}

func (f *flood) OpenLog(context.Context, fleet.LogQuery) (LogStream, error) { return f, nil }
func (f *flood) Close()                                                     {}
func (f *flood) Next(context.Context) (fleet.LogBatch, error) {
	if f.left <= 0 {
		return fleet.LogBatch{}, io.EOF
	}
	f.left -= len(f.lines)
	return fleet.LogBatch{Lines: f.lines}, nil
}

// BenchmarkLogStream measures lines a second to a plain HTTP reader.
func BenchmarkLogStream(b *testing.B) {
	source := &flood{}
	for i := range 500 {
		source.lines = append(source.lines, fleet.LogLine{
			At: time.Now(), Pod: "web-5d4f7-abcde", Position: strconv.Itoa(i),
			Text: fmt.Sprintf("2026-03-01T12:00:00Z level=info msg=\"request %d served\" path=/api/things status=200 took=1.2ms", i),
		})
	}
	bu := setup(b, func(o *Options) { o.Logs = source })
	admin := bu.user(fleet.RoleAdmin)
	bu.target(admin, "one")
	workload, _ := bu.deployed(admin, "one", "web")
	source.left = b.N
	b.ResetTimer()
	res, err := admin.http.Get(bu.base + "/workloads/" + workload + "/logs/stream")
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil && !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
	b.SetBytes(n / int64(b.N))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// A server bounds how long a request may be read and an answer written. A
// stream lasts longer than both.
func TestAStreamOutlivesTheServersTimeouts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bounded := httptest.NewServer(timeless(t, b.server.Handler()))
	t.Cleanup(bounded.Close)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	_, id := b.deployed(admin, "one", "web")
	admin.base = bounded.URL
	live := admin.open("/operations/"+id+"/stream", "")
	if _, ok := live.next(); !ok {
		t.Fatal("no first message")
	}
}

// TestASilentStreamIsNotReset: once a reader has taken all that was sent, no
// time runs in which it has to take more. HTTP/2 would reset the stream at the
// end of it, even while nothing is being written.
func TestASilentStreamIsNotReset(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var running atomic.Bool
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.server.Handler().ServeHTTP(&runningWriter{ResponseWriter: w, rc: http.NewResponseController(w), running: &running}, r)
	}))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	_, id := b.deployed(admin, "one", "web")
	admin.base, admin.http.Transport = secure.URL, secure.Client().Transport
	live := admin.open("/operations/"+id+"/stream", "")
	if _, ok := live.next(); !ok {
		t.Fatal("no first message")
	}
	b.until("no time to run", func() bool { return !running.Load() })
	op, err := b.db.Claim(t.Context(), id, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.db.Record(t.Context(), id, op.Token, fleet.Change{Finish: fleet.OperationFailed, Failure: &fleet.Failure{Reason: "Test"}}); err != nil {
		t.Fatal(err)
	}
	live.until(named("done"))
}

// TestALogTellsWhichPodsThereAre whenever they have changed, and who comes back
// at once.
func TestALogTellsWhichPodsThereAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	workload, _ := b.deployed(admin, "one", "web")
	b.ended(workload, fleet.OperationSucceeded, 1)
	b.logs.batches = make(chan fleet.LogBatch)
	path := "/workloads/" + workload + "/logs/stream"
	has := func(pods string) { b.exec(`UPDATE observations SET pods = $1`, pods) }
	has(`[{"name": "web-a"}]`)
	live := admin.open(path, "")
	b.logs.batches <- fleet.LogBatch{Lines: []fleet.LogLine{{Pod: "web-a", Text: "a line", Position: "p1"}}}
	if m, _ := live.next(); m.name != "" || m.id != "p1" {
		t.Errorf("first %+v", m)
	}
	has(`[{"name": "web-b"}, {"name": "web-c"}]`)
	if m, _ := live.next(); m.name != "pods" || m.data != "web-b web-c" || m.id != "p1" {
		t.Errorf("after a change %+v", m)
	}
	back := admin.open(path, "p1")
	if m, _ := back.next(); m.name != "pods" || m.data != "web-b web-c" || m.id != "p1" {
		t.Errorf("on coming back %+v", m)
	}

	// So it does whether the cluster answers.
	for _, is := range []struct{ seen, word string }{{"now() - interval '1 minute'", "away"}, {"now() + interval '1 hour'", "answers"}} {
		b.exec(`UPDATE observations SET seen_at = ` + is.seen)
		if m, _ := live.next(); m.name != "cluster" || m.data != is.word || m.id != "p1" {
			t.Errorf("where it was seen at %s: %+v", is.seen, m)
		}
	}
}

// countedReads counts how often the releases of a workload are read.
type countedReads struct {
	Reads
	releases atomic.Int64
}

func (c *countedReads) Releases(ctx context.Context, id string) ([]fleet.ReleaseRow, error) {
	c.releases.Add(1)
	return c.Reads.Releases(ctx, id)
}

// TestAnOpenPageReadsReleasesOnlyAnew when there can be another, or another
// outcome: they are large.
func TestAnOpenPageReadsReleasesOnlyAnew(t *testing.T) {
	t.Parallel()
	reads := &countedReads{}
	b := setup(t, func(o *Options) { reads.Reads, o.Reads = o.Reads, reads })
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	id, _ := b.deployed(admin, "one", "web")
	b.ended(id, fleet.OperationSucceeded, 1)
	live := admin.open("/workloads/"+id+"/stream", "")
	shows := func(what string, read int64) {
		t.Helper()
		live.until(func(m message) bool { return strings.Contains(m.data, what) })
		if n := reads.releases.Load(); n != read {
			t.Errorf("until %s they were read %d times, want %d", what, n, read)
		}
	}
	shows(`data-desired="1"`, 1)
	b.exec(`UPDATE observations SET desired = 2`)
	shows(`data-desired="2"`, 1)
	if a := admin.post("/workloads/"+id+"/update", fields{"image": "demo:2"}); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	shows("changed: image", 2)
	b.ended(id, fleet.OperationFailed, 1)
	b.exec(`UPDATE observations SET desired = 3`)
	shows(`data-desired="3"`, 3)
}
