package adapter

import (
	"context"

	corev1 "k8s.io/api/core/v1"
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
