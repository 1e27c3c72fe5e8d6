package adapter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
)

func (w *world) openLog(q fleet.LogQuery) *LogStream {
	w.t.Helper()
	s, err := w.adapter.OpenLog(w.t.Context(), &w.cluster, q)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// reading is what a reader of a log has got.
type reading struct {
	lines    []string
	new      int // how many of them came with the last batch
	notes    []string
	gaps     []string
	missed   int
	position string
}

// until reads until enough says so.
func (r *reading) until(t *testing.T, s *LogStream, enough func(*reading) bool) {
	t.Helper()
	for !enough(r) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		b, err := s.Next(ctx)
		cancel()
		if errors.Is(err, io.EOF) {
			t.Fatalf("the log has ended after %d lines, notes %v", len(r.lines), r.notes)
		}
		if err != nil {
			t.Fatalf("after %d lines, %d missed, notes %v: %v", len(r.lines), r.missed, r.notes, err)
		}
		r.add(b)
	}
}

func (r *reading) add(b fleet.LogBatch) {
	r.missed += b.Missed
	r.new = len(b.Lines)
	for _, l := range b.Lines {
		r.lines = append(r.lines, l.Text)
	}
	if n := len(b.Lines); n > 0 {
		r.position = b.Lines[n-1].Position
	}
	if b.Note != "" {
		r.notes = append(r.notes, b.Note)
	}
	if b.Gap != "" {
		r.gaps = append(r.gaps, b.Gap)
	}
}

// has reports whether the last batch, or what was read before it began, holds
// a text.
func (r *reading) has(text string) bool {
	for i := len(r.lines) - 1; i >= max(0, len(r.lines)-r.new); i-- {
		if strings.Contains(r.lines[i], text) {
			return true
		}
	}
	return false
}

// printer is a workload on a real node that prints nothing but what it is asked to.
func printer(t *testing.T) (*world, *fleet.Workload, *fleet.Spec) {
	w := newWorld(t, "k3s", "containerd")
	wl, spec := w.demo("printer")
	spec.Env = []fleet.EnvVar{{Name: "QUIET", Value: "true"}}
	spec.Health = nil // its requests are logged as well
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	return w, wl, spec
}

// print asks the workload to print n numbered lines.
func (w *world) print(wl *fleet.Workload, n int) {
	w.t.Helper()
	w.printing(wl, n)()
}

// printing asks the workload to print n numbered lines, and returns what waits
// until it has.
func (w *world) printing(wl *fleet.Workload, n int) (wait func()) {
	w.t.Helper()
	url := fmt.Sprintf("http://127.0.0.1:%d/print?lines=%d", w.service(wl).Spec.Ports[0].NodePort, n)
	// A connection each: over one that is used again a request may be sent twice.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	printed := make(chan error, 1)
	go func() {
		again := time.NewTicker(50 * time.Millisecond)
		defer again.Stop()
		for began := time.Now(); ; <-again.C {
			resp, err := client.Get(url)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					printed <- nil
					return
				}
				err = errors.New(resp.Status)
			}
			if w.t.Context().Err() != nil || time.Since(began) > patience {
				printed <- err
				return
			}
		}
	}()
	return func() {
		w.t.Helper()
		if err := <-printed; err != nil {
			w.t.Fatalf("the workload does not print: %v", err)
		}
	}
}

// numbered returns the numbers of "line i of n" lines in the order they came.
func numbered(lines []string, n int) (out []int) {
	mark := fmt.Sprintf(" of %d:", n)
	for _, l := range lines {
		var i, of int
		if !strings.Contains(l, mark) {
			continue // of the many lines that there may be, few are worth the scan
		}
		if _, err := fmt.Sscanf(l, "line %d of %d:", &i, &of); err == nil && of == n {
			out = append(out, i)
		}
	}
	return out
}

func wantAll(t *testing.T, lines []string, n int) {
	t.Helper()
	got := numbered(lines, n)
	for i, number := range got {
		if number != i+1 {
			at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, fmt.Sprintf("line %d of %d:", number, n)) })
			t.Fatalf("line %d of %d came as number %d, after %q", number, n, i+1, lines[max(0, at-3):at])
		}
	}
	if len(got) != n {
		t.Fatalf("%d of %d lines came", len(got), n)
	}
}

func last(n int) string { return fmt.Sprintf("line %d of %d:", n, n) }

func TestLogsComeWholeAndResumeWithoutGapOrDuplicate(t *testing.T) {
	t.Parallel()
	w, wl, _ := printer(t)
	q := fleet.LogQuery{Workload: *wl, Tail: 100}
	s := w.openLog(q)
	var r reading
	r.until(t, s, func(r *reading) bool { return r.has("listening on") })
	w.print(wl, 5000)
	r.until(t, s, func(r *reading) bool { return r.has(last(5000)) })
	wantAll(t, r.lines, 5000)
	s.Close()

	// What is printed while nobody reads is there on the return.
	w.print(wl, 3000)
	q.After = r.position
	again := w.openLog(q)
	r2 := reading{}
	r2.until(t, again, func(r *reading) bool { return r.has(last(3000)) })
	wantAll(t, r2.lines, 3000)
	if got := numbered(r2.lines, 5000); len(got) != 0 || r2.has("listening on") {
		t.Errorf("%d lines came twice", len(got))
	}

	// A position in the middle of a burst is as good.
	whole := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 50_000})
	r3 := reading{}
	r3.until(t, whole, func(r *reading) bool { return len(numbered(r.lines, 3000)) > 0 })
	q.After = r3.position
	rest := w.openLog(q)
	r3.until(t, rest, func(r *reading) bool { return r.has(last(3000)) })
	wantAll(t, r3.lines, 5000)
	wantAll(t, r3.lines, 3000)

	// The tail is as long as was asked for.
	tail := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 10})
	r4 := reading{}
	r4.until(t, tail, func(r *reading) bool { return r.has(last(3000)) || len(r.lines) >= 10 })
	if len(r4.lines) != 10 {
		t.Errorf("a tail of 10 has %d lines", len(r4.lines))
	}
}

func TestViewersOfOneContainerShareOneFollow(t *testing.T) {
	t.Parallel()
	w, wl, _ := printer(t)
	pod := w.pods(wl)[0].Name
	var streams []*LogStream
	for range 5 {
		streams = append(streams, w.openLog(fleet.LogQuery{Workload: *wl, Pod: pod, Tail: 1000}))
	}
	var readings [5]reading
	for i, s := range streams {
		readings[i].until(t, s, func(r *reading) bool { return r.has("listening on") })
	}
	feeds := func() int {
		w.adapter.hub.mu.Lock()
		defer w.adapter.hub.mu.Unlock()
		return len(w.adapter.hub.feeds)
	}
	if feeds() != 1 {
		t.Errorf("%d upstream streams", feeds())
	}
	w.print(wl, 20000)
	late := w.openLog(fleet.LogQuery{Workload: *wl, Pod: pod, Tail: 50_000})
	streams = append(streams, late)
	all := append(readings[:], reading{})
	for i, s := range streams {
		all[i].until(t, s, func(r *reading) bool { return r.has(last(20000)) })
		wantAll(t, all[i].lines, 20000)
		if all[i].missed != 0 {
			t.Errorf("viewer %d missed %d", i, all[i].missed)
		}
	}
	for _, s := range streams {
		s.Close()
	}
	eventually(t, "the upstream stream ends with its last viewer", func() bool { return feeds() == 0 })
}

func TestASlowViewerIsToldWhatItMissed(t *testing.T) {
	t.Parallel()
	w, wl, _ := printer(t)
	w.use(w.raw, Options{LogQueueBytes: 256 << 10})
	slow := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 10})
	fast := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 10})
	var f, s reading
	f.until(t, fast, func(r *reading) bool { return r.has("listening on") })
	s.until(t, slow, func(r *reading) bool { return r.has("listening on") })
	before := len(f.lines) - len(s.lines)
	printed := w.printing(wl, 30000)
	f.until(t, fast, func(r *reading) bool { return r.has(last(30000)) })
	printed()
	s.until(t, slow, func(r *reading) bool { return r.has(last(30000)) })
	if got := len(s.lines) + s.missed; s.missed == 0 || got != len(f.lines)+f.missed-before {
		t.Errorf("the slow viewer has %d lines and missed %d of %d", len(s.lines), s.missed, len(f.lines)+f.missed)
	}
}

func TestLogsSurviveABrokenConnection(t *testing.T) {
	t.Parallel()
	w, wl, _ := printer(t)
	proxy, raw := clustertest.ThroughProxy(t, w.raw)
	w.use(raw, Options{})
	s := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 100})
	var r reading
	r.until(t, s, func(r *reading) bool { return r.has("listening on") })
	w.print(wl, 2000)
	r.until(t, s, func(r *reading) bool { return r.has(last(2000)) })
	for _, fault := range []func(){proxy.Reset, proxy.BlackHole} {
		fault()
		w.print(wl, 2500)
		proxy.Restore()
		r.until(t, s, func(r *reading) bool { return r.has(last(2500)) })
		wantAll(t, r.lines, 2500)
		r.lines = nil
	}
	if len(r.gaps) != 0 {
		t.Errorf("gaps were told of that there are not: %v", r.gaps)
	}
}

func TestLogsFollowPodsThroughRestartsAndReplacement(t *testing.T) {
	t.Parallel()
	w, wl, spec := printer(t)
	pod := w.pods(wl)[0].Name
	s := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 100})
	var r reading
	r.until(t, s, func(r *reading) bool { return r.has("listening on") })

	w.print(wl, 1) // the node port leads to the pod, so an answer that fails now is the crash
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/crash", w.service(wl).Spec.Ports[0].NodePort))
	if err == nil {
		resp.Body.Close()
		t.Fatalf("asked to crash, it answers %s", resp.Status)
	}
	count := func(text string) int { return strings.Count(strings.Join(r.lines, "\n"), text) }
	r.until(t, s, func(r *reading) bool { return count("listening on") == 2 })
	if count("asked to crash") != 1 || count("starting") != 2 {
		t.Errorf("through the restart came %q", r.lines)
	}

	// What the run before said is there to be read.
	previous := w.openLog(fleet.LogQuery{Workload: *wl, Pod: pod, Tail: 100, Previous: true})
	var before reading
	for {
		b, err := previous.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		before.add(b)
	}
	if !before.has("asked to crash") {
		t.Errorf("the previous log is %q, %v", before.lines, before.notes)
	}

	one := w.openLog(fleet.LogQuery{Workload: *wl, Pod: pod, Tail: 100})
	r.lines = nil
	w.must(fleet.VerbRestart, wl, spec, fleet.Params{})
	r.until(t, s, func(r *reading) bool { return r.has("listening on") })
	w.print(wl, 1000)
	r.until(t, s, func(r *reading) bool { return r.has(last(1000)) })
	wantAll(t, r.lines, 1000)
	r.until(t, s, func(r *reading) bool {
		notes := strings.Join(r.notes, "\n")
		return strings.Contains(notes, "Pod "+pod+" has ended") && strings.Contains(notes, "has started")
	})
	// A log of one pod ends with it.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, err := one.Next(ctx); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogsOfAnotherWorkloadsPodAreNotRead(t *testing.T) {
	t.Parallel()
	w, wl, _ := printer(t)
	other, _ := w.demo("other")
	_, err := w.adapter.OpenLog(t.Context(), &w.cluster, fleet.LogQuery{Workload: *other, Pod: w.pods(wl)[0].Name})
	if fleet.CodeOf(err) != fleet.CodeNotFound {
		t.Errorf("reading another's pod: %v", err)
	}
}

func TestLogReadingIsAsFastAsKubectl(t *testing.T) {
	w, wl, _ := printer(t)
	const n = 300_000
	s := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 10})
	var r reading
	r.until(t, s, func(r *reading) bool { return r.has("listening on") })
	began := time.Now()
	printed := w.printing(wl, n)
	r.until(t, s, func(r *reading) bool { return r.has(last(n)) })
	took := time.Since(began)
	printed()
	t.Logf("%d lines in %s: %.0f a second; missed %d, gaps %v", n, took, n/took.Seconds(), r.missed, r.gaps)
	if len(r.gaps) == 0 && r.missed == 0 {
		wantAll(t, r.lines, n)
	}
}

func TestAttack13LineReaderCutsWhatIsTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*maxLine)
	text := "2026-01-02T03:04:05.000000001Z first\n2026-01-02T03:04:05.000000001Z " + long + "\n2026-01-02T03:04:06Z third\r\n2026-01-02T04:04:06.5+01:00 fourth\n2026-01-02T03:04:07Z \nno time"
	for _, step := range []int{999, 4096, 1 << 20} {
		r := newLineReader()
		var lines []line
		in := bytes.NewReader([]byte(text))
		for {
			room := r.room()
			n, err := in.Read(room[:min(step, len(room))])
			lines = append(lines, r.take(n).lines...)
			if err != nil {
				break
			}
		}
		rest, other := r.rest()
		if lines = append(lines, rest.lines...); len(lines) != 5 || other != "no time" {
			t.Fatalf("by %d: %d lines, and %q", step, len(lines), other)
		}
		if lines[0].text != "first" || !strings.HasPrefix(lines[1].text, "xxx") || len(lines[1].text) > maxLine+len(cutMark) || !strings.HasSuffix(lines[1].text, cutMark) {
			t.Errorf("by %d: first %q, second of %d", step, lines[0].text, len(lines[1].text))
		}
		if lines[1].n != 2 || lines[2].text != "third" || lines[3].text != "fourth" || lines[3].at-lines[2].at != 5e8 || lines[4].text != "" {
			t.Errorf("by %d: %+v", step, lines[2:])
		}
	}
}

func TestWhatANodeSaysInPlaceOfLinesIsNoLine(t *testing.T) {
	t.Parallel()
	const first, second = "2026-01-02T03:04:05.1Z first\n", "2026-01-02T03:04:05.2Z sec"
	for _, c := range []struct {
		text         string
		half         bool
		want, wantBy string
	}{
		{"unable to retrieve container logs for containerd://0123", true, "", "unable to retrieve container logs for containerd://0123"},
		{first + "failed to create fsnotify watcher: too many open files", true, "first", "failed to create fsnotify watcher: too many open files"},
		{first + second, true, "first sec", ""},
		{first + second, false, "first", ""}, // it is being written
	} {
		var got []string
		err := readLines(strings.NewReader(c.text), c.half, func(b block) error {
			for _, l := range b.lines {
				got = append(got, l.text)
			}
			return nil
		})
		var message nodeMessage
		errors.As(err, &message)
		if strings.Join(got, " ") != c.want || string(message) != c.wantBy || (err == nil) != (c.wantBy == "") {
			t.Errorf("%q: lines %q, %v", c.text, got, err)
		}
	}
}

func TestPositionsSurviveTheirText(t *testing.T) {
	t.Parallel()
	p := position{logKey("uid", "main"): {1767323045000000001, 3}, logKey("uid2", "main"): {1767323045000000002, 1}}
	if got := parsePosition(p.String()); len(got) != 2 || got[logKey("uid", "main")] != p[logKey("uid", "main")] || got.newest() != 1767323045000000002 {
		t.Errorf("%s became %v", p, got)
	}
	for _, hostile := range []string{"", ",", "-", "a-", "a-!!", "a-zz.0", "a--5", strings.Repeat("a-1,", 100000)} {
		_ = parsePosition(hostile).String()
	}
}

func TestALogThatCannotBeReadSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok") // its nodes have no logs to give
	wl, spec := w.demo("web")
	w.must(fleet.VerbDeploy, wl, spec, fleet.Params{})
	s := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 10})
	var r reading
	r.until(t, s, func(r *reading) bool { return strings.Contains(strings.Join(r.notes, "\n"), "cannot be read") })
}
