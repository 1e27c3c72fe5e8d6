// Package jobs rings workers through River, the job queue. A job is only the
// doorbell for one operation and the token that lets its bearer work at it:
// what is to be done, and who may do it, stands in the operation's own rows.
// It is the only user of River.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"portolan/internal/fleet"
)

// OperationArgs are the arguments of a job.
type OperationArgs struct {
	OperationID string `json:"operation_id"`
	Token       int64  `json:"token"`
}

// Kind names the job in the queue's tables.
func (OperationArgs) Kind() string { return "operation" }

// Runner works at operations.
type Runner interface {
	// Run works at the operation for the bearer of token. again > 0 says after
	// what time to call it once more; after an error it is called again soon.
	Run(ctx context.Context, operationID string, token int64) (again time.Duration, err error)
}

// Sweeper finds operations that nobody works at any more.
type Sweeper interface {
	// TakeOver gives each of those whose worker has been silent for staleAfter
	// to whoever takes the job that it inserts, and returns how many.
	TakeOver(ctx context.Context, staleAfter time.Duration) (int, error)
}

// Options say what a Queue works with.
type Options struct {
	Runner  Runner  // nil for a process that only enqueues
	Sweeper Sweeper // needed with a Runner
	Logger  *slog.Logger
	// Retainer removes, from time to time, what is older than Retention; nil =
	// nothing is.
	Retainer  Retainer
	Retention fleet.Retention
	// MaxWorkers bounds the operations that this process works at at once; 0 = 32.
	MaxWorkers int
	// TakeoverAfter is how long a worker may be silent; 0 = 10 s.
	TakeoverAfter time.Duration
}

const (
	defaultMaxWorkers    = 32
	defaultTakeoverAfter = 10 * time.Second
	minSweep             = 250 * time.Millisecond
	sweepTime            = 30 * time.Second

	// fetchCooldown is the least time between two fetches. It also bounds how
	// often an insert is announced, so that it is the delay of a job inserted
	// just after another.
	fetchCooldown = 5 * time.Millisecond
	// fetchPoll is how late a job that was put off may come: nothing announces
	// that its time has come.
	fetchPoll = 100 * time.Millisecond
	// maxSnooze is the scheduling interval of River: jobs put off for longer
	// wait for its scheduler, which may be that much late.
	maxSnooze = 5 * time.Second
	// retryAfter an error, such as a database that is away.
	retryAfter = time.Second
	// Done jobs say nothing that the operation's rows don't.
	keepDone = time.Hour
)

// Queue enqueues operations and, with a Runner, works at them.
type Queue struct {
	client *river.Client[pgx.Tx]
	opts   Options

	stopSweep context.CancelFunc
	sweeping  sync.WaitGroup
}

// New returns a Queue on the tables that the migrations have made.
func New(pool *pgxpool.Pool, o Options) (*Queue, error) {
	if o.MaxWorkers == 0 {
		o.MaxWorkers = defaultMaxWorkers
	}
	if o.TakeoverAfter == 0 {
		o.TakeoverAfter = defaultTakeoverAfter
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	config := &river.Config{
		Logger:                      slog.New(atLeastWarn{o.Logger.Handler()}),
		FetchCooldown:               fetchCooldown,
		FetchPollInterval:           fetchPoll,
		JobTimeout:                  -1, // Run ends by itself after a slice
		CompletedJobRetentionPeriod: keepDone,
	}
	if o.Runner != nil {
		if o.Sweeper == nil {
			return nil, errors.New("jobs: a Runner needs a Sweeper")
		}
		config.Workers = river.NewWorkers()
		if err := river.AddWorkerSafely(config.Workers, &worker{opts: o}); err != nil {
			return nil, fmt.Errorf("jobs: %w", err)
		}
		if o.Retainer != nil {
			if err := river.AddWorkerSafely(config.Workers, &retentionWorker{opts: o}); err != nil {
				return nil, fmt.Errorf("jobs: %w", err)
			}
			config.PeriodicJobs = []*river.PeriodicJob{retentionJob()}
		}
		config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: o.MaxWorkers}}
	}
	client, err := river.NewClient(riverpgxv5.New(pool), config)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return &Queue{client: client, opts: o}, nil
}

// Enqueue inserts the job for an operation and its token in the transaction
// that makes it due, unless one is due already and only waits its turn: a queue
// that is long would become longer with every sweep.
func (q *Queue) Enqueue(ctx context.Context, tx pgx.Tx, operationID string, token int64) error {
	args := OperationArgs{OperationID: operationID, Token: token}
	var waits bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM river_job
			WHERE state = 'available' AND queue = $1 AND priority = $2 AND scheduled_at <= now() AND kind = $3 AND args @> $4
		)`, river.QueueDefault, river.PriorityDefault, args.Kind(), args).Scan(&waits)
	if err == nil && !waits {
		_, err = q.client.InsertTx(ctx, tx, args, nil)
	}
	if err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	return nil
}

// Start begins to work at jobs and to sweep, until Stop. It needs a Runner.
func (q *Queue) Start(ctx context.Context) error {
	if q.opts.Runner == nil {
		return errors.New("jobs: there is no Runner")
	}
	// Work ends by Stop, which lets the workers give up what they hold.
	ctx = context.WithoutCancel(ctx)
	if err := q.client.Start(ctx); err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	ctx, q.stopSweep = context.WithCancel(ctx)
	q.sweeping.Go(func() { q.sweep(ctx) })
	return nil
}

// Stop takes no more jobs, tells those at work to give up, and returns when
// they have, or when ctx ends.
func (q *Queue) Stop(ctx context.Context) error {
	if q.stopSweep == nil {
		return nil
	}
	q.stopSweep()
	q.sweeping.Wait()
	if err := q.client.StopAndCancel(ctx); err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	return nil
}

// sweep takes over what others have let fall.
func (q *Queue) sweep(ctx context.Context) {
	ticker := time.NewTicker(max(q.opts.TakeoverAfter/4, minSweep))
	defer ticker.Stop()
	for {
		n, err := q.takeOver(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			q.opts.Logger.WarnContext(ctx, "sweep for silent workers", "err", err)
		case n > 0:
			q.opts.Logger.InfoContext(ctx, "called a worker for operations that had none", "operations", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// takeOver does not wait for a database that has vanished without a word: another
// connection may reach its successor.
func (q *Queue) takeOver(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	return q.opts.Sweeper.TakeOver(ctx, q.opts.TakeoverAfter)
}

// worker answers the doorbell. It never fails a job: River would count the
// attempts and give up in the end, where an operation has to go on until its
// own deadlines end it.
type worker struct {
	river.WorkerDefaults[OperationArgs]
	opts Options
}

// Work runs the operation once and puts the job off for as long as it asks.
func (w *worker) Work(ctx context.Context, job *river.Job[OperationArgs]) error {
	again, err := w.run(ctx, job.Args)
	switch {
	case err == nil && again == 0:
		return nil
	case ctx.Err() != nil: // shutting down: another process may go on at once
		return river.JobSnooze(0)
	case err != nil:
		w.opts.Logger.ErrorContext(ctx, "work at operation", "operation", job.Args.OperationID, "err", err)
		return river.JobSnooze(retryAfter)
	default:
		return river.JobSnooze(min(again, maxSnooze))
	}
}

// run keeps a panic from ending the process. What the runner held is then
// silent, so that the sweep calls the next worker after a while.
func (w *worker) run(ctx context.Context, args OperationArgs) (again time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.opts.Logger.ErrorContext(ctx, "panic in the work at an operation",
				"operation", args.OperationID, "panic", p, "stack", string(debug.Stack()))
			again, err = 0, nil
		}
	}()
	return w.opts.Runner.Run(ctx, args.OperationID, args.Token)
}

// atLeastWarn passes on what River has to complain about. What it tells of
// each job is told better by the operation.
type atLeastWarn struct{ slog.Handler }

func (h atLeastWarn) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h atLeastWarn) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeastWarn{h.Handler.WithAttrs(attrs)}
}
func (h atLeastWarn) WithGroup(name string) slog.Handler {
	return atLeastWarn{h.Handler.WithGroup(name)}
}
