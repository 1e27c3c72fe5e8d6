package postgres

import (
	"context"
	"sync"
	"time"
)

// memoFor is how old a count may be when another process has changed what it
// counts, or time has; older only by what counting takes.
const memoFor = time.Second

// outdatedFor is how old a count may be when the work in the background of this
// process has changed what it counts. That work never stops where many clusters
// are watched and tested, and no person follows it by the count: the end of a
// test that somebody waits for counts as a change they make.
const outdatedFor = 100 * time.Millisecond

// recountTime bounds a count that no reader waits for.
const recountTime = 5 * time.Second

// memo keeps a count that many pages show and that takes reading all rows, so
// that its cost does not grow with the number of readers. A change that a person
// makes through the same DB is seen at once. While there are readers, it is
// counted anew for them before they ask: none of them waits for that.
type memo[T any] struct {
	mu       sync.Mutex
	changes  int
	outdated int // how often
	value    T
	valid    bool // nothing has changed here since value was counted
	until    time.Time
	read     bool // since value was counted
	counting bool
	recount  *time.Timer // nil before the first count
	count    func(context.Context) (T, error)
}

// get returns the kept value, or a new one from count. While one reader counts
// anew because the time is up, the others take what there is.
func (m *memo[T]) get(ctx context.Context, count func(context.Context) (T, error)) (T, error) {
	m.mu.Lock()
	m.read, m.count = true, count
	if m.valid && (m.counting || time.Now().Before(m.until)) {
		defer m.mu.Unlock()
		return m.value, nil
	}
	changes, outdated := m.changes, m.outdated
	m.counting = true
	m.mu.Unlock()
	return m.anew(ctx, count, changes, outdated)
}

// again counts anew, if the value has been read, when its time is up.
func (m *memo[T]) again() {
	m.mu.Lock()
	if !m.valid || !m.read || m.counting {
		m.mu.Unlock()
		return
	}
	changes, outdated, count := m.changes, m.outdated, m.count
	m.counting = true
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), recountTime)
	defer cancel()
	_, _ = m.anew(ctx, count, changes, outdated) // whoever reads next is told why it fails
}

func (m *memo[T]) anew(ctx context.Context, count func(context.Context) (T, error), changes, outdated int) (T, error) {
	defer m.counted()
	value, err := count(ctx)
	if err == nil {
		m.keep(value, changes, outdated)
	}
	return value, err
}

func (m *memo[T]) counted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counting = false
}

// keep takes a value that was counted after so many changes of either kind.
// After more of them it may be of before the latest.
func (m *memo[T]) keep(value T, changes, outdated int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changes != changes {
		return
	}
	m.value, m.valid, m.read = value, true, false
	if m.outdated == outdated {
		m.lasts(memoFor)
	} else {
		m.lasts(outdatedFor)
	}
}

// lasts lets the value go after d; m.mu is held.
func (m *memo[T]) lasts(d time.Duration) {
	m.until = time.Now().Add(d)
	if m.recount == nil {
		m.recount = time.AfterFunc(d, m.again)
	} else {
		m.recount.Reset(d)
	}
}

// forget drops the kept value: what it counts has changed.
func (m *memo[T]) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	m.valid = false
}

// outdate lets the kept value go soon: what it counts has changed a little.
func (m *memo[T]) outdate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outdated++
	if m.valid && time.Now().Add(outdatedFor).Before(m.until) {
		m.lasts(outdatedFor)
	}
}
