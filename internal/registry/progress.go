package registry

import (
	"sync"
	"time"

	"portolan/internal/fleet"
)

// progress stores how a test stands, not more often than every so often; 0 =
// each time that it is told.
type progress struct {
	save  func(fleet.ConnectionTest)
	every time.Duration

	mu      sync.Mutex
	ended   bool
	pending *fleet.ConnectionTest
	timer   *time.Timer // runs while something is pending
	writing sync.Mutex  // one write at a time, so that none overtakes another
}

func (p *progress) report(t fleet.ConnectionTest) {
	if p.every == 0 {
		p.save(t)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending == nil {
		p.timer = time.AfterFunc(p.every, p.flush)
	}
	p.pending = &t
}

func (p *progress) flush() {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	t := p.pending
	p.pending = nil
	ended := p.ended
	p.mu.Unlock()
	if t != nil && !ended {
		p.save(*t)
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
