package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"portolan/internal/fleet"
)

// retentionEvery is how often what is too old is removed. It also happens when
// a queue becomes the leader.
const retentionEvery = time.Hour

// RetentionArgs are the arguments of the job that removes what is too old.
type RetentionArgs struct{}

// Kind names the job in the queue's tables.
func (RetentionArgs) Kind() string { return "retention" }

// Retainer removes what is too old. It does nothing while another process is
// at it.
type Retainer interface {
	RemoveOld(ctx context.Context, keep fleet.Retention) (fleet.Removed, error)
}

// retentionJob is inserted by whichever queue is the leader.
func retentionJob() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(retentionEvery), func() (river.JobArgs, *river.InsertOpts) {
		return RetentionArgs{}, &river.InsertOpts{MaxAttempts: 1} // the next one comes soon enough
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

type retentionWorker struct {
	river.WorkerDefaults[RetentionArgs]
	opts Options
}

// Work removes what is too old.
func (w *retentionWorker) Work(ctx context.Context, _ *river.Job[RetentionArgs]) error {
	removed, err := w.opts.Retainer.RemoveOld(ctx, w.opts.Retention)
	if removed.Any() {
		w.opts.Logger.InfoContext(ctx, "removed what was kept long enough", "audit", removed.Audit,
			"operations", removed.Operations, "events", removed.Events, "tests", removed.Tests)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("jobs: %w", err)
	}
	return nil // cut short by a shutdown, the next one goes on
}
