package adapter

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A node keeps a container's log in a file that it renames when it has grown
// large (containerLogMaxSize, 10 MiB by default), and shows only the newest.
// Who follows the log is moved to the new file by the node, which can go wrong
// without a word: lines that were not read yet stay behind, the line in the
// middle of which it happened is cut, and a reader that comes to the end of the
// old file only after the renaming waits there for lines that go elsewhere
// (ReadLogs in k8s.io/cri-client/pkg/logs begins to watch for a new file when it
// first reaches the end of one). The time of the newest file's first line tells
// of all three.

// errLeftBehind ends a follow that waits at the end of a file that is not
// written to any more.
var errLeftBehind = errors.New("the log was rotated and the node sends nothing of its new file")

// rotationGrace is how long lines that are there may take to arrive.
const rotationGrace = 2 * time.Second

// rotationGap says what cannot be known better.
const rotationGap = "Lines may be missing here: the node has rotated this log."

// begins returns when the first line of the log's newest file was printed, in
// nanoseconds; 0 while it has none.
func (s *source) begins(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	first, stamp := int64(0), int64(64) // bytes, enough for the time before a line
	err := s.read(ctx, corev1.PodLogOptions{LimitBytes: &stamp}, func(b block) error {
		if first == 0 {
			first = b.lines[0].at
		}
		return nil
	})
	return first, err
}

// receive notes what has come of the log.
func (f *feed) receive(b block) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.received += int64(b.bytes)
	for i := range b.lines {
		f.newest = max(f.newest, b.lines[i].at)
	}
}

// watchRotation looks every now and then, while a log is followed, whether its
// node has rotated it. It tells the viewers when lines may have been lost by
// that, and calls leave when the follow was left behind.
func (f *feed) watchRotation(ctx context.Context, leave func()) {
	tick := time.NewTicker(f.opts.LogRotationInterval)
	defer tick.Stop()
	for {
		if f.leftBehind(ctx) {
			leave()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leftBehind tells the viewers of a rotation that has passed, and reports
// whether lines wait in a new file while none arrive.
func (f *feed) leftBehind(ctx context.Context) bool {
	begins, err := f.source.begins(ctx)
	if err != nil {
		return false // following the log will show what the matter is
	}
	if begins == 0 {
		f.noteEmptied(ctx)
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.newest == 0 || f.looking {
		return false
	}
	for f.newest < begins {
		if f.idle(ctx) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	if f.begins != 0 && f.begins != begins && f.gapAt < begins {
		f.tell(item{source: &f.source, gap: fmt.Sprintf(
			"Lines may be missing about %s: the node has rotated this log.", time.Unix(0, begins).UTC().Format(time.RFC3339))})
		f.gapAt = f.newest
	}
	f.begins = begins
	return false
}

// idle waits for the time in which lines would arrive, and reports whether none
// did; f.mu is held before and after.
func (f *feed) idle(ctx context.Context) bool {
	received := f.received
	f.mu.Unlock()
	select {
	case <-time.After(rotationGrace):
	case <-ctx.Done():
	}
	f.mu.Lock()
	return received == f.received && !f.looking && ctx.Err() == nil
}

// noteEmptied tells the viewers that a log which had lines has none now, once:
// the next line may be long in coming.
func (f *feed) noteEmptied(ctx context.Context) {
	f.mu.Lock()
	received, restarts := f.received, f.restarts
	quiet := received != 0 && f.gapAt <= f.newest && f.idle(ctx)
	f.mu.Unlock()
	if !quiet {
		return
	}
	state, err := f.inspect(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	// Another run of the container has a log of its own.
	sameRun := err == nil && state.running && state.restarts == restarts
	if !sameRun || received != f.received {
		return
	}
	f.tell(item{source: &f.source, gap: rotationGap})
	f.gapAt, f.begins = f.newest+1, 0
}

// toldSince reports whether viewers know of a gap right after m.
func (f *feed) toldSince(m mark) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gapAt > m.at
}
