package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type observationRow struct {
	WorkloadID         string
	SeenAt             time.Time
	ChangedAt          time.Time
	Present            bool
	UID                string
	Generation         int64
	ObservedGeneration int64
	Desired            int32
	Current            int32
	Ready              int32
	Available          int32
	Updated            int32
	Release            int
	Health             string
	Message            string
	Reason             string
	Conditions         []fleet.Condition
	Pods               []fleet.Pod
	PodsOmitted        int
	Endpoints          []fleet.Endpoint
}

// loadObservation returns the observation of a workload, or nil. Its SeenAt is
// the last proof of life of the watch that would have shown a change.
func loadObservation(ctx context.Context, q querier, workloadID string) (*fleet.Observation, error) {
	row, err := one[observationRow](ctx, q, `
		SELECT o.workload_id, greatest(o.seen_at, s.alive_at) AS seen_at, o.changed_at, o.present, o.uid, o.generation,
			o.observed_generation, o.desired, o.current, o.ready, o.available, o.updated, o.release, o.health, o.message,
			o.reason, o.conditions, o.pods, o.pods_omitted, o.endpoints
		FROM observations o
		JOIN workloads w ON w.id = o.workload_id
		LEFT JOIN observation_sources s ON s.cluster_id = w.cluster_id AND s.namespace = w.namespace
		WHERE o.workload_id = $1`, workloadID)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &fleet.Observation{
		WorkloadID: row.WorkloadID, SeenAt: row.SeenAt, ChangedAt: row.ChangedAt, Exists: row.Present, UID: row.UID,
		Generation: row.Generation, ObservedGeneration: row.ObservedGeneration, Desired: row.Desired,
		Current: row.Current, Ready: row.Ready, Available: row.Available, Updated: row.Updated, Release: row.Release,
		Health: row.Health, Message: row.Message, Reason: row.Reason,
		Conditions: row.Conditions, Pods: row.Pods, PodsOmitted: row.PodsOmitted, Endpoints: row.Endpoints,
	}, nil
}

// SaveObservation upserts what a watch tells of a workload, by its WorkloadID,
// and rings the workload's bell. holder must have the cluster's lease, else
// fleet.ErrFenced: whoever has it sees what is newer. ended is what fleet.Watched
// said before the workload was read; fleet.ErrOutdated where another operation has
// ended since, whose last step may have seen what is newer. An observation of a
// workload that is gone is dropped.
func (db *DB) SaveObservation(ctx context.Context, holder string, o fleet.Observation, ended int64) error {
	defer db.phases.outdate()
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if exists, err := lockWorkload(ctx, tx, o.WorkloadID); err != nil || !exists {
			return err
		}
		var held, outdated bool
		err := tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM workloads w JOIN observer_leases l ON l.cluster_id = w.cluster_id WHERE w.id = $1 AND l.holder = $2),
				EXISTS (SELECT FROM operations WHERE workload_id = $1 AND number > $3 AND finished_at IS NOT NULL)`,
			o.WorkloadID, holder, ended).Scan(&held, &outdated)
		switch {
		case err != nil:
			return err
		case !held:
			return fleet.ErrFenced
		case outdated:
			return fleet.ErrOutdated
		}
		if err := saveObservation(ctx, tx, o, false); err != nil {
			return err
		}
		return ring(ctx, tx, workloadBell(o.WorkloadID))
	})
	return wrap("observation", err)
}

// saveObservation stores an observation of a workload whose row is locked, and
// the phase that follows from it. One of an older generation of the same object
// changes nothing, and an old look nothing that was stored since of the same one:
// whoever reads must not be led back in time.
func saveObservation(ctx context.Context, tx pgx.Tx, o fleet.Observation, old bool) error {
	now := time.Now().UTC()
	_, err := tx.Exec(ctx, `
		INSERT INTO observations AS old (workload_id, seen_at, changed_at, present, uid, generation, observed_generation,
			desired, current, ready, available, updated, release, health, message, reason, conditions, pods, pods_omitted, endpoints)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
		ON CONFLICT (workload_id) DO UPDATE SET
			seen_at = excluded.seen_at, changed_at = excluded.changed_at, present = excluded.present, uid = excluded.uid,
			generation = excluded.generation, observed_generation = excluded.observed_generation,
			desired = excluded.desired, current = excluded.current, ready = excluded.ready,
			available = excluded.available, updated = excluded.updated, release = excluded.release,
			health = excluded.health, message = excluded.message, reason = excluded.reason,
			conditions = excluded.conditions, pods = excluded.pods, pods_omitted = excluded.pods_omitted, endpoints = excluded.endpoints
		WHERE NOT (old.uid = excluded.uid AND old.generation > excluded.generation)
			AND NOT ($21 AND old.uid = excluded.uid AND old.generation = excluded.generation AND old.seen_at > excluded.seen_at)`,
		o.WorkloadID, firstTime(o.SeenAt, now), firstTime(o.ChangedAt, now), o.Exists, o.UID, o.Generation,
		o.ObservedGeneration, o.Desired, o.Current, o.Ready, o.Available, o.Updated, o.Release, o.Health,
		storable(o.Message), storable(o.Reason), orEmpty(o.Conditions), orEmpty(o.Pods), o.PodsOmitted, orEmpty(o.Endpoints), old)
	if err != nil {
		return err
	}
	return refreshPhase(ctx, tx, o.WorkloadID)
}

// MarkAlive records a proof of life of a namespace's watch, once its first
// list is complete. holder must have the cluster's lease, else fleet.ErrFenced.
func (db *DB) MarkAlive(ctx context.Context, holder, clusterID, namespace string, at time.Time) error {
	err := db.markSource(ctx, holder, clusterID, namespace, `
		INSERT INTO observation_sources AS s (cluster_id, namespace, alive_at)
		SELECT $1, $2, $3 WHERE EXISTS (SELECT FROM observer_leases WHERE cluster_id = $1 AND holder = $4)
		ON CONFLICT (cluster_id, namespace) DO UPDATE
		SET alive_at = greatest(s.alive_at, excluded.alive_at), error = '', error_at = NULL`, at)
	return wrap("mark alive", err)
}

// MarkBroken records that the watch fails, and with what. The time of the last
// proof of life stays. holder must have the cluster's lease, else fleet.ErrFenced.
func (db *DB) MarkBroken(ctx context.Context, holder, clusterID, namespace, message string) error {
	err := db.markSource(ctx, holder, clusterID, namespace, `
		INSERT INTO observation_sources AS s (cluster_id, namespace, error, error_at)
		SELECT $1, $2, $3, now() WHERE EXISTS (SELECT FROM observer_leases WHERE cluster_id = $1 AND holder = $4)
		ON CONFLICT (cluster_id, namespace) DO UPDATE
		SET error = excluded.error, error_at = coalesce(s.error_at, excluded.error_at)`, storable(message))
	return wrap("mark broken", err)
}

// markSource writes a source and, where that makes its namespace known or
// unknown again, rings the cluster's bell.
func (db *DB) markSource(ctx context.Context, holder, clusterID, namespace, write string, value any) error {
	turned := false // most beats change nothing that anybody counts
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		was, err := sourceAnswers(ctx, tx, clusterID, namespace)
		if err != nil {
			return err
		}
		written, err := tx.Exec(ctx, write, clusterID, namespace, value, holder)
		if err != nil {
			return err
		}
		if written.RowsAffected() == 0 {
			return fleet.ErrFenced
		}
		is, err := sourceAnswers(ctx, tx, clusterID, namespace)
		if err != nil || was == is {
			return err
		}
		turned = true
		return ring(ctx, tx, clusterBell(clusterID))
	})
	if turned {
		db.changed()
	}
	return err
}

// sourceAnswers reports whether a source has no error and is not silent.
func sourceAnswers(ctx context.Context, tx pgx.Tx, clusterID, namespace string) (answers bool, err error) {
	err = tx.QueryRow(ctx, `
		SELECT error = '' AND alive_at > now() - $3::interval IS TRUE FROM observation_sources
		WHERE cluster_id = $1 AND namespace = $2`, clusterID, namespace, fleet.UnknownAfter).Scan(&answers)
	if absent(err) {
		return false, nil
	}
	return answers, err
}

// Unreachable says since when the observer gets no answer for the cluster's
// namespace, and the last error; zero = it answers, or it is not watched: not yet,
// or not any more since its last workload went.
func (db *DB) Unreachable(ctx context.Context, clusterID, namespace string) (fleet.Unreachability, error) {
	type row struct {
		AliveAt *time.Time
		Error   string
	}
	// What is seen is a proof of life too: pages show it at once, and verbs
	// must not say otherwise.
	r, err := one[row](ctx, db.pool, `
		SELECT greatest(s.alive_at, (SELECT max(o.seen_at) FROM observations o JOIN workloads w ON w.id = o.workload_id
			WHERE w.cluster_id = s.cluster_id AND w.namespace = s.namespace)) AS alive_at, s.error
		FROM observation_sources s WHERE s.cluster_id = $1 AND s.namespace = $2 AND s.error <> ''
			AND EXISTS (SELECT FROM workloads w WHERE w.cluster_id = s.cluster_id AND w.namespace = s.namespace)`,
		clusterID, namespace)
	if absent(err) {
		return fleet.Unreachability{}, nil
	}
	if err != nil {
		return fleet.Unreachability{}, fmt.Errorf("postgres: source: %w", err)
	}
	return fleet.Unreachability{Since: timeOf(r.AliveAt), Error: r.Error}, nil
}
