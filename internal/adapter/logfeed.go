package adapter

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/kube/live"
)

// source is the log of one container of one pod.
type source struct {
	api       *live.API
	renewal   func(context.Context) *live.API // that of the present credential, or nil
	cluster   string                          // cluster id and hash of its credential
	namespace string
	pod       string
	uid       string
	container string
}

type feedKey struct{ cluster, namespace, uid, container string }

func (s *source) feedKey() feedKey { return feedKey{s.cluster, s.namespace, s.uid, s.container} }

// key names the source in positions.
func (s *source) key() string { return logKey(s.uid, s.container) }

// open begins to read the log; without Follow it ends at its present end.
func (s *source) open(ctx context.Context, o corev1.PodLogOptions) (io.ReadCloser, error) {
	o.Container, o.Timestamps = s.container, true
	return live.Logs(s.api, s.namespace, s.pod, o).Stream(ctx)
}

// read shows see the lines of a log as they come, until its end or an error.
func (s *source) read(ctx context.Context, o corev1.PodLogOptions, see func(block) error) error {
	body, err := s.open(ctx, o)
	if err != nil {
		return err
	}
	defer body.Close()
	// The end of a log that goes on may be half a line. The follow brings all
	// of it.
	return readLines(body, o.Follow || o.Previous || o.LimitBytes != nil, see)
}

// nodeMessage is what a node says in the place of a log, or at the end of one,
// when it cannot give more of it: "unable to retrieve container logs for
// containerd://…" of a container that it has removed, "failed to create fsnotify
// watcher: too many open files" when it cannot follow. It comes with the status
// 200, as a log would, but without a time before it.
type nodeMessage string

func (m nodeMessage) Error() string { return string(m) }

// readLines shows see the lines of a log that was asked for with timestamps, a
// last one without its end only if half is. What a node says instead of lines is
// a nodeMessage.
func readLines(body io.Reader, half bool, see func(block) error) error {
	reader := newLineReader()
	begun := false
	show := func(b block) error {
		if len(b.lines) == 0 {
			return nil
		}
		if !begun && b.lines[0].at == 0 {
			return nodeMessage(live.Clip(b.lines[0].text))
		}
		begun = true
		return see(b)
	}
	for {
		n, err := body.Read(reader.room())
		if n > 0 {
			if err := show(reader.take(n)); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			rest, message := reader.rest()
			switch {
			case message != "":
				return nodeMessage(live.Clip(message))
			case half:
				return show(rest)
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// since asks for the lines from the second of m on; logs can be asked for by
// whole seconds only.
func since(m mark) *metav1.Time {
	if m.at == 0 {
		return nil
	}
	t := metav1.NewTime(time.Unix(m.at/1e9, 0))
	return &t
}

// hub keeps one feed for every container that somebody watches.
type hub struct {
	mu    sync.Mutex
	feeds map[feedKey]*feed
}

// feed follows one log on behalf of all who watch it. It reads as fast as the
// log comes and waits for nobody: a log that is not read is rotated away.
type feed struct {
	hub    *hub
	source source
	opts   Options
	cancel context.CancelFunc

	started chan struct{} // closed when at is known

	mu       sync.Mutex
	failed   bool   // its first viewer left before it started
	at       mark   // the last line passed on
	tail     *int64 // while there is none: how many lines before the log's end to begin; nil = at its start
	restarts int32
	received int64 // bytes of lines of this run
	newest   int64 // the latest time of a line of this run, or of the one that the feed began after
	begins   int64 // when the first line of the log's file was printed, as last seen; see logrotation.go
	gapAt    int64 // the time of the first line after the last gap that was told of
	looking  bool  // what has come may be of another run
	taps     map[*tap]bool
	finished bool
}

// tap is where one viewer takes from a feed.
type tap struct {
	feed   *feed
	stream *LogStream
}

// join adds a viewer to the feed of a source. first says that there was none:
// the viewer must then start it. hold is called before the first line can
// come. A viewer that is not the first gets, from now
// on, every line after at.
func (h *hub) join(ctx context.Context, src source, restarts int32, opts Options, stream *LogStream, hold func(*tap)) (t *tap, first bool, at mark, err error) {
	for {
		h.mu.Lock()
		f := h.feeds[src.feedKey()]
		if f == nil {
			f = &feed{hub: h, source: src, opts: opts, started: make(chan struct{}), restarts: restarts, taps: map[*tap]bool{}}
			h.feeds[src.feedKey()] = f
			t := &tap{f, stream}
			hold(t)
			f.taps[t] = true
			h.mu.Unlock()
			return t, true, mark{}, nil
		}
		h.mu.Unlock()
		select {
		case <-f.started:
		case <-ctx.Done():
			return nil, false, mark{}, ctx.Err()
		}
		f.mu.Lock()
		if !f.failed && !f.finished {
			t := &tap{f, stream}
			hold(t)
			f.taps[t] = true
			at := f.at
			f.mu.Unlock()
			return t, false, at, nil
		}
		f.mu.Unlock() // it has just gone: make another
		h.drop(f)
	}
}

func (h *hub) drop(f *feed) {
	h.mu.Lock()
	if h.feeds[f.source.feedKey()] == f {
		delete(h.feeds, f.source.feedKey())
	}
	h.mu.Unlock()
}

// start lets the feed follow its log from after a line on; where there is none,
// from so many lines before the log's end, or from its start.
func (t *tap) start(at mark, tail *int64) {
	f := t.feed
	ctx, cancel := context.WithCancel(context.Background())
	f.mu.Lock()
	f.at, f.newest, f.tail, f.cancel = at, at.at, tail, cancel
	if len(f.taps) == 0 {
		cancel()
	}
	f.mu.Unlock()
	close(f.started)
	go f.run(ctx)
}

// leave takes a viewer away; the last one ends the feed.
func (t *tap) leave() {
	f := t.feed
	f.mu.Lock()
	delete(f.taps, t)
	last := len(f.taps) == 0
	if last {
		f.failed = true
	}
	cancel := f.cancel
	f.mu.Unlock()
	if !last {
		return
	}
	f.hub.drop(f)
	if cancel != nil {
		cancel()
		return
	}
	select {
	case <-f.started:
	default:
		close(f.started) // it was never started: those who wait make another
	}
}

// pass gives lines to every viewer.
func (f *feed) pass(lines []line, gap string) {
	if len(lines) == 0 && gap == "" {
		return
	}
	size := 0
	for i := range lines {
		size += len(lines[i].text) + lineCost
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(lines) > 0 {
		if gap != "" {
			f.gapAt = lines[0].at
		}
		f.at = lines[len(lines)-1].mark
	}
	f.tell(item{source: &f.source, lines: lines, bytes: size, gap: gap})
}

// last returns the last line passed on.
func (f *feed) last() mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// tell hands every viewer an item; f.mu is held.
func (f *feed) tell(it item) {
	for t := range f.taps {
		t.stream.offer(t, it)
	}
}

// run follows the log through restarts of the container and broken
// connections, until the pod has gone or nobody watches.
func (f *feed) run(ctx context.Context) {
	defer f.finish(ctx)
	const soon = 200 * time.Millisecond
	// refused: how often in a row, without a line between, it was answered that the
	// log cannot be read.
	wait, lost, refused, told := soon, false, 0, false
	for ctx.Err() == nil {
		opened, before := time.Now(), f.last()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		state, inspectErr := f.inspect(ctx)
		if answered(err) && f.last() == before && (state.running || state.ended) {
			refused++
		} else {
			refused = 0
		}
		told = told && answered(err)
		switch {
		case inspectErr == nil && state.ended && (err == nil || state.gone || refused >= maxRefused):
			return // else the end of what it has said is still to be read
		case inspectErr == nil && !state.running:
			wait = min(max(wait, soon), time.Second) // between two runs
		case err == nil && inspectErr == nil:
			wait = soon // the server ends long requests now and then
		case !lost && inspectErr != nil:
			lost = true
			f.note("The connection to the log of " + f.source.pod + " was lost; trying again.")
		}
		if inspectErr == nil {
			lost = false
		} else if api := f.source.renewal(ctx); api != nil {
			f.source.api = api // the credential may have been replaced
		}
		if refused >= maxRefused && !told {
			told = true
			f.note("The log of " + f.source.pod + " cannot be read: " + strings.TrimRight(apiMessage(err), ". ") + ". Trying again.")
		}
		if time.Since(opened) > f.opts.LogReconnectInterval {
			wait = soon
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, f.opts.LogReconnectInterval)
	}
}

// maxRefused is how often a log must be refused in a row to be told of.
const maxRefused = 3

// answered reports whether an error is what the API server or the node says of a
// log, not that they were not reached.
func answered(err error) bool {
	var status apierrors.APIStatus
	var message nodeMessage
	return errors.As(err, &status) || errors.As(err, &message)
}

func (f *feed) note(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tell(item{source: &f.source, note: text})
}

// finish tells the viewers that no more lines come.
func (f *feed) finish(ctx context.Context) {
	left := ctx.Err() != nil
	f.hub.drop(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel()
	f.finished = true
	if !left {
		f.tell(item{source: &f.source, note: "Pod " + f.source.pod + " has ended.", end: true})
	}
}

// rotatedAfter is how much of a log comes before its node may have rotated it;
// kubelets do at 10 MiB by default.
const rotatedAfter = 8 << 20

// follow reads from the last line passed on until the stream ends.
func (f *feed) follow(ctx context.Context) error {
	f.mu.Lock()
	skip := skipper{after: f.at}
	known := f.restarts
	f.mu.Unlock()
	state, err := f.inspect(ctx)
	if err != nil || state.gone {
		return err
	}
	restarted, looked := state.restarts != known, false
	if restarted {
		// Another run of the container has a log of its own. What the one
		// before said last is read first.
		if skip.after.at != 0 {
			looked = true
			found, err := f.passPrevious(ctx, skip.after)
			switch {
			case answered(err):
				f.tellMissing(skip.after, "Lines may be missing here: the log before the restart cannot be read: "+apiMessage(err))
			case err != nil:
				return err
			case found:
				skip = skipper{}
			}
		}
		f.mu.Lock()
		f.restarts, f.begins, f.newest, f.received = state.restarts, 0, 0, 0
		f.mu.Unlock()
	}
	options := corev1.PodLogOptions{Follow: true, SinceTime: since(skip.after)}
	if skip.after == (mark{}) && !restarted {
		options.TailLines = f.tail
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { f.watchRotation(ctx, func() { cancel(errLeftBehind) }) })
	defer watching.Wait()
	defer cancel(nil)
	var size int
	last, arrived := skip.after.at, time.Now()
	err = f.source.read(ctx, options, func(b block) error {
		lines, gap := b.lines, ""
		if skip.state == skipping {
			lines = skip.pass(lines)
		}
		if skip.state == skipMissed {
			// The API server may not know yet that it is another run's log.
			found := false
			if !looked && !f.toldSince(skip.after) {
				var err error
				if found, err = f.passPrevious(ctx, skip.after); err != nil && !answered(err) {
					return err
				}
			}
			if !found && !f.toldSince(skip.after) {
				gap = rotationGap
			}
			skip.state = skipFound
		}
		f.receive(b)
		if skip.state == skipping {
			return nil
		}
		// A node that cannot send as fast as the container prints goes on
		// with the newest file when it gets there, and says nothing. It shows
		// as a leap in time that has not been waited for.
		size += b.bytes
		now := time.Now()
		patience := last + int64(now.Sub(arrived)) + int64(2*time.Second)
		for i := range lines {
			if lines[i].at > patience && size > rotatedAfter && last != 0 {
				gap, size = rotationGap, 0
			}
			last = lines[i].at
			patience = max(patience, last+int64(2*time.Second))
		}
		arrived = now
		f.pass(lines, gap)
		return nil
	})
	f.pass(skip.end(), "")
	if errors.Is(context.Cause(ctx), errLeftBehind) {
		return errLeftBehind
	}
	return err
}
