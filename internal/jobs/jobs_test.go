package jobs_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"portolan/internal/fleet"
	"portolan/internal/jobs"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// patience bounds what is over in a moment, on a machine that has much else to
// do.
const patience = 3 * time.Minute

// call is one time that the runner was called.
type call struct {
	operation string
	token     int64
	at        time.Time
}

// runner does what the test says and reports every call.
type runner struct {
	calls chan call
	do    func(ctx context.Context, c call) (time.Duration, error)
}

func (r *runner) Run(ctx context.Context, operationID string, token int64) (time.Duration, error) {
	c := call{operationID, token, time.Now()}
	r.calls <- c
	if r.do == nil {
		return 0, nil
	}
	return r.do(ctx, c)
}

func (r *runner) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-r.calls:
		return c
	case <-time.After(patience):
		t.Fatal("the runner was not called")
		return call{}
	}
}

type sweeper struct {
	mu     sync.Mutex
	sweeps int
	err    error
}

func (s *sweeper) TakeOver(context.Context, time.Duration) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeps++
	return 0, s.err
}

func (s *sweeper) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sweeps
}

func setup(t *testing.T, do func(ctx context.Context, c call) (time.Duration, error)) (*runner, *jobs.Queue, *postgres.DB) {
	t.Helper()
	db := postgrestest.New(t)
	r := &runner{calls: make(chan call, 1000), do: do}
	q, err := jobs.New(db.Pool(), jobs.Options{Runner: r, Sweeper: &sweeper{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, q) })
	return r, q, db
}

func stop(t *testing.T, q *jobs.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := q.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func enqueue(t *testing.T, q *jobs.Queue, pool *pgxpool.Pool, id string, token int64) {
	t.Helper()
	if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return q.Enqueue(t.Context(), tx, id, token) }); err != nil {
		t.Fatal(err)
	}
}

func TestAJobComesSoonAfterItsTransaction(t *testing.T) {
	t.Parallel()
	r, _, db := setup(t, nil)
	// As in production, another process inserts.
	inserter, err := jobs.New(db.Pool(), jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	enqueue(t, inserter, db.Pool(), "warm", 1)
	r.next(t)
	var took []time.Duration
	for i := range 20 {
		start := time.Now()
		enqueue(t, inserter, db.Pool(), "op", int64(i))
		if c := r.next(t); c.operation != "op" || c.token != int64(i) {
			t.Fatalf("called for %+v", c)
		} else {
			took = append(took, c.at.Sub(start))
		}
	}
	slices.Sort(took)
	t.Logf("from the transaction's begin to the runner: median %s, most %s", took[10], took[19])
	// Each begins just after the one before was fetched: a queue that looks for
	// jobs only now and then would be late for all of them. A busy machine is for
	// some, or many.
	if took[0] > 250*time.Millisecond {
		t.Errorf("not one came before %s", took[0])
	}
}

// Where the queue is long, the sweep finds its jobs late and inserts them again. That
// must not make it longer: whatever is new would wait behind them all.
func TestAJobThatWaitsItsTurnIsInsertedOnce(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	goOn := make(chan struct{})
	r := &runner{calls: make(chan call, 100), do: func(ctx context.Context, _ call) (time.Duration, error) {
		select {
		case <-goOn:
			return 0, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}}
	q, err := jobs.New(db.Pool(), jobs.Options{Runner: r, Sweeper: &sweeper{}, MaxWorkers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer stop(t, q)
	comes := func(operation string, token int64) {
		t.Helper()
		if c := r.next(t); c.operation != operation || c.token != token {
			t.Fatalf("called for %+v, want %s", c, operation)
		}
	}
	enqueue(t, q, db.Pool(), "busy", 1)
	comes("busy", 1)
	for range 3 {
		enqueue(t, q, db.Pool(), "late", 1)
	}
	enqueue(t, q, db.Pool(), "late", 2) // taken over
	enqueue(t, q, db.Pool(), "busy", 1) // it runs, and may be about to end
	enqueue(t, q, db.Pool(), "new", 1)
	for _, c := range []call{{operation: "late", token: 1}, {operation: "late", token: 2}, {operation: "busy", token: 1}, {operation: "new", token: 1}} {
		goOn <- struct{}{}
		comes(c.operation, c.token)
	}
	// One that comes back later may be called before.
	if _, err := db.Pool().Exec(t.Context(), `
		INSERT INTO river_job (state, queue, priority, kind, args, max_attempts, scheduled_at)
		SELECT 'available', queue, priority, kind, args, max_attempts, now() + interval '1 hour'
		FROM river_job WHERE args @> '{"operation_id": "new"}'`); err != nil {
		t.Fatal(err)
	}
	goOn <- struct{}{}
	enqueue(t, q, db.Pool(), "other", 1)
	comes("other", 1)
	enqueue(t, q, db.Pool(), "new", 1)
	enqueue(t, q, db.Pool(), "last", 1)
	goOn <- struct{}{}
	comes("new", 1)
	goOn <- struct{}{}
	comes("last", 1)
	goOn <- struct{}{}
}

func TestAJobOfARolledBackTransactionNeverComes(t *testing.T) {
	t.Parallel()
	r, q, db := setup(t, nil)
	refused := errors.New("no")
	err := pgx.BeginFunc(t.Context(), db.Pool(), func(tx pgx.Tx) error {
		if err := q.Enqueue(t.Context(), tx, "ghost", 1); err != nil {
			return err
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	enqueue(t, q, db.Pool(), "real", 1)
	if c := r.next(t); c.operation != "real" {
		t.Fatalf("called for %+v", c)
	}
}

func TestAnOperationThatAsksComesBackOnTime(t *testing.T) {
	t.Parallel()
	const short, long = 300 * time.Millisecond, 1500 * time.Millisecond
	waits := []time.Duration{short, long, short, short, short, 0}
	var mu sync.Mutex
	next := 0
	r, q, db := setup(t, func(context.Context, call) (time.Duration, error) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return waits[next-1], nil
	})
	enqueue(t, q, db.Pool(), "op", 7)
	before := r.next(t)
	late := time.Hour // at least
	for _, wait := range waits[:len(waits)-1] {
		c := r.next(t)
		took := c.at.Sub(before.at)
		t.Logf("asked for %s, came after %s", wait, took)
		if c.token != 7 || took < wait {
			t.Errorf("asked for %s, came after %s: %+v", wait, took, c)
		}
		late = min(late, took-wait)
		before = c
	}
	// If they waited for the queue's scheduler, each would ask just after it has
	// looked, and be late by almost the whole of its interval. A busy machine
	// makes some of them late.
	if late > 2*time.Second {
		t.Errorf("not one was less late than %s", late)
	}
}

func TestErrorsAndPanicsDoNotEndTheQueue(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	failures := 0
	r, q, db := setup(t, func(_ context.Context, c call) (time.Duration, error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case c.operation == "panics":
			panic("as the test wants")
		case c.operation == "fails" && failures < 2:
			failures++
			return 0, errors.New("as the test wants")
		}
		return 0, nil
	})
	enqueue(t, q, db.Pool(), "panics", 1)
	if c := r.next(t); c.operation != "panics" {
		t.Fatalf("called for %+v", c)
	}
	enqueue(t, q, db.Pool(), "fails", 1)
	for range 3 { // two failures and the success
		if c := r.next(t); c.operation != "fails" {
			t.Fatalf("called for %+v", c)
		}
	}
	var attempt int
	if err := db.Pool().QueryRow(t.Context(), `SELECT max(attempt) FROM river_job`).Scan(&attempt); err != nil || attempt > 1 {
		t.Fatalf("attempts were counted up to %d, %v", attempt, err)
	}
}

func TestStopHandsTheWorkToTheNextProcess(t *testing.T) {
	t.Parallel()
	r, q, db := setup(t, func(ctx context.Context, _ call) (time.Duration, error) {
		<-ctx.Done() // a long slice
		return 0, ctx.Err()
	})
	enqueue(t, q, db.Pool(), "op", 1)
	r.next(t)
	stop(t, q)

	second := &runner{calls: make(chan call, 10)}
	q2, err := jobs.New(db.Pool(), jobs.Options{Runner: second, Sweeper: &sweeper{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := q2.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer stop(t, q2)
	if c := second.next(t); c.operation != "op" || c.token != 1 {
		t.Fatalf("called for %+v", c)
	}
}

func TestTheSweepGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	s := &sweeper{err: errors.New("as the test wants")}
	q, err := jobs.New(db.Pool(), jobs.Options{Runner: &runner{calls: make(chan call, 1)}, Sweeper: s, TakeoverAfter: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer stop(t, q)
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.count() < 3 {
		select {
		case <-deadline:
			t.Fatalf("swept %d times", s.count())
		case <-tick.C:
		}
	}
}

// The migration that stands among ours must make what River's own migrator
// makes, or a new version of River would meet a schema that it does not expect.
func TestRiversTablesAreThoseOfItsOwnMigrator(t *testing.T) {
	t.Parallel()
	ours := postgrestest.New(t).Pool()
	theirs, err := pgxpool.New(t.Context(), postgrestest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(theirs), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(riverSchema(t, theirs), riverSchema(t, ours)); d != "" {
		t.Fatal(d)
	}
	check, err := rivermigrate.New(riverpgxv5.New(ours), nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := check.Validate(t.Context(), nil); err != nil || !v.OK {
		t.Fatalf("River's own check: %+v, %v", v, err)
	}
}

func riverSchema(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		SELECT format('column %s.%s %s %s %s', table_name, column_name, udt_name, is_nullable, column_default)
			FROM information_schema.columns WHERE table_name LIKE 'river%'
		UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE tablename LIKE 'river%'
		UNION ALL SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
			FROM pg_constraint WHERE conrelid::regclass::text LIKE 'river%'
		UNION ALL SELECT format('enum %s %s', enumtypid::regtype, string_agg(enumlabel, ',' ORDER BY enumsortorder))
			FROM pg_enum GROUP BY enumtypid
		UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'river%'
		UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'river%'
		UNION ALL SELECT format('table %s %s', relname, relpersistence) FROM pg_class WHERE relname LIKE 'river%' AND relkind = 'r'
		UNION ALL SELECT format('migration %s %s', line, version) FROM river_migration
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

type retainer chan fleet.Retention

func (r retainer) RemoveOld(_ context.Context, keep fleet.Retention) (fleet.Removed, error) {
	r <- keep
	return fleet.Removed{Audit: 1}, nil
}

// TestRetentionRunsByItself: of two queues, one sees to it, and does so again
// when the other takes its place.
func TestRetentionRunsByItself(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	called := make(retainer, 10)
	keep := fleet.Retention{Audit: time.Hour}
	start := func() *jobs.Queue {
		q, err := jobs.New(db.Pool(), jobs.Options{
			Runner: &runner{calls: make(chan call, 1)}, Sweeper: &sweeper{}, Retainer: called, Retention: keep,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return q
	}
	first := start()
	await := func(what string) {
		t.Helper()
		select {
		case got := <-called:
			if got != keep {
				t.Errorf("called with %+v", got)
			}
		case <-time.After(patience):
			t.Fatal("nothing was removed by " + what)
		}
	}
	await("the first")
	second := start()
	defer stop(t, second)
	stop(t, first)
	await("the second")
}
