package registry_test

import (
	"fmt"
	"testing"

	"portolan/internal/fleet"
	"portolan/internal/registry"
)

func TestNoMoreTestsRunThanMay(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *registry.Options) { o.MaxTests = 4 })
	for i := range 8 {
		b.register(fmt.Sprintf("c%d", i))
		b.must(b.StartTest(t.Context(), admin, fmt.Sprintf("c%d", i)))
	}
	for range 4 {
		b.begun()
	}
	b.poll()
	for left := 8; left > 0; left-- {
		running := 0
		all, err := b.db.AllClusters(t.Context())
		b.must(err)
		for _, s := range all {
			if s.Running {
				running++
			}
		}
		if running > 4 {
			t.Fatalf("%d tests run", running)
		}
		b.tester.end <- fleet.TestOK
	}
	b.until("all are targets", func() bool {
		all, err := b.db.AllClusters(t.Context())
		b.must(err)
		for _, s := range all {
			if !s.IsTarget() {
				return false
			}
		}
		return true
	})
}
