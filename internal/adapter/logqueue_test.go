package adapter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// What the feeds bring meanwhile is held back until the earlier lines are
// through: it must not take the room that those wait for.
func TestHeldLinesDoNotKeepEarlierOnesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		feed := &tap{}
		src := &source{pod: "web-0"}
		s := &LogStream{
			limit: 1000, held: map[*tap][]item{feed: nil}, at: position{}, ended: map[string]bool{},
			wake: make(chan struct{}, 1), drained: make(chan struct{}, 1),
		}
		s.offer(feed, item{source: src, lines: []line{{text: "new"}}, bytes: 600})
		for range 2 {
			ctx, end := context.WithTimeout(t.Context(), time.Minute)
			defer end()
			if err := s.put(ctx, item{source: src, lines: []line{{text: "earlier"}}}); err != nil {
				t.Fatalf("earlier lines have no room: %v", err)
			}
			if b, ok, err := s.take(); !ok || err != nil || len(b.Lines) != 1 || b.Lines[0].Text != "earlier" {
				t.Fatalf("%+v %v %v", b, ok, err)
			}
		}
	})
}
