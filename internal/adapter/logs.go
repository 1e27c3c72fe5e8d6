package adapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

const (
	batchBytes = 48 << 10 // of lines in a batch, so that it fits one message to a browser
	lineCost   = 64       // what a line costs besides its text
	maxSources = 50       // containers in a merged log
	caughtUp   = 4 << 20  // of a source's lines that are put in order with those of others, of what a viewer has to catch up on
)

// LogStream is one viewer of a log. Next is for one goroutine at a time.
type LogStream struct {
	adapter *Adapter
	query   fleet.LogQuery
	origin  source // cluster and namespace of all its sources
	limit   int
	resumed bool
	cancel  context.CancelFunc
	running sync.WaitGroup
	api     atomic.Pointer[live.API] // of the newest credential that was needed
	wake    chan struct{}            // holds a token while there may be something to take
	drained chan struct{}            // holds a token after something was taken
	history history

	// Of Next alone.
	at position

	mu     sync.Mutex
	queue  []item
	bytes  int
	missed int
	held   map[*tap][]item // of sources whose earlier lines are still being read
	taps   map[string]*tap // by source key
	ended  map[string]bool // source keys of which nothing more comes
	full   bool            // it was said that no more pods can be shown
	err    error           // how it ends, once the queue is empty
}

// OpenLog begins to read a log. Earlier lines come first, then new ones as
// they are printed; a merged log goes on with pods that are made meanwhile.
// Close it when done. Errors are fleet.Errors.
func (a *Adapter) OpenLog(ctx context.Context, cluster *fleet.Cluster, q fleet.LogQuery) (*LogStream, error) {
	client, err := a.clients.Get(ctx, cluster)
	if err != nil {
		return nil, err
	}
	s := &LogStream{
		adapter: a, query: q, resumed: q.After != "",
		origin:  source{api: client.API, renewal: a.renewal(cluster.ID), cluster: cluster.ID + "/" + client.Hash, namespace: q.Workload.Namespace},
		wake:    make(chan struct{}, 1),
		drained: make(chan struct{}, 1),
		at:      parsePosition(q.After),
		held:    map[*tap][]item{}, taps: map[string]*tap{}, ended: map[string]bool{},
	}
	selector := labels.Set{live.LabelManagedBy: live.Manager, live.LabelWorkload: q.Workload.ID}.String()
	listCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pods, version, err := live.List[live.Pod](listCtx, client.API, live.Pods, q.Workload.Namespace, live.Query{Labels: selector})
	if err != nil {
		if apierrors.IsForbidden(err) {
			return nil, &fleet.Error{Code: fleet.CodeUnavailable, Message: "The cluster's credential may not list pods: " + apiMessage(err), Err: err}
		}
		return nil, unreachable(*cluster, err)
	}
	if q.Pod != "" {
		pods = slices.DeleteFunc(pods, func(p live.Pod) bool { return p.Name != q.Pod })
		if len(pods) == 0 {
			return nil, fleet.NotFound("The workload %s has no pod %s now.", q.Workload.Name, q.Pod)
		}
	}
	if q.Container != "" && len(pods) > 0 && !slices.ContainsFunc(pods, func(p live.Pod) bool { return p.Has(q.Container) }) {
		return nil, fleet.NotFound("No pod of %s that is there has a container %s.", q.Workload.Name, q.Container)
	}
	s.api.Store(client.API)
	s.limit, s.history.limit = a.queues.take(a.opts.LogQueueBytes), a.histories.take(a.opts.LogHistoryBytes)
	runCtx, cancelRun := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancelRun
	s.running.Go(func() { s.run(runCtx, pods, selector, version) })
	return s, nil
}

// Close lets go of the log.
func (s *LogStream) Close() {
	s.cancel()
	s.running.Wait()
	s.mu.Lock()
	taps := s.taps
	s.taps = nil
	s.mu.Unlock()
	if taps == nil {
		return // closed before
	}
	for _, t := range taps {
		t.leave()
	}
	s.adapter.queues.give(s.limit)
}

// Next waits for lines and returns those that are there, at most one message's
// worth. io.EOF is the end of a log that does not go on.
func (s *LogStream) Next(ctx context.Context) (fleet.LogBatch, error) {
	for {
		if b, ok, err := s.take(); ok || err != nil {
			return b, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return fleet.LogBatch{}, ctx.Err()
		}
	}
}

func (s *LogStream) note(ctx context.Context, format string, args ...any) {
	_ = s.put(ctx, item{source: &s.origin, note: fmt.Sprintf(format, args...)})
}

// noteInLog says something that stays where it stands among the lines.
func (s *LogStream) noteInLog(ctx context.Context, format string, args ...any) {
	_ = s.put(ctx, item{source: &s.origin, gap: fmt.Sprintf(format, args...)})
}

// run reads the earlier lines, then keeps up with the pods of a merged log.
func (s *LogStream) run(ctx context.Context, pods []live.Pod, selector, version string) {
	through := sync.OnceFunc(func() { s.adapter.histories.give(s.history.limit) })
	defer through()
	if s.query.Previous {
		s.readPrevious(ctx, pods)
		return
	}
	s.begin(ctx, pods)
	through()
	if s.query.Pod != "" {
		<-ctx.Done()
		return
	}
	seen := func(change live.Change, p *live.Pod) error {
		if change == live.Added || change == live.Modified {
			s.joinLater(ctx, p)
		}
		return nil
	}
	wait := 200 * time.Millisecond
	for ctx.Err() == nil {
		opened := time.Now()
		// Why it ended does not matter: a list shows what it would have.
		_ = live.Watch(ctx, s.api.Load(), live.Pods, s.origin.namespace, live.Query{Labels: selector}, version, seen)
		if time.Since(opened) > 5*time.Second {
			wait = 200 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, s.adapter.opts.LogReconnectInterval)
		var list []live.Pod
		var err error
		if list, version, err = live.List[live.Pod](ctx, s.api.Load(), live.Pods, s.origin.namespace, live.Query{Labels: selector}); err != nil {
			version = "0"
			if api := s.origin.renewal(ctx); api != nil {
				s.api.Store(api)
			}
			continue
		}
		for i := range list {
			s.joinLater(ctx, &list[i])
		}
	}
}

// begin reads the earlier lines of all pods that there are, in the order of
// their times, and lets the new ones follow.
func (s *LogStream) begin(ctx context.Context, pods []live.Pod) {
	type opening struct {
		tap      *tap
		gathered *gathered
		left     int // lines that were not even gathered
		lines    []line
	}
	var sources []*live.Pod
	for i := range pods {
		if pods[i].Started(s.container(&pods[i])) || s.query.Pod != "" {
			sources = append(sources, &pods[i])
		}
	}
	if len(sources) > maxSources {
		if !s.resumed {
			s.noteInLog(ctx, "The workload has %d pods; the logs of %d of them are shown.", len(sources), maxSources)
		}
		s.mu.Lock()
		s.full = true
		s.mu.Unlock()
		sources = sources[:maxSources]
	}
	if len(sources) == 0 {
		s.note(ctx, "No pod has started yet.")
		return
	}
	openings := make([]opening, len(sources))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(10)
	for i, p := range sources {
		group.Go(func() error {
			o := &openings[i]
			o.gathered = s.history.source(0)
			o.tap, o.left = s.attach(groupCtx, p, false, func(lines []line) error {
				g := o.gathered
				if !s.resumed {
					g.add(lines)
					return nil
				}
				// A long way to catch up on is not gathered first, and nothing
				// of it is dropped.
				if len(sources) > 1 && g.addWithin(lines, min(caughtUp, s.history.limit/len(sources))) {
					return nil
				}
				return s.put(groupCtx, item{source: s.sourceOf(p), lines: append(g.take(), lines...)})
			})
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return
	}
	left := 0
	for i := range openings {
		left += openings[i].left + openings[i].gathered.dropped
		openings[i].lines = openings[i].gathered.take()
	}
	s.leaveOut(ctx, left)
	// Merge by time: the runs between two lines of others are put as they are.
	for {
		first, second := -1, -1
		for i := range openings {
			switch lines := openings[i].lines; {
			case len(lines) == 0:
			case first < 0 || before(lines[0], openings[first].lines[0]) < 0:
				first, second = i, first
			case second < 0 || before(lines[0], openings[second].lines[0]) < 0:
				second = i
			}
		}
		if first < 0 {
			break
		}
		lines := openings[first].lines
		n := len(lines)
		if second >= 0 {
			limit := openings[second].lines[0]
			if i := slices.IndexFunc(lines, func(l line) bool { return before(l, limit) > 0 }); i >= 0 {
				n = max(1, i)
			}
		}
		n = min(n, 512)
		if s.put(ctx, item{source: s.sourceOf(sources[first]), lines: lines[:n]}) != nil {
			return
		}
		openings[first].lines = lines[n:]
	}
	for i := range openings {
		if openings[i].tap != nil {
			s.release(openings[i].tap)
		}
	}
}

// joinLater adds a pod that was made, or has started, meanwhile.
func (s *LogStream) joinLater(ctx context.Context, p *live.Pod) {
	container := s.container(p)
	s.mu.Lock()
	key := logKey(p.UID, container)
	known := s.taps[key] != nil || s.ended[key]
	full := len(s.taps) >= maxSources
	left := full && !known && p.Started(container)
	tell := left && !s.full
	s.full = s.full || left
	s.mu.Unlock()
	if known || full && !tell || !p.Started(container) {
		return
	}
	pod := *p
	if tell {
		s.running.Go(func() {
			s.noteInLog(ctx, "Pod %s has started as well. The logs of %d pods are shown, and of no more: choose a pod to see its log.", pod.Name, maxSources)
		})
		return
	}
	s.running.Go(func() {
		s.note(ctx, "Pod %s has started.", pod.Name)
		t, _ := s.attach(ctx, &pod, true, func(lines []line) error {
			return s.put(ctx, item{source: s.sourceOf(&pod), lines: lines})
		})
		if t != nil {
			s.release(t)
		}
	})
}

// container is the one asked for, or the main one, which comes first.
func (s *LogStream) container(p *live.Pod) string {
	if s.query.Container != "" || len(p.Spec.Containers) == 0 {
		return s.query.Container
	}
	return p.Spec.Containers[0].Name
}

func (s *LogStream) sourceOf(p *live.Pod) *source {
	src := s.origin
	src.api = s.api.Load()
	src.pod, src.uid, src.container = p.Name, p.UID, s.container(p)
	return &src
}

// attach joins the feed of a pod's log and shows see the lines before those
// that the feed will bring, of a new pod the whole of them. What the feed brings
// is held back until release. left is how many of the lines asked for were too
// many to be kept. It returns no tap when the viewer has the pod already, or has
// gone.
func (s *LogStream) attach(ctx context.Context, p *live.Pod, whole bool, see func([]line) error) (t *tap, left int) {
	src := s.sourceOf(p)
	s.mu.Lock()
	if s.taps == nil || s.taps[src.key()] != nil {
		s.mu.Unlock()
		return nil, 0
	}
	reserved := &tap{} // so that a second event of the pod does not join again
	s.taps[src.key()] = reserved
	s.mu.Unlock()

	var restarts int32
	if status := p.Container(src.container); status != nil {
		restarts = status.RestartCount
	}
	hold := func(t *tap) {
		s.mu.Lock()
		s.held[t], s.taps[src.key()] = nil, t
		s.mu.Unlock()
	}
	t, first, at, err := s.adapter.hub.join(ctx, *src, restarts, s.adapter.opts, s, hold)
	if err != nil {
		s.mu.Lock()
		delete(s.taps, src.key())
		s.mu.Unlock()
		return nil, 0
	}
	e := earlier{LogStream: s, source: src, pod: p, whole: whole, until: at}
	if first {
		last := e.read(ctx, see)
		if ctx.Err() != nil {
			return t, 0 // it has gone: Close takes its tap, and who comes next starts the feed
		}
		t.start(last, e.unread)
		return t, e.left
	}
	if at != (mark{}) {
		e.read(ctx, see)
	}
	return t, e.left
}

// readPrevious reads the logs of the containers before their last restart.
func (s *LogStream) readPrevious(ctx context.Context, pods []live.Pod) {
	for i := range pods {
		src := s.sourceOf(&pods[i])
		lines, left, err := s.tail(ctx, src, s.after(src), corev1.PodLogOptions{Previous: true})
		var message nodeMessage
		switch {
		case errors.As(err, &message):
			s.note(ctx, "The log of container %s of pod %s before its last restart is not there any more. Its node says: %s", src.container, src.pod, message)
		case apierrors.IsBadRequest(err) || apierrors.IsNotFound(err):
			s.note(ctx, "Container %s of pod %s has not been restarted, so there is no log before.", src.container, src.pod)
		case err != nil:
			s.note(ctx, "The log of pod %s could not be read: %s", src.pod, apiMessage(err))
		}
		if skip := (skipper{after: s.after(src)}); skip.after != (mark{}) {
			lines = append(skip.pass(lines), skip.end()...)
		}
		s.leaveOut(ctx, left)
		if len(lines) > 0 && s.put(ctx, item{source: src, lines: lines}) != nil {
			return
		}
	}
	s.mu.Lock()
	s.err = io.EOF
	s.mu.Unlock()
	signal(s.wake)
}

// after is where the viewer's earlier reading of a source ended.
func (s *LogStream) after(src *source) mark { return parsePosition(s.query.After)[src.key()] }
