package registry

import (
	"errors"
	"sync"
)

// errNoSlot says that as many tests run as this process may run at a time.
var errNoSlot = errors.New("registry: no room for another test now")

// slots bound the tests that run at a time. Those that begin by themselves
// leave a quarter free for those that a person waits for.
type slots struct {
	all, unwatched int
	freed          chan struct{} // holds a token after one was freed

	mu    sync.Mutex
	taken int
}

func newSlots(n int) *slots {
	return &slots{all: n, unwatched: max(1, n-max(1, n/4)), freed: make(chan struct{}, 1)}
}

// take reports whether there was one free.
func (s *slots) take(watched bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || !watched && s.taken >= s.unwatched {
		return false
	}
	s.taken++
	return true
}

func (s *slots) free() {
	s.mu.Lock()
	s.taken--
	s.mu.Unlock()
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// left is how many tests may begin by themselves now.
func (s *slots) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, s.unwatched-s.taken)
}
