package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type workloadRow struct {
	ID        string
	Name      string
	ClusterID string
	Namespace string
	Runtime   string
	Kind      fleet.WorkloadKind
	Release   int
	Replicas  int32
	Stopped   bool
	CreatedBy string
	CreatedAt time.Time
	UpdatedAt time.Time
}

const workloadColumns = `w.id, w.name, w.cluster_id, w.namespace, w.runtime, w.kind, w.release, w.replicas, w.stopped,
	w.created_by, w.created_at, w.updated_at`

// Workload returns a workload with its latest operation and observation (nil
// where there is none), all of one moment; CodeNotFound.
func (db *DB) Workload(ctx context.Context, id string) (fleet.WorkloadState, error) {
	var state fleet.WorkloadState
	err := db.atOnce(ctx, func(tx pgx.Tx) (err error) {
		state, err = loadWorkload(ctx, tx, id)
		return err
	})
	return state, err
}

func loadWorkload(ctx context.Context, q querier, id string) (state fleet.WorkloadState, err error) {
	type row struct {
		workloadRow
		PhaseSince time.Time
	}
	w, err := one[row](ctx, q, `SELECT `+workloadColumns+`, w.phase_since FROM workloads w WHERE id = $1`, id)
	if err != nil {
		return state, fmt.Errorf("postgres: workload: %w", orNotFound(err, "There is no such workload."))
	}
	state.Workload, state.Since = fleet.Workload(w.workloadRow), w.PhaseSince
	if state.Operation, err = latestOperation(ctx, q, id); err != nil {
		return state, fmt.Errorf("postgres: operation: %w", err)
	}
	if state.Operation != nil {
		if state.Operation.Steps, err = loadSteps(ctx, q, state.Operation.ID); err != nil {
			return state, fmt.Errorf("postgres: steps: %w", err)
		}
	}
	if state.Observation, err = loadObservation(ctx, q, id); err != nil {
		return state, fmt.Errorf("postgres: observation: %w", err)
	}
	return state, nil
}

// Workloads returns the workloads of one namespace of one cluster, by name.
func (db *DB) Workloads(ctx context.Context, clusterID, namespace string) ([]fleet.Watched, error) {
	type row struct {
		workloadRow
		Ended int64
	}
	rows, err := many[row](ctx, db.pool, `
		SELECT `+workloadColumns+`, coalesce((
			SELECT max(o.number) FROM operations o WHERE o.workload_id = w.id AND o.finished_at IS NOT NULL), 0) AS ended
		FROM workloads w WHERE cluster_id = $1 AND namespace = $2 ORDER BY name`,
		clusterID, namespace)
	if err != nil {
		return nil, fmt.Errorf("postgres: workloads: %w", err)
	}
	out := make([]fleet.Watched, len(rows))
	for i, r := range rows {
		out[i] = fleet.Watched{Workload: fleet.Workload(r.workloadRow), Ended: r.Ended}
	}
	return out, nil
}

// insertWorkload inserts a workload and, if it is the first there, the source
// of its namespace, which nobody watches yet.
func insertWorkload(ctx context.Context, tx pgx.Tx, w fleet.Workload) error {
	if _, err := tx.Exec(ctx, `
		INSERT INTO workloads (id, name, cluster_id, namespace, runtime, kind, release, replicas, stopped, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce($11, now()))`,
		w.ID, w.Name, w.ClusterID, w.Namespace, w.Runtime, w.Kind, w.Release, w.Replicas, w.Stopped, w.CreatedBy,
		nullTime(w.CreatedAt)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO observation_sources (cluster_id, namespace) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		w.ClusterID, w.Namespace)
	return err
}

// changeWorkload stores what an operation changes from the start; CodeNotFound,
// or CodeConflict when another operation has changed the workload since w was
// read.
func changeWorkload(ctx context.Context, tx pgx.Tx, w fleet.Workload) error {
	tag, err := tx.Exec(ctx, `
		UPDATE workloads SET release = $2, replicas = $3, stopped = $4, kind = $5, updated_at = clock_timestamp()
		WHERE id = $1 AND updated_at = coalesce($6, updated_at)`,
		w.ID, w.Release, w.Replicas, w.Stopped, w.Kind, nullTime(w.UpdatedAt))
	if err != nil || tag.RowsAffected() > 0 {
		return err
	}
	if exists, err := lockWorkload(ctx, tx, w.ID); err != nil || exists {
		return cmp.Or(err, error(fleet.Conflict("%s was changed by another operation just now. Look at it, and try again.", w.Name)))
	}
	return fleet.NotFound("There is no such workload.")
}

// lockWorkload locks a workload's row until the transaction ends, if it is there.
func lockWorkload(ctx context.Context, tx pgx.Tx, id string) (exists bool, err error) {
	err = tx.QueryRow(ctx, `SELECT true FROM workloads WHERE id = $1 FOR UPDATE`, id).Scan(&exists)
	if absent(err) {
		return false, nil
	}
	return exists, err
}

// refreshPhase computes a workload's phase anew and stores it. It locks the
// workload's row first, so that of two writers the second sees what the first
// wrote. The age of the observation is left out here: it is judged when the
// phase is read. A workload that is gone is no error.
func refreshPhase(ctx context.Context, tx pgx.Tx, workloadID string) error {
	if exists, err := lockWorkload(ctx, tx, workloadID); err != nil || !exists {
		return err
	}
	op, err := latestOperation(ctx, tx, workloadID)
	if err != nil {
		return err
	}
	obs, err := loadObservation(ctx, tx, workloadID)
	if err != nil {
		return err
	}
	now := time.Now()
	var observedAt *time.Time
	if obs != nil {
		observedAt = &obs.SeenAt
		fresh := *obs
		fresh.SeenAt = now
		obs = &fresh
	}
	phase, reason := fleet.PhaseOf(op, obs, now)
	busy := op != nil && !op.State.Finished()
	_, err = tx.Exec(ctx, `
		UPDATE workloads SET phase = $2, phase_reason = $3, busy = $4, observed_at = $5,
			phase_since = CASE WHEN phase = $2 THEN phase_since ELSE now() END
		WHERE id = $1`, workloadID, phase, reason, busy, observedAt)
	return err
}
