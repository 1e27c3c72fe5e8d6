package adapter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errEndless ends the reading of earlier lines that do not come to an end.
var errEndless = errors.New("the earlier lines do not end")

// endlessAfter is how many times what may be kept of earlier lines is read to
// find the newest of them, also for a viewer who gets less of it.
const endlessAfter = 8

// history is what a viewer's sources gather of their earlier lines. Together
// they keep no more than a number of bytes, and of all lines the newest.
type history struct {
	limit int // bytes

	mu      sync.Mutex
	bytes   int
	sources []*gathered
}

// gathered are the earlier lines of one source, oldest first.
type gathered struct {
	history *history
	from    int64 // lines from this time on count when they are dropped
	begins  int64 // the time of the first line there was
	all     int   // lines there were
	dropped int   // how many that count were too old to be kept

	lines []line
	bytes int
}

// source begins to gather lines of which those from a time on are asked for.
func (h *history) source(from int64) *gathered {
	g := &gathered{history: h, from: from}
	h.mu.Lock()
	h.sources = append(h.sources, g)
	h.mu.Unlock()
	return g
}

// add gathers further lines.
func (g *gathered) add(lines []line) { g.addWithin(lines, 0) }

// addWithin gathers further lines, unless the source's would take more than so
// many bytes then; 0 = no matter how many.
func (g *gathered) addWithin(lines []line, most int) bool {
	size := sizeOf(lines)
	h := g.history
	h.mu.Lock()
	defer h.mu.Unlock()
	if most > 0 && g.bytes+size > most {
		return false
	}
	if g.all == 0 && len(lines) > 0 {
		g.begins = lines[0].at
	}
	g.all += len(lines)
	g.lines = append(g.lines, lines...)
	g.bytes += size
	h.bytes += size
	for h.bytes > h.limit && h.drop() {
	}
	return true
}

// drop lets go of the oldest lines as long as they take too much, but never of a
// source's last one, after which its new lines come. It returns false when there
// are no others.
func (h *history) drop() bool {
	var oldest, second *gathered
	for _, g := range h.sources {
		switch {
		case len(g.lines) < 2:
		case oldest == nil || g.lines[0].at < oldest.lines[0].at:
			oldest, second = g, oldest
		case second == nil || g.lines[0].at < second.lines[0].at:
			second = g
		}
	}
	if oldest == nil {
		return false
	}
	for h.bytes > h.limit && len(oldest.lines) > 1 && (second == nil || oldest.lines[0].at <= second.lines[0].at) {
		first := &oldest.lines[0]
		if first.at >= oldest.from {
			oldest.dropped++
		}
		size := len(first.text) + lineCost
		*first = line{} // so that its text does not stay
		oldest.lines = oldest.lines[1:]
		oldest.bytes -= size
		h.bytes -= size
	}
	return true
}

// take takes away what is gathered.
func (g *gathered) take() []line {
	h := g.history
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes -= g.bytes
	lines := g.lines
	g.lines, g.bytes = nil, 0
	return lines
}

func sizeOf(lines []line) (bytes int) {
	for i := range lines {
		bytes += len(lines[i].text) + lineCost
	}
	return bytes
}

// leaveOut says that the oldest of the lines asked for are not kept.
func (s *LogStream) leaveOut(ctx context.Context, lines int) {
	if lines == 0 {
		return
	}
	_ = s.put(ctx, item{source: &s.origin, missed: lines, gap: fmt.Sprintf("The %d oldest lines are left out here: all that were asked for take more than %d MiB.",
		lines, max(1, s.history.limit>>20))})
}

// tail reads the last lines of a log after a line as the query asks, and says
// how many of them were too many to be kept.
func (s *LogStream) tail(ctx context.Context, src *source, after mark, o corev1.PodLogOptions) (lines []line, left int, err error) {
	// Lines of one time are counted from the first of them. The first of those
	// read may not be the first, so a few more are asked for and let go.
	asked, from := int64(s.query.Tail)+8, after.at
	o.TailLines = &asked
	if !s.query.Since.IsZero() {
		t := metav1.NewTime(s.query.Since)
		o.SinceTime, from = &t, max(from, s.query.Since.UnixNano())
	}
	g, read := s.history.source(from), 0
	err = src.read(ctx, o, func(b block) error {
		g.add(b.lines)
		if read += b.bytes; read > endlessAfter*s.adapter.opts.LogHistoryBytes {
			return errEndless
		}
		return nil
	})
	lines = g.take()
	if int64(g.all) >= asked {
		whole := slices.IndexFunc(lines, func(l line) bool { return l.at != g.begins })
		lines = lines[max(0, whole):]
	}
	// A server may send more than it was asked for.
	return lines, min(g.dropped, max(0, s.query.Tail-len(lines))), err
}
