package registry

import (
	"slices"
	"sync"
	"time"

	"portolan/internal/fleet"
)

// progress stores how a test stands, every so often and beside the test, whose time
// is none of the database's.
type progress struct {
	save  func(fleet.ConnectionTest)
	every time.Duration

	mu      sync.Mutex
	ended   bool
	pending bool
	latest  fleet.ConnectionTest
	timer   *time.Timer // runs while latest is pending
	writing sync.Mutex  // one write at a time, so that none overtakes another
}

func (p *progress) report(t fleet.ConnectionTest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pending {
		p.pending = true
		p.timer = time.AfterFunc(p.every, p.flush)
	}
	// The tester goes on with its own checks; the permissions come whole and stay
	// as they are.
	t.Checks = append(p.latest.Checks[:0], t.Checks...)
	p.latest = t
}

func (p *progress) flush() {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	pending := p.pending && !p.ended
	p.pending = false
	t := p.latest
	t.Checks = slices.Clone(t.Checks)
	p.mu.Unlock()
	if pending {
		p.save(t)
	}
}

// end forgets what is pending and waits for the write that is under way.
func (p *progress) end() {
	p.mu.Lock()
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.writing.Lock()
	defer p.writing.Unlock()
}
