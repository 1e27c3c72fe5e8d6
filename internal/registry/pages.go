package registry

import (
	"context"
	"sync"
	"time"
)

// yieldFor is how long work that nobody waits for lets pages go first, each
// time. A page takes a few milliseconds; and however many are asked for, a test
// with its dozen stages is held up by a fraction of a second.
const yieldFor = 10 * time.Millisecond

// pages knows whether people wait for a page of this process, so that work in
// the background, which wants the same processors and the same database, can let
// them go first. The zero value is ready.
type pages struct {
	mu     sync.Mutex
	served int
	none   chan struct{} // closed when served is 0 again
}

// begin counts a page until end is called.
func (p *pages) begin() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.served++; p.served == 1 {
		p.none = make(chan struct{})
	}
	return p.end
}

func (p *pages) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.served--; p.served == 0 {
		close(p.none)
	}
}

// pass returns when no page is being served, after yieldFor, or when ctx ends.
func (p *pages) pass(ctx context.Context) {
	p.mu.Lock()
	served, none := p.served, p.none
	p.mu.Unlock()
	if served == 0 {
		return
	}
	select {
	case <-none:
	case <-time.After(yieldFor):
	case <-ctx.Done():
	}
}

// ServePage tells the registry that somebody waits for a page, until end is
// called: tests that begin by themselves let it go first.
func (r *Registry) ServePage() (end func()) { return r.pages.begin() }
