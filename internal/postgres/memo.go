package postgres

import (
	"sync"
	"time"
)

// memoFor is how old a count may be when another process has changed what it
// counts, or time has.
const memoFor = time.Second

// memo keeps a count that many pages show and that takes reading all rows, so
// that its cost does not grow with the number of readers. A change made through
// the same DB is seen at once.
type memo[T any] struct {
	mu      sync.Mutex
	changes int
	value   T
	until   time.Time
}

// get returns the kept value, or a new one from count.
func (m *memo[T]) get(count func() (T, error)) (T, error) {
	m.mu.Lock()
	changes, value, fresh := m.changes, m.value, time.Now().Before(m.until)
	m.mu.Unlock()
	if fresh {
		return value, nil
	}
	value, err := count()
	if err != nil {
		return value, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changes == changes { // else it may have been counted before the change
		m.value, m.until = value, time.Now().Add(memoFor)
	}
	return value, nil
}

// forget drops the kept value: what it counts has changed.
func (m *memo[T]) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	m.until = time.Time{}
}
