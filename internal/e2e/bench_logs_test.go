package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// benchLogs compares how fast the lines of a pod that prints flat out come
// through the log stream to an HTTP reader, and through “kubectl logs -f”.
//
// Both begin at the log's end, both are timed from the asking to the last
// line, and every line must have come, in order. The node rotates a log of more
// than 10 MiB every ten seconds, and its kubelet may then lose the end of the
// old file, or go on waiting for it; no reader behind it can know. A round that
// met with that is counted and done again.
func benchLogs(b *testing.B, x *bench) {
	const warmUps, rounds, tries, lines = 1, 5, 14, 300_000
	pl := x.portolan(b).settle(b, real, nil)
	w := pl.deploy(b, quiet.but(fields{"cpu": ""})) // or its printing would be what is measured
	pod := w.listens(b)[0]
	alternative := newKubectl(b, pl)
	buf := make([]byte, 128<<20)

	burst := func(open func() io.ReadCloser) (rate float64, lost int, told bool) {
		in := &tailing{from: open(), buf: buf[:0]}
		defer in.from.Close()
		if !in.catchUp(b, func() { _ = w.ask(b, pod, "/print?lines=3") }, "line 3 of 3:") {
			return 0, lines, false
		}
		in.buf = in.buf[:0]
		begun := time.Now()
		asked := make(chan error, 1)
		go func() {
			err := w.ask(b, pod, fmt.Sprintf("/print?lines=%d", lines))
			if err != nil {
				_ = in.from.Close() // nothing will come
			}
			asked <- err
		}()
		in.until(b, fmt.Sprintf("line %d of %d:", lines, lines))
		took := time.Since(begun)
		if err := <-asked; err != nil {
			b.Fatal(err)
		}
		return lines / took.Seconds(), lines - inOrder(b, in.buf, lines), bytes.Contains(in.buf, []byte("<div data-gap"))
	}
	ours := func() io.ReadCloser {
		r, err := http.NewRequest(http.MethodGet, w.base+w.path("/logs/stream?tail=0&pod="+pod), nil)
		if err != nil {
			b.Fatal(err)
		}
		answer, err := w.http.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		if answer.StatusCode != http.StatusOK {
			b.Fatalf("the log stream: %d", answer.StatusCode)
		}
		return answer.Body
	}
	theirs := func() io.ReadCloser {
		cmd := alternative.command("logs", "--follow", "--tail=0", pod)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			b.Fatal(err)
		}
		return &processOutput{out, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }}
	}

	type side struct {
		open  func() io.ReadCloser
		rates []float64
		lossy int // rounds in which lines were lost
		told  int // how many of those said so
	}
	sides := []*side{{open: ours}, {open: theirs}}
	for i := range tries {
		for _, s := range sides {
			if len(s.rates) >= warmUps+rounds {
				continue
			}
			rate, lost, told := burst(s.open)
			if lost > 0 {
				s.lossy++
				if told {
					s.told++
				}
				continue
			}
			s.rates = append(s.rates, rate)
		}
		if i == tries-1 && min(len(sides[0].rates), len(sides[1].rates)) <= warmUps {
			b.Fatalf("lines were lost in %d rounds of ours and %d of kubectl's", sides[0].lossy, sides[1].lossy)
		}
	}
	mine, other := median(sides[0].rates[warmUps:]), median(sides[1].rates[warmUps:])
	ratio := mine / other
	x.report(b, line{
		what: "log lines a second to an HTTP reader ÷ kubectl logs -f",
		measured: fmt.Sprintf("%.0f; kubectl %.0f; %d lines each, complete and in order (besides, rounds with lost lines: %d, of which told %d; kubectl %d, %d)",
			mine, other, lines, sides[0].lossy, sides[0].told, sides[1].lossy, sides[1].told),
		result: fmt.Sprintf("%.2f", ratio), aim: "≥ 1.0", met: ratio >= 1,
	}, map[string]float64{"lines/s": mine, "kubectl-lines/s": other, "lines/kubectl": ratio})
}

// processOutput is what a process prints; to close it ends the process.
type processOutput struct {
	io.Reader
	end func()
}

func (p *processOutput) Close() error { p.end(); return nil }

// tailing reads into a buffer that is big enough, so that nothing but the
// reading is timed.
type tailing struct {
	from io.ReadCloser
	buf  []byte
}

// until reads up to the line that contains last; false means that it does not
// come.
func (t *tailing) until(b *testing.B, last string) bool {
	b.Helper()
	timeout := time.AfterFunc(patience/2, func() { _ = t.from.Close() })
	defer timeout.Stop()
	looked := 0
	for {
		n, err := t.from.Read(t.buf[len(t.buf):cap(t.buf)])
		t.buf = t.buf[:len(t.buf)+n]
		if bytes.Contains(t.buf[max(0, looked-len(last)):], []byte(last)) {
			return true
		}
		looked = len(t.buf)
		switch {
		case len(t.buf) == cap(t.buf):
			b.Fatalf("no %q in %d bytes", last, len(t.buf))
		case err != nil:
			b.Logf("no %q: %v after %d bytes", last, err, len(t.buf))
			return false
		}
	}
}

// catchUp has a line printed, again and again, until it comes: then the reader
// follows the log.
func (t *tailing) catchUp(b *testing.B, print func(), mark string) bool {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	var printing sync.WaitGroup
	printing.Go(func() {
		ticker := time.NewTicker(4 * pollEvery)
		defer ticker.Stop()
		for ctx.Err() == nil {
			print()
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
	defer printing.Wait()
	defer stop()
	return t.until(b, mark)
}

var lineWord = []byte("line ")

// inOrder counts the numbered lines "line 1 of <lines>:" and so on in text, and
// fails the test when one comes twice or before its turn.
func inOrder(b *testing.B, text []byte, lines int) (found int) {
	b.Helper()
	after := fmt.Appendf(nil, " of %d:", lines)
	last := 0
	for {
		i := bytes.Index(text, lineWord)
		if i < 0 {
			return found
		}
		text = text[i+len(lineWord):]
		digits := bytes.IndexByte(text, ' ')
		if digits < 0 || !bytes.HasPrefix(text[digits:], after) {
			continue
		}
		n, err := strconv.Atoi(string(text[:digits]))
		if err != nil || n <= last || n > lines {
			b.Fatal(errors.Join(fmt.Errorf("line %q follows line %d", text[:digits], last), err))
		}
		last = n
		found++
	}
}
