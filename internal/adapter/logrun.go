package adapter

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/kube/live"
)

// Each run of a container has a log of its own, and a node shows the present
// one's and that of the one before. Of which run a log is cannot be asked: the
// count of restarts in the pod's status comes later than the log. The lines tell.

// passPrevious passes on what the container's run before the present one said
// after a line, and reports whether that line is in its log. If it is not but
// later ones are, they come after a gap.
func (f *feed) passPrevious(ctx context.Context, after mark) (found bool, err error) {
	f.look(true)
	defer f.look(false)
	skip := skipper{after: after}
	show := func(lines []line) {
		gap := ""
		if len(lines) > 0 && skip.state == skipMissed && !f.toldSince(after) {
			gap = "Lines may be missing here: the container was restarted meanwhile."
		}
		f.pass(lines, gap)
	}
	err = f.source.read(ctx, corev1.PodLogOptions{Previous: true, SinceTime: since(after)}, func(b block) error {
		show(skip.pass(b.lines))
		return nil
	})
	if skip.state == skipping {
		show(skip.end())
	}
	if found = skip.state == skipFound; found && err == nil {
		f.mu.Lock()
		f.begins, f.newest, f.received = 0, 0, 0 // they were of that run
		f.mu.Unlock()
	}
	return found, err
}

// look keeps the watch for rotations off while the run is not known.
func (f *feed) look(on bool) {
	f.mu.Lock()
	f.looking = on
	f.mu.Unlock()
}

// tellMissing tells the viewers that lines after m may be missing.
func (f *feed) tellMissing(m mark, gap string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tell(item{source: &f.source, gap: gap})
	f.gapAt = max(f.gapAt, m.at+1)
}

// containerState is how the container of a log is, as the API server knows.
type containerState struct {
	ended, gone, running bool
	restarts             int32
}

// inspect looks how the container is.
func (f *feed) inspect(ctx context.Context) (containerState, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var pod live.Pod
	err := live.Get(ctx, f.source.api, live.Pods, f.source.namespace, f.source.pod, &pod)
	switch {
	case apierrors.IsNotFound(err):
		return containerState{ended: true, gone: true}, nil
	case err != nil:
		return containerState{}, err
	case pod.UID != f.source.uid:
		return containerState{ended: true, gone: true}, nil
	}
	s := containerState{}
	status := pod.Container(f.source.container)
	if status == nil {
		s.ended = pod.Status.Phase == "Succeeded" || pod.Status.Phase == "Failed"
		return s, nil
	}
	s.running, s.restarts = status.State.Running != nil, status.RestartCount
	over := pod.Deleting() || pod.Status.Phase == "Succeeded" || pod.Status.Phase == "Failed"
	s.ended = over && status.State.Terminated != nil
	return s, nil
}
