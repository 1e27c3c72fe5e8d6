package adapter

import (
	"context"
	"io"
	"time"

	"portolan/internal/fleet"
)

// item is something that is handed to a viewer.
type item struct {
	source *source
	lines  []line
	bytes  int
	gap    string
	missed int // lines that the gap stands for
	note   string
	end    bool // nothing more comes from the source
}

// take makes a batch of what is queued.
func (s *LogStream) take() (b fleet.LogBatch, ok bool, err error) {
	s.mu.Lock()
	b.Missed, s.missed = s.missed, 0
	var taken []item
	size := 0
	for len(s.queue) > 0 && size < batchBytes {
		next := s.queue[0]
		if len(taken) > 0 && (next.note != "" || next.gap != "") {
			break // stands before the lines of the next batch
		}
		if n := fits(next.lines, batchBytes-size); n < len(next.lines) {
			part, used := next, 0
			part.lines = next.lines[:n:n]
			for i := range part.lines {
				used += len(part.lines[i].text) + lineCost
			}
			part.bytes = used
			s.queue[0].lines, s.queue[0].gap, s.queue[0].note = next.lines[n:], "", ""
			s.queue[0].bytes -= used
			next = part
		} else {
			s.queue[0] = item{}
			s.queue = s.queue[1:]
		}
		s.bytes -= next.bytes
		size += next.bytes
		b.Missed += next.missed
		taken = append(taken, next)
		if size >= batchBytes-lineCost {
			break
		}
	}
	err = s.err
	s.mu.Unlock()
	if len(taken) == 0 && b.Missed == 0 {
		return b, false, err
	}
	signal(s.drained)
	signal(s.wake) // there may be more
	count := 0
	for _, it := range taken {
		count += len(it.lines)
	}
	b.Lines = make([]fleet.LogLine, 0, count)
	for _, it := range taken {
		if it.note != "" {
			b.Note = it.note
		}
		if it.gap != "" {
			b.Gap = it.gap
		}
		for _, l := range it.lines {
			b.Lines = append(b.Lines, fleet.LogLine{At: time.Unix(0, l.at), Pod: it.source.pod, Text: l.text})
		}
		if len(it.lines) > 0 {
			s.at[it.source.key()] = it.lines[len(it.lines)-1].mark
		}
	}
	s.at.trim()
	if count > 0 {
		b.Lines[count-1].Position = s.at.String()
	}
	return b, true, nil
}

// fits returns how many of the lines make up about that many bytes, at least one.
func fits(lines []line, bytes int) int {
	for i := range lines {
		if bytes -= len(lines[i].text) + lineCost; bytes < 0 {
			return max(1, i)
		}
	}
	return len(lines)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// offer queues what a feed has, and never waits: what the viewer is too slow
// for is counted and let go, the oldest first.
func (s *LogStream) offer(t *tap, it item) {
	s.mu.Lock()
	if held, ok := s.held[t]; ok {
		s.held[t] = append(held, it)
		s.bytes += it.bytes
	} else {
		s.enqueue(it)
	}
	for s.bytes > s.limit && s.shed() {
	}
	s.mu.Unlock()
	signal(s.wake)
}

func (s *LogStream) enqueue(it item) {
	s.queue = append(s.queue, it)
	s.bytes += it.bytes
	if it.end {
		key := it.source.key()
		s.ended[key] = true
		delete(s.taps, key)
		if s.query.Pod != "" {
			s.err = io.EOF
		}
	}
}

// shed lets go of the oldest lines; false when there are none.
func (s *LogStream) shed() bool {
	for i := range s.queue {
		if n := len(s.queue[i].lines); n > 0 {
			s.missed += n
			s.bytes -= s.queue[i].bytes
			if s.queue[i].note == "" && s.queue[i].gap == "" && i == 0 {
				s.queue[0] = item{}
				s.queue = s.queue[1:]
			} else {
				s.queue[i].lines, s.queue[i].bytes = nil, 0
			}
			return true
		}
	}
	for t, held := range s.held {
		for i := range held {
			if n := len(held[i].lines); n > 0 {
				s.missed += n
				s.bytes -= held[i].bytes
				if held[i].note == "" && held[i].gap == "" && i == 0 {
					s.held[t] = held[1:]
				} else {
					held[i].lines, held[i].bytes = nil, 0
				}
				return true
			}
		}
	}
	return false
}

// put queues earlier lines, which can wait until the viewer has room. What is
// held back until they are through must not keep them out.
func (s *LogStream) put(ctx context.Context, it item) error {
	for i := range it.lines {
		it.bytes += len(it.lines[i].text) + lineCost
	}
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || s.bytes+it.bytes <= s.limit/2 {
			s.enqueue(it)
			s.mu.Unlock()
			signal(s.wake)
			return nil
		}
		s.mu.Unlock()
		select {
		case <-s.drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// release lets a source's new lines through after its earlier ones.
func (s *LogStream) release(t *tap) {
	s.mu.Lock()
	for _, it := range s.held[t] {
		s.bytes -= it.bytes
		s.enqueue(it)
	}
	delete(s.held, t)
	s.mu.Unlock()
	signal(s.wake)
}
