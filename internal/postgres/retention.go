package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// How many rows one transaction removes: what it locks it must soon give back.
const (
	removedRows       = 2000
	removedOperations = 200 // with their steps and events
)

// invitesKept is how long the list shows an invitation whose time is over.
const invitesKept = 7 * 24 * time.Hour

// endedInvitesKept is how long the record can tell what became of a link.
const endedInvitesKept = 90 * 24 * time.Hour

// endedSessionsKept is far longer than a request may last: one that began
// before its session ended must still find that it has. From where an account
// was signed in is remembered thirty times as long (see SessionAddresses).
const endedSessionsKept = 24 * time.Hour

// retentionLock is "retain" as bytes: one process at a time removes.
const retentionLock int64 = 0x72657461696e

// lastOfLiving is true for the newest operation of a workload that there is.
const lastOfLiving = `EXISTS (SELECT FROM workloads w WHERE w.id = o.workload_id)
	AND NOT EXISTS (SELECT FROM operations n WHERE n.workload_id = o.workload_id AND n.number > o.number)`

// RemoveOld removes what is older than it is to be kept, a bounded number of
// rows in each transaction. It never removes an unfinished operation, the
// newest operation of a workload that there is, nor the tests that say whether
// a cluster is a target and which cluster it is. While another process does
// the same it does nothing.
func (db *DB) RemoveOld(ctx context.Context, keep fleet.Retention) (removed fleet.Removed, err error) {
	for _, step := range []struct {
		kept  time.Duration
		limit int64
		count *int64
		sql   string // $1: what is older goes; $2: how much at a time; returns how much it was
	}{
		{keep.Audit, removedRows, &removed.Audit, `
			WITH gone AS (
				DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2) RETURNING 1
			) SELECT count(*), count(*) FROM gone`},
		{keep.Operations, removedOperations, &removed.Operations, `
			WITH gone AS (
				DELETE FROM operations WHERE id IN (
					SELECT o.id FROM operations o WHERE o.finished_at < $1 AND NOT (` + lastOfLiving + `)
					ORDER BY o.finished_at LIMIT $2
				) RETURNING 1
			) SELECT count(*), count(*) FROM gone`},
		{keep.Events, removedOperations, &removed.Events, `
			WITH old AS (
				UPDATE operations SET events_removed = true WHERE id IN (
					SELECT o.id FROM operations o WHERE o.finished_at < $1 AND NOT o.events_removed AND NOT (` + lastOfLiving + `)
					ORDER BY o.finished_at LIMIT $2
				) RETURNING id
			), gone AS (
				DELETE FROM operation_events e USING old WHERE e.operation_id = old.id RETURNING 1
			) SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone)`},
		{keep.Tests, removedRows, &removed.Tests, `
			WITH gone AS (
				DELETE FROM connection_tests WHERE id IN (
					SELECT t.id FROM connection_tests t JOIN clusters c ON c.id = t.cluster_id
					WHERE t.finished_at < $1 AND t.id <> coalesce(c.test_id, 0) AND t.id NOT IN (
						SELECT max(p.id) FROM connection_tests p
						WHERE p.cluster_id = t.cluster_id AND p.state = 'ok' AND p.cluster_uid <> '' GROUP BY p.credential_mode
					) ORDER BY t.finished_at LIMIT $2
				) RETURNING 1
			) SELECT count(*), count(*) FROM gone`},
		{invitesKept, removedRows, new(int64), `
			WITH gone AS (
				DELETE FROM invites WHERE id IN (SELECT id FROM invites WHERE expires_at < $1 LIMIT $2) RETURNING token_hash, email
			), noted AS (
				` + noteEnded(`'expired' FROM gone`) + `
			) SELECT count(*), count(*) FROM gone`},
		{endedInvitesKept, removedRows, new(int64), `
			WITH gone AS (
				DELETE FROM ended_invites WHERE token_hash IN (SELECT token_hash FROM ended_invites WHERE at < $1 LIMIT $2) RETURNING 1
			) SELECT count(*), count(*) FROM gone`},
		{endedSessionsKept, removedRows, new(int64), `
			WITH gone AS (
				DELETE FROM sessions WHERE token IN (
					SELECT token FROM sessions WHERE expiry < $1 AND (user_id IS NULL OR expiry < $1::timestamptz - interval '29 days')
					ORDER BY expiry LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1
			) SELECT count(*), count(*) FROM gone`},
	} {
		if step.kept == 0 {
			continue
		}
		before := time.Now().Add(-step.kept)
		for batch := step.limit; batch == step.limit; {
			var rows int64
			batch, rows, err = db.removeBatch(ctx, step.sql, before, step.limit)
			if err != nil {
				return removed, wrap("retention", err)
			}
			*step.count += rows
		}
	}
	return removed, nil
}

func (db *DB) removeBatch(ctx context.Context, sql string, before time.Time, limit int64) (batch, rows int64, err error) {
	err = db.inTx(ctx, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, retentionLock).Scan(&mine); err != nil || !mine {
			return err
		}
		return tx.QueryRow(ctx, sql, before, limit).Scan(&batch, &rows)
	})
	return batch, rows, err
}
