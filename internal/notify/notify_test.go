package notify_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"portolan/internal/notify"
	"portolan/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// patience bounds what is over in a moment, on a machine that has much else to
// do.
const patience = 3 * time.Minute

func setup(t *testing.T) (*notify.Bell, *pgxpool.Pool) {
	t.Helper()
	url := postgrestest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	bell, err := notify.Listen(context.WithoutCancel(t.Context()), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bell.Close)
	return bell, pool
}

func announce(t *testing.T, pool *pgxpool.Pool, topic string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), "SELECT pg_notify('portolan', $1)", topic); err != nil {
		t.Fatal(err)
	}
}

func wantRing(t *testing.T, ring <-chan struct{}) {
	t.Helper()
	select {
	case <-ring:
	case <-time.After(patience):
		t.Fatal("it did not ring")
	}
}

func wantSilence(t *testing.T, ring <-chan struct{}) {
	t.Helper()
	select {
	case <-ring:
		t.Fatal("it rang")
	default:
	}
}

func TestRingsReachEverySubscriberOfTheTopic(t *testing.T) {
	t.Parallel()
	bell, pool := setup(t)
	one, stopOne := bell.Subscribe("workload:1")
	two, stopTwo := bell.Subscribe("workload:1")
	other, stopOther := bell.Subscribe("workload:2")
	defer stopTwo()
	defer stopOther()
	announce(t, pool, "workload:1")
	wantRing(t, one)
	wantRing(t, two)

	stopOne()
	stopOne() // twice does no harm
	announce(t, pool, "workload:1")
	wantRing(t, two)
	wantSilence(t, one)
	wantSilence(t, other)
}

func TestRingsAreMergedUntilHeard(t *testing.T) {
	t.Parallel()
	bell, pool := setup(t)
	ring, stop := bell.Subscribe("many")
	defer stop()
	last, stopLast := bell.Subscribe("last")
	defer stopLast()
	for range 20 {
		announce(t, pool, "many")
	}
	announce(t, pool, "last")
	wantRing(t, last) // notifications come in order: all have been heard
	wantRing(t, ring)
	wantSilence(t, ring)
}

func TestEverythingRingsAfterTheConnectionWasLost(t *testing.T) {
	t.Parallel()
	bell, pool := setup(t)
	ring, stop := bell.Subscribe("operation:1")
	defer stop()
	other, stopOther := bell.Subscribe("cluster:1")
	defer stopOther()
	var killed int
	if err := pool.QueryRow(t.Context(), `
		SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE application_name = 'portolan-notify' AND datname = current_database()`).Scan(&killed); err != nil || killed != 1 {
		t.Fatalf("ended %d connections, %v", killed, err)
	}
	wantRing(t, ring)
	wantRing(t, other)
	announce(t, pool, "operation:1")
	wantRing(t, ring)
}

func TestThousandsOfSubscribersAreCheap(t *testing.T) {
	t.Parallel()
	bell, pool := setup(t)
	rings := make([]<-chan struct{}, 5000)
	for i := range rings {
		ring, stop := bell.Subscribe(fmt.Sprint("workload:", i%500))
		defer stop()
		rings[i] = ring
	}
	for i := range 500 {
		announce(t, pool, fmt.Sprint("workload:", i))
	}
	for _, ring := range rings {
		wantRing(t, ring)
	}
}

func TestListenFailsWithoutADatabase(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://127.0.0.1:1/x?connect_timeout=2", "postgres://user:secret@:bad"} {
		if _, err := notify.Listen(t.Context(), url, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: no error", url)
		}
	}
}
