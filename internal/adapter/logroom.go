package adapter

import "sync"

// room is memory that the viewers of logs share, in bytes. Anybody who may read
// logs can open many of them and read none to its end: each further viewer gets
// less, so that all together take little more than there is.
type room struct {
	mu   sync.Mutex
	left int
}

// take returns how much of the room one viewer may use: most, or an eighth of
// what is left if that is less, and a sixteenth of most in any case.
func (r *room) take(most int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	share := max(min(most, r.left/8), most/16)
	r.left -= share
	return share
}

// give returns what was taken.
func (r *room) give(share int) {
	r.mu.Lock()
	r.left += share
	r.mu.Unlock()
}
