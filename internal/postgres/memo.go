package postgres

import (
	"sync"
	"time"
)

// memoFor is how old a count may be when another process has changed what it
// counts, or time has; older only by what counting takes.
const memoFor = time.Second

// memo keeps a count that many pages show and that takes reading all rows, so
// that its cost does not grow with the number of readers. A change made through
// the same DB is seen at once.
type memo[T any] struct {
	mu       sync.Mutex
	changes  int
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
	changes := m.changes
	m.counting = true
	m.mu.Unlock()
	defer m.counted()
	value, err := count()
	if err == nil {
		m.keep(value, changes)
	}
	return value, err
}

func (m *memo[T]) counted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counting = false
}

// keep takes a value that was counted after so many changes. After more of
// them it may be of before the latest.
func (m *memo[T]) keep(value T, changes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changes == changes {
		m.value, m.valid, m.until = value, true, time.Now().Add(memoFor)
	}
}

// forget drops the kept value: what it counts has changed.
func (m *memo[T]) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	m.valid = false
}
