package observe

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"portolan/internal/fleet"
)

// silent is a database that has vanished without a word.
type silent struct{ Store }

func (silent) Lease(ctx context.Context, _ string, _ time.Duration) ([]fleet.Assignment, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silent) MarkAlive(ctx context.Context, _, _, _ string, _ time.Time) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestASilentDatabaseHoldsNothingUpForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := New(silent{}, nil, Options{})
		begun := time.Now()
		if _, err := o.lease(t.Context()); err == nil || time.Since(begun) >= o.opts.LeaseTime {
			t.Errorf("leases are waited for %s: %v", time.Since(begun), err)
		}
		err := o.store.MarkAlive(t.Context(), "", "", "", time.Now())
		if !errors.As(err, &errStore{}) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is not told as the database's fault", err)
		}
	})
}
