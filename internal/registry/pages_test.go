package registry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackgroundWorkLetsPagesGoFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pages
		took := func(ctx context.Context) time.Duration {
			begun := time.Now()
			p.pass(ctx)
			return time.Since(begun)
		}
		if d := took(t.Context()); d != 0 {
			t.Errorf("without a page it waits %s", d)
		}
		one, two := p.begin(), p.begin()
		time.AfterFunc(time.Millisecond, one)
		time.AfterFunc(3*time.Millisecond, two)
		if d := took(t.Context()); d != 3*time.Millisecond {
			t.Errorf("it waits %s for two pages, want until the last has ended", d)
		}
		if d := took(t.Context()); d != 0 {
			t.Errorf("after the pages it waits %s", d)
		}
		defer p.begin()()
		if d := took(t.Context()); d != yieldFor {
			t.Errorf("it waits %s for a page that takes long, want %s", d, yieldFor)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if d := took(ended); d != 0 {
			t.Errorf("it waits %s when it is to end", d)
		}
	})
}
