package postgres

import (
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

// memo keeps a count that many pages show and that takes reading all rows, so
// that its cost does not grow with the number of readers. A change that a person
// makes through the same DB is seen at once.
type memo[T any] struct {
	mu       sync.Mutex
	changes  int
	outdated int // how often
	value    T
	valid    bool // nothing has changed here since value was counted
	until    time.Time
	counting bool
}

// get returns the kept value, or a new one from count. While one reader counts
// anew because the time is up, the others take what there is.
func (m *memo[T]) get(count func() (T, error)) (T, error) {
	m.mu.Lock()
	if m.valid && (m.counting || time.Now().Before(m.until)) {
		defer m.mu.Unlock()
		return m.value, nil
	}
	changes, outdated := m.changes, m.outdated
	m.counting = true
	m.mu.Unlock()
	defer m.counted()
	value, err := count()
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
	m.value, m.valid, m.until = value, true, time.Now().Add(memoFor)
	if m.outdated != outdated {
		m.until = time.Now().Add(outdatedFor)
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
	if end := time.Now().Add(outdatedFor); end.Before(m.until) {
		m.until = end
	}
}
