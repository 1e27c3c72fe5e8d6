package web

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
)

const (
	// logGather is how long lines of a busy log are gathered before they are
	// sent, logChunk how many bytes of them at most. The first lines after a
	// silence are sent at once.
	logGather = 25 * time.Millisecond
	logChunk  = 64 << 10
	// maxPosition bounds what a reader who comes back may say of where it was.
	maxPosition = 8 << 10
	// logBeginning is the id of what is said before the first line.
	logBeginning = "beginning"
)

// streamLogs sends the lines of a log as they come. The lines are escaped into
// the buffer that is written: a template for each would cost more than all else.
func (s *Server) streamLogs(w http.ResponseWriter, r *http.Request) error {
	choice, since, err := readLogChoice(r)
	if err != nil {
		return err
	}
	state, err := s.Reads.Workload(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	if err := s.reachableForLogs(r.Context(), state); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	after := r.Header.Get("Last-Event-ID")
	if len(after) > maxPosition || after == logBeginning {
		after = ""
	}
	log, err := s.Logs.OpenLog(ctx, fleet.LogQuery{
		Workload: state.Workload, Pod: choice.pod, Container: choice.container, Tail: choice.tail, Previous: choice.previous,
		Since: since, After: after,
	})
	if err != nil {
		return err
	}
	defer log.Close()
	out, err := openStream(w, s.Patience)
	if err != nil {
		return nil // the reader has gone
	}
	defer out.end()
	begin := cmp.Or(after, logBeginning)
	lines := &logWriter{out: out, merged: choice.pod == "", last: begin, sent: begin}
	if lines.pods = podNames(state.Observation); after != "" { // the page is older than that
		lines.tellPods()
	}
	return s.copyLog(ctx, r, lines, log)
}

type readBatch struct {
	batch fleet.LogBatch
	err   error
}

// copyLog sends batches until the log or the right to read it ends.
func (s *Server) copyLog(ctx context.Context, r *http.Request, out *logWriter, log LogStream) error {
	batches := make(chan readBatch)
	go func() {
		for {
			batch, err := log.Next(ctx)
			select {
			case batches <- readBatch{batch, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()

	recheck, ping, later := time.NewTicker(s.Recheck), time.NewTicker(s.Ping), time.NewTimer(time.Hour)
	defer recheck.Stop()
	defer ping.Stop()
	defer later.Stop()
	mayRead := func() error {
		recheck.Reset(s.Recheck)
		return s.mayReadLog(r, out)
	}
	flush := func() error {
		// A busy log always has the next lines ready, and a slow reader takes
		// long for each: nothing more is sent on an old answer.
		if s.due(r) {
			if err := mayRead(); err != nil {
				return err
			}
		}
		ping.Reset(s.Ping)
		return out.flush()
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case read := <-batches:
			s.metrics.logLines.Add(float64(len(read.batch.Lines)))
			out.add(read.batch)
			switch wait := logGather - time.Since(out.flushed); {
			case read.err != nil:
				if err = flush(); err == nil {
					err = read.err
				}
			case wait <= 0 || len(out.out.buf) >= logChunk:
				err = flush()
			default:
				later.Reset(wait)
			}
		case <-later.C:
			err = flush()
		case <-recheck.C:
			if err = mayRead(); err == nil && len(out.out.buf) > 0 {
				err = flush()
			}
		case <-ping.C:
			out.out.ping()
			err = flush()
		}
		if err != nil {
			return s.endLog(ctx, out, err)
		}
	}
}

// mayReadLog asks again for the person and for the workload, and adds the pods
// that it has now when they have changed, and whether its cluster answers.
func (s *Server) mayReadLog(r *http.Request, out *logWriter) error {
	if err := s.mayRead(r); err != nil {
		return err
	}
	state, err := s.Reads.Workload(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return gone(err)
	}
	if now := podNames(state.Observation); !slices.Equal(now, out.pods) {
		out.pods = now
		out.tellPods()
	}
	if away := state.Observation != nil && state.Observation.Age(time.Now()) > fleet.UnknownAfter; away != out.away {
		out.away = away
		out.tellCluster()
	}
	return nil
}

// podNames are the pods that were last seen.
func podNames(o *fleet.Observation) []string {
	if o == nil {
		return nil
	}
	var out []string
	for i := range o.Pods {
		out = append(out, o.Pods[i].Name)
	}
	return out
}

// endLog tells the reader why no more lines come. Other errors break the stream
// off, and the reader comes back.
func (s *Server) endLog(ctx context.Context, out *logWriter, err error) error {
	var ended errEnded
	var shown *fleet.Error
	switch {
	case ctx.Err() != nil || errors.Is(err, errReaderGone):
		return nil
	case errors.Is(err, io.EOF):
		out.out.message(out.last, "done", []byte("The log has ended."))
	case errors.As(err, &ended):
		out.drop()
		out.out.message(out.last, "done", []byte(string(ended)))
	case errors.As(err, &shown):
		out.out.message(out.last, "done", []byte(join(" ", shown.Message, shown.Remedy)))
	default:
		return err
	}
	_ = out.out.flush()
	return nil
}

// logWriter turns batches into messages.
type logWriter struct {
	out     *eventStream
	merged  bool   // lines of several pods: each says which
	last    string // position of the last line that was added
	sent    string // of the last that was sent
	flushed time.Time
	pods    []string // that can be chosen, as last seen
	away    bool     // the cluster has not answered for so long that the workload is unknown
}

// tellPods adds a message of the pods. While there is none, the page offers those
// that it knows.
func (l *logWriter) tellPods() {
	if len(l.pods) > 0 {
		l.out.message(l.last, "pods", []byte(strings.Join(l.pods, " ")))
	}
}

// tellCluster adds a message of whether the cluster answers: a log without lines
// looks the same either way.
func (l *logWriter) tellCluster() {
	word := "answers"
	if l.away {
		word = "away"
	}
	l.out.message(l.last, "cluster", []byte(word))
}

// errReaderGone says that nobody takes what is sent.
var errReaderGone = errors.New("the reader has gone")

// flush sends what was added.
func (l *logWriter) flush() error {
	l.flushed, l.sent = time.Now(), l.last
	if l.out.flush() != nil {
		return errReaderGone
	}
	return nil
}

// drop forgets what was added and not sent.
func (l *logWriter) drop() { l.out.buf, l.last = l.out.buf[:0], l.sent }

// add puts a batch into the buffer, as one message with the position of its
// last line.
func (l *logWriter) add(b fleet.LogBatch) {
	if n := len(b.Lines); n > 0 && b.Lines[n-1].Position != "" {
		l.last = b.Lines[n-1].Position
	}
	if b.Note != "" {
		l.out.message(l.last, "notice", []byte(b.Note))
	}
	gap := b.Gap
	if gap == "" && b.Missed > 0 {
		gap = strconv.Itoa(b.Missed) + " lines are left out here: they came faster than this page took them."
	}
	if gap == "" && len(b.Lines) == 0 {
		return
	}
	buf := append(append(l.out.buf, "id: "...), l.last...)
	buf = append(buf, "\ndata: "...)
	if gap != "" {
		buf = views.AppendLogGap(buf, b.Missed, gap)
	}
	for i := range b.Lines {
		line := &b.Lines[i]
		pod := ""
		if l.merged {
			pod = podSuffix(line.Pod)
		}
		buf = views.AppendLogLine(buf, line.At, pod, line.Text)
	}
	l.out.buf = append(buf, "\n\n"...)
}

// podSuffix is the part of a pod's name that tells it from its siblings.
func podSuffix(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }
