package postgres_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

func (b *bundle) number(sql string, args ...any) (n int) {
	b.t.Helper()
	b.must(b.Pool().QueryRow(b.t.Context(), sql, args...).Scan(&n))
	return n
}

const longAgo = 1000 * time.Hour

func TestRetentionKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	// More finished operations than one transaction removes, an unfinished one,
	// and some of a workload that is gone.
	b.exec(`INSERT INTO operations (id, workload_id, workload_name, cluster_id, namespace, runtime, verb, state, release, params, actor, finished_at)
		SELECT gen_random_uuid(), $1, 'web', 'c1', 'apps', 'container', 'restart', 'succeeded', 0, '{}', 'ana', now()
		FROM generate_series(1, 450)`, w.ID)
	gone := uuid.NewString()
	b.exec(`INSERT INTO operations (id, workload_id, workload_name, cluster_id, namespace, runtime, verb, state, release, params, actor, finished_at)
		SELECT gen_random_uuid(), $1, 'gone', 'c1', 'apps', 'container', 'delete', 'succeeded', 0, '{}', 'ana', now()
		FROM generate_series(1, 3)`, gone)
	b.exec(`INSERT INTO operation_events (operation_id, seq, at, type, step, state, reason, object, message)
		SELECT id, 1, now(), 'note', '', '', '', '', 'x' FROM operations ON CONFLICT DO NOTHING`)
	other, running := b.deploy("c1", "other")
	b.exec(`UPDATE operations SET created_at = created_at - interval '2000 hours', finished_at = finished_at - interval '2000 hours'`)
	b.exec(`INSERT INTO audit (at, actor, action, target, outcome, reason, address)
		SELECT now() - n * interval '1 hour', 'ana', 'x', 'y', 'ok', '', '' FROM generate_series(1, 5000) n`)

	removed, err := b.RemoveOld(t.Context(), fleet.Retention{})
	b.must(err)
	if removed.Any() {
		t.Fatalf("for ever, and yet removed: %+v", removed)
	}
	removed, err = b.RemoveOld(t.Context(), fleet.Retention{Events: longAgo})
	b.must(err)
	if n := b.number(`SELECT count(*) FROM operations`); removed.Operations != 0 || removed.Events == 0 || n != 455 {
		t.Errorf("events alone: %+v, %d operations", removed, n)
	}
	last := b.number(`SELECT max(number) FROM operations WHERE workload_id = $1`, w.ID)
	if n := b.number(`SELECT count(*) FROM operation_events e JOIN operations o ON o.id = e.operation_id WHERE o.number = $1`, last); n != 1 {
		t.Errorf("the latest operation has %d events", n)
	}
	if op, err := b.OperationsOf(t.Context(), w.ID, 2); err != nil || op[0].EventsRemoved || !op[1].EventsRemoved {
		t.Errorf("which have lost their events: %+v %v", op, err)
	}

	removed, err = b.RemoveOld(t.Context(), fleet.Retention{Operations: longAgo, Audit: longAgo})
	b.must(err)
	// Entries of 1000 hours to 1 hour stay; the bundle's own are new.
	if removed.Operations != 453 || removed.Audit < 4000 || removed.Audit > 4001 {
		t.Errorf("%+v", removed)
	}
	for _, id := range []string{w.ID, other.ID} {
		if n := b.number(`SELECT count(*) FROM operations WHERE workload_id = $1`, id); n != 1 {
			t.Errorf("a workload that is there has %d operations", n)
		}
	}
	if op, err := b.Operation(t.Context(), running.ID); err != nil || op.State.Finished() || len(op.Steps) == 0 {
		t.Errorf("the unfinished one: %+v %v", op, err)
	}
	if n := b.number(`SELECT count(*) FROM releases`); n != 2 {
		t.Errorf("%d releases are left", n)
	}
	if state, err := b.Workload(t.Context(), w.ID); err != nil || state.Workload.Release != 1 {
		t.Errorf("%+v %v", state, err)
	}
}

func TestRetentionOfTestsKeepsVerdictAndIdentity(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	b.tested("c1", fleet.TestOK)
	b.exec(`UPDATE connection_tests SET cluster_uid = 'u', uid_namespace = 'apps'`)
	for range 3 {
		b.tested("c1", fleet.TestFailed)
	}
	b.exec(`UPDATE connection_tests SET cluster_uid = '' WHERE state = 'failed'`)
	b.exec(`UPDATE connection_tests SET finished_at = finished_at - interval '2000 hours'`)
	removed, err := b.RemoveOld(t.Context(), fleet.Retention{Tests: longAgo})
	b.must(err)
	if removed.Tests != 2 {
		t.Errorf("%+v", removed)
	}
	if s := b.status("c1"); s.Test == nil || s.TestState() != fleet.TestFailed {
		t.Errorf("the verdict is lost: %+v", s.Test)
	}
	if pinned, err := b.PinnedIdentity(t.Context(), "c1"); pinned.UID != "u" || err != nil {
		t.Errorf("the identity is lost: %+v %v", pinned, err)
	}
}

// TestRetentionIsOneProcessAtATime: whoever comes second leaves it to the first.
func TestRetentionIsOneProcessAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO audit (at, actor, action, target, outcome, reason, address) VALUES ('2020-01-01', '', 'x', '', 'ok', '', '')`)
	err := pgx.BeginFunc(t.Context(), b.Pool(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(x'72657461696e'::bigint)`); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		removed, err := b.RemoveOld(ctx, fleet.Retention{Audit: longAgo})
		if err != nil || removed.Any() {
			t.Errorf("%+v %v", removed, err)
		}
		return nil
	})
	b.must(err)
	removed, err := b.RemoveOld(t.Context(), fleet.Retention{Audit: longAgo})
	if err != nil || removed.Audit != 1 {
		t.Errorf("%+v %v", removed, err)
	}
}

// TestEndedSessionsAreRemovedLater: not before every request has ended that began
// before they did.
func TestEndedSessionsAreRemovedLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO sessions (token, data, expiry, ended) VALUES ('long ago', '', now() - interval '25 hours', true),
		('never ended', '', now() - interval '25 hours', false), ('just now', '', now(), true), ('open', '', now() + interval '1 hour', false)`)
	u := aUser("owner@example.com")
	b.must(b.CreateUser(t.Context(), u, false, fleet.AuditEntry{}))
	b.exec(`INSERT INTO sessions (token, data, expiry, user_id, address) VALUES ('last month', '', now() - interval '31 days', $1, '203.0.113.1'),
		('last week', '', now() - interval '7 days', $1, '203.0.113.7')`, u.ID)
	_, err := b.RemoveOld(t.Context(), fleet.Retention{})
	b.must(err)
	known, err := b.SessionAddresses(t.Context(), u.Email)
	b.must(err)
	if !slices.Equal(known, []string{"203.0.113.7"}) {
		t.Errorf("the account was signed in from %v", known)
	}
	b.exec(`DELETE FROM sessions WHERE token = 'last week'`)
	if n := b.number(`SELECT count(*) FROM sessions WHERE token IN ('just now', 'open')`); n != 2 || b.number(`SELECT count(*) FROM sessions`) != 2 {
		t.Errorf("%d of the two are left, of %d", n, b.number(`SELECT count(*) FROM sessions`))
	}
}
