package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"portolan/internal/kube/live"
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

// Pods for which there is no more room are not left out in silence, nor told of
// one by one.
func TestThatMorePodsStartThanAreShownIsSaidOnce(t *testing.T) {
	t.Parallel()
	s := &LogStream{
		limit: 1000, at: position{}, held: map[*tap][]item{}, taps: map[string]*tap{}, ended: map[string]bool{},
		wake: make(chan struct{}, 1), drained: make(chan struct{}, 1),
	}
	for i := range maxSources {
		s.taps[logKey(fmt.Sprint("uid-", i), "main")] = &tap{}
	}
	for _, name := range []string{"web-a", "web-b"} {
		p := &live.Pod{}
		if err := json.Unmarshal([]byte(`{"metadata": {"name": "`+name+`", "uid": "`+name+`"}, "spec": {"containers": [{"name": "main"}]},
			"status": {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}}`), p); err != nil {
			t.Fatal(err)
		}
		s.joinLater(t.Context(), p)
		s.running.Wait()
	}
	if b, ok, err := s.take(); !ok || err != nil || !strings.HasPrefix(b.Gap, "Pod web-a has started as well.") {
		t.Errorf("%+v %v %v", b, ok, err)
	}
	if b, ok, _ := s.take(); ok {
		t.Errorf("it is said again: %+v", b)
	}
}
