package adapter

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/kube/live"
)

// earlier reads the lines of a source that came before those its feed brings.
type earlier struct {
	*LogStream
	source *source
	pod    *live.Pod
	whole  bool   // all of it, however long
	unread *int64 // how many lines could not be read and are the feed's to begin with
	until  mark   // the last line to read; zero = to the present end
	left   int    // how many of the lines asked for were too many to be kept
}

var errReached = errors.New("all earlier lines are read")

// read shows see the lines, and returns the last one there was: whatever it
// may have been unable to read comes, or is told of, by the feed.
func (e *earlier) read(ctx context.Context, see func([]line) error) mark {
	after := e.after(e.source)
	newest := parsePosition(e.query.After).newest()
	switch {
	case after != (mark{}):
		return e.resume(ctx, after, see)
	case newest != 0:
		// The viewer has lines of other pods, none of this one: all it has
		// printed since then is new.
		from := mark{at: newest - int64(5*time.Second)}
		if e.pod.CreationTimestamp.UnixNano() > newest {
			from = mark{}
		}
		return e.stream(ctx, corev1.PodLogOptions{SinceTime: since(from)}, &skipper{}, see)
	case e.whole:
		return e.stream(ctx, corev1.PodLogOptions{}, &skipper{}, see)
	default:
		return e.fresh(ctx, see)
	}
}

// fresh reads as many lines as the query asks for.
func (e *earlier) fresh(ctx context.Context, see func([]line) error) mark {
	lines, left, err := e.tail(ctx, e.source, mark{}, corev1.PodLogOptions{})
	e.left = left
	if err != nil && e.until != (mark{}) && ctx.Err() == nil {
		e.tellUnread(ctx)
	}
	if err != nil && len(lines) == 0 {
		if !apierrors.IsBadRequest(err) && !apierrors.IsNotFound(err) { // else it has not started
			tail := int64(e.query.Tail)
			e.unread = &tail
		}
		return mark{}
	}
	if e.until != (mark{}) {
		lines, _ = e.upTo(lines)
	}
	if len(lines) == 0 {
		return mark{}
	}
	last := lines[len(lines)-1].mark
	lines = lines[max(0, len(lines)-e.query.Tail):]
	_ = see(slices.DeleteFunc(slices.Clone(lines), func(l line) bool { return l.at < e.query.Since.UnixNano() && !e.query.Since.IsZero() }))
	return last
}

// resume reads on after the viewer's last line, through a restart of the
// container if there was one: then the line is in the log of the run before.
func (e *earlier) resume(ctx context.Context, after mark, see func([]line) error) mark {
	last, skip, looked := after, &skipper{after: after}, false
	missed := func() {
		looked = true
		previous := &skipper{after: after}
		if newer := e.stream(ctx, corev1.PodLogOptions{Previous: true, SinceTime: since(after)}, previous, see); newer != (mark{}) {
			last = newer
		}
		if previous.state != skipFound {
			_ = e.put(ctx, item{source: e.source, gap: rotationGap})
		}
	}
	newest := e.streamAfter(ctx, corev1.PodLogOptions{SinceTime: since(after)}, skip, see, missed)
	if skip.state == skipMissed && !looked { // there is nothing in the present log
		missed()
	}
	if newest != (mark{}) {
		last = newest
	}
	return last
}

// stream shows see what passes the skipper, and returns the last line read.
func (e *earlier) stream(ctx context.Context, o corev1.PodLogOptions, skip *skipper, see func([]line) error) (last mark) {
	return e.streamAfter(ctx, o, skip, see, func() {})
}

// streamAfter is stream, and calls missed before the first line if the skipper's
// is not in the log.
func (e *earlier) streamAfter(ctx context.Context, o corev1.PodLogOptions, skip *skipper, see func([]line) error, missed func()) (last mark) {
	show := func(lines []line) error {
		reached := false
		if e.until != (mark{}) {
			lines, reached = e.upTo(lines)
		}
		if len(lines) > 0 {
			last = lines[len(lines)-1].mark
			if err := see(lines); err != nil {
				return err
			}
		}
		if reached {
			return errReached
		}
		return nil
	}
	err := e.source.read(ctx, o, func(b block) error {
		lines := b.lines
		if skip.state == skipping {
			if lines = skip.pass(lines); skip.state == skipMissed {
				missed()
			}
		}
		return show(lines)
	})
	switch {
	case err == nil && skip.state == skipping && !o.Previous:
		_ = show(skip.end())
	case err != nil && !errors.Is(err, errReached) && !(o.Previous && answered(err)) && e.until != (mark{}) && ctx.Err() == nil:
		e.tellUnread(ctx)
	}
	return last
}

// tellUnread says that lines before those of the feed could not be read.
func (e *earlier) tellUnread(ctx context.Context) {
	_ = e.put(ctx, item{source: e.source, gap: "Lines are missing here: the earlier part of the log could not be read."})
}

// upTo returns the lines that are not the feed's, and whether they are all.
func (e *earlier) upTo(lines []line) ([]line, bool) {
	for i, l := range lines {
		switch {
		case l.mark == e.until:
			return lines[:i+1], true
		case l.at > e.until.at+disorder:
			return slices.DeleteFunc(slices.Clone(lines[:i]), func(l line) bool { return l.at > e.until.at }), true
		}
	}
	return lines, false
}
