package adapter

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// A log is read in blocks of lines that are never changed afterwards, so that
// any number of viewers can share them without copies.

// mark is the place of a line in its container's log: its time in nanoseconds,
// and which of the lines of that time it is, from 1.
type mark struct {
	at int64
	n  int32
}

// line is one line of a block.
type line struct {
	mark
	text string // shares the block's memory
}

// block is some lines as they came, oldest first.
type block struct {
	lines []line
	bytes int
}

// maxLine bounds a line; what is longer is cut, and says so.
const (
	maxLine = 64 << 10
	cutMark = " … (cut: the line is longer than 64 KiB)"
)

// lineReader turns what the API server sends, each line with a timestamp
// before it, into blocks.
type lineReader struct {
	buf      []byte
	cutting  bool // within a line that is too long
	last     mark
	second   [19]byte // the last "2006-01-02T15:04:05" seen …
	seconds  int64    // … and its time
	hasStamp bool
}

func newLineReader() *lineReader { return &lineReader{buf: make([]byte, 0, 16<<10)} }

// room returns where to read to next.
func (r *lineReader) room() []byte {
	if len(r.buf) == cap(r.buf) {
		r.grow()
	}
	return r.buf[len(r.buf):cap(r.buf)]
}

// grow makes room for twice as much at a time, up to where take cuts.
func (r *lineReader) grow() {
	if cap(r.buf) < 2*maxLine {
		r.buf = append(make([]byte, 0, 2*cap(r.buf)), r.buf...)
	}
}

// take takes in the n bytes that were read into room, and returns the lines
// that are complete.
func (r *lineReader) take(n int) block {
	r.buf = r.buf[:len(r.buf)+n]
	busy := len(r.buf) == cap(r.buf)
	end := bytes.LastIndexByte(r.buf, '\n') + 1
	if end == 0 && len(r.buf) <= maxLine {
		return block{}
	}
	var own []byte
	if end == 0 { // one line that is too long
		own = append(append(slices.Clip(slices.Clone(r.buf[:maxLine])), cutMark...), '\n')
		r.buf = r.buf[:0]
		if r.cutting {
			return block{}
		}
		r.cutting = true
		return r.split(own)
	}
	begin := 0
	if r.cutting {
		begin = bytes.IndexByte(r.buf, '\n') + 1
		r.cutting = false
	}
	own = slices.Clone(r.buf[begin:end])
	r.buf = r.buf[:copy(r.buf, r.buf[end:])]
	if busy {
		r.grow()
	}
	return r.split(own)
}

// rest returns what was sent without a line break at the end of a log: a line,
// or, where it has no time before it, something else.
func (r *lineReader) rest() (line block, other string) {
	if len(r.buf) == 0 || r.cutting {
		return block{}, ""
	}
	text := r.buf
	r.buf = r.buf[:0]
	if _, stamp := r.stamp(text); stamp == 0 {
		return block{}, string(text)
	}
	return r.split(append(slices.Clone(text), '\n')), ""
}

func (r *lineReader) split(own []byte) block {
	b := block{lines: make([]line, 0, max(4, len(own)/96)), bytes: len(own)}
	for len(own) > 0 {
		end := bytes.IndexByte(own, '\n')
		text := own[:end]
		own = own[end+1:]
		at, stamp := r.stamp(text)
		if stamp == 0 {
			at = r.last.at // what has no time of its own belongs to what came before
		} else {
			text = text[stamp:]
		}
		if n := len(text); n > 0 && text[n-1] == '\r' {
			text = text[:n-1]
		}
		if at == r.last.at {
			r.last.n++
		} else {
			r.last = mark{at, 1}
		}
		b.lines = append(b.lines, line{r.last, unsafe.String(unsafe.SliceData(text), len(text))})
	}
	return b
}

// stamp reads the RFC 3339 time before a line, and how many bytes it takes with
// the space after it; 0 when there is none.
func (r *lineReader) stamp(text []byte) (at int64, length int) {
	space := bytes.IndexByte(text[:min(len(text), 40)], ' ')
	if space < 0 && len(text) >= 20 && len(text) < 40 {
		space = len(text) // an empty line
	}
	if space < 20 {
		return 0, 0
	}
	if text[space-1] == 'Z' && (text[19] == '.' || text[19] == 'Z') {
		if !r.hasStamp || string(text[:19]) != string(r.second[:]) {
			t, err := time.Parse("2006-01-02T15:04:05", string(text[:19]))
			if err != nil {
				return 0, 0
			}
			copy(r.second[:], text[:19])
			r.seconds, r.hasStamp = t.Unix(), true
		}
		nanos, digits := int64(0), 0
		for _, c := range text[min(20, space):max(20, space-1)] {
			if c < '0' || c > '9' || digits == 9 {
				return 0, 0
			}
			nanos = nanos*10 + int64(c-'0')
			digits++
		}
		for ; digits < 9; digits++ {
			nanos *= 10
		}
		return r.seconds*1e9 + nanos, min(space+1, len(text))
	}
	t, err := time.Parse(time.RFC3339Nano, string(text[:space]))
	if err != nil {
		return 0, 0
	}
	return t.UnixNano(), min(space+1, len(text))
}

// disorder is how far the times of neighbouring lines may be out of order:
// standard output and error are stamped apart.
const disorder = int64(5 * time.Millisecond)

// skipper drops from a log that is read again the lines up to a mark.
type skipper struct {
	after mark
	state skipState
	held  []line // after the mark by time, while the mark itself may still come
	bytes int    // of those
}

// maxHeld bounds what is held back while a mark may still come: more than any
// container prints within the time of disorder, in bytes.
const maxHeld = 4 << 20

type skipState int

const (
	skipping skipState = iota
	skipFound
	skipMissed // the line of the mark is not in the log any more
)

// pass returns the lines after the mark.
func (s *skipper) pass(lines []line) []line {
	if s.after == (mark{}) {
		s.state = skipFound
	}
	for i, l := range lines {
		if s.state != skipping {
			return append(s.release(), lines[i:]...)
		}
		switch {
		case l.mark == s.after:
			s.state, s.held = skipFound, nil
		case l.at > s.after.at+disorder, s.bytes > maxHeld:
			s.state = skipMissed
			return append(s.release(), lines[i:]...)
		case l.at > s.after.at:
			s.held = append(s.held, l)
			s.bytes += len(l.text) + lineCost
		}
	}
	return nil
}

// end returns what was held back, once no more lines come.
func (s *skipper) end() []line {
	if s.state == skipping {
		s.state = skipMissed
	}
	return s.release()
}

func (s *skipper) release() []line {
	held := s.held
	s.held = nil
	return held
}

// position is how far a reader has come in each of several logs.
type position map[string]mark // by logKey

// logKey names the log of one container of one pod, in few letters.
func logKey(podUID, container string) string {
	h := fnv.New32a()
	h.Write([]byte(podUID))
	h.Write([]byte{'/'})
	h.Write([]byte(container))
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// String is the position in the letters a-z, 0-9, "-", "." and ",".
func (p position) String() string {
	keys := make([]string, 0, len(p))
	for k := range p {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	buf := make([]byte, 0, 32*len(p))
	for _, k := range keys {
		if len(buf) > 0 {
			buf = append(buf, ',')
		}
		buf = append(append(buf, k...), '-')
		buf = strconv.AppendInt(buf, p[k].at, 36)
		if p[k].n > 1 {
			buf = strconv.AppendInt(append(buf, '.'), int64(p[k].n), 36)
		}
	}
	return string(buf)
}

// parsePosition reads what String wrote; of anything else it takes what makes
// sense, as it comes from outside.
func parsePosition(text string) position {
	p := position{}
	for part := range strings.SplitSeq(text, ",") {
		key, rest, ok := strings.Cut(part, "-")
		at, n, counted := strings.Cut(rest, ".")
		m := mark{n: 1}
		var err error
		if m.at, err = strconv.ParseInt(at, 36, 64); !ok || err != nil || m.at <= 0 || key == "" || len(key) > 8 {
			continue
		}
		if counted {
			count, err := strconv.ParseInt(n, 36, 32)
			if err != nil || count < 1 {
				continue
			}
			m.n = int32(count)
		}
		p[key] = m
	}
	return p
}

// trim forgets the logs that ended longest ago when there are very many, so
// that the position stays short enough to be sent along.
func (p position) trim() {
	for len(p) > 2*maxSources {
		oldest := ""
		for k, m := range p {
			if oldest == "" || m.at < p[oldest].at {
				oldest = k
			}
		}
		delete(p, oldest)
	}
}

// newest is the latest time in the position; 0 when it is empty.
func (p position) newest() (at int64) {
	for _, m := range p {
		at = max(at, m.at)
	}
	return at
}

// before orders lines of several logs by time.
func before(a, b line) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.n, b.n)) }
