package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// Begin writes everything that an operation starts with, and its job, in one
// transaction. It returns the operation as stored. A second unfinished
// operation of a workload, and a second workload of a name in one namespace of
// one cluster, are a fleet.Error with CodeConflict; the latter has a problem
// with the field "name".
func (db *DB) Begin(ctx context.Context, b fleet.Begin) (fleet.Operation, error) {
	var stored fleet.Operation
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if b.New {
			if err := insertWorkload(ctx, tx, b.Workload); err != nil {
				return err
			}
		}
		// The operation's row comes before any change of the workload's: it is
		// the gate at which a second Begin waits, and workers lock in this
		// order too.
		if err := insertOperation(ctx, tx, b.Operation); err != nil {
			return err
		}
		if err := beginRelease(ctx, tx, &b); err != nil {
			return err
		}
		if !b.New {
			if err := changeWorkload(ctx, tx, b.Workload); err != nil {
				return err
			}
		}
		if err := insertAudit(ctx, tx, b.Audit); err != nil {
			return err
		}
		var err error
		if b.Operation.State.Finished() {
			err = db.beginFinished(ctx, tx, b.Operation)
		} else {
			err = db.beginQueued(ctx, tx, b.Operation)
		}
		if err != nil {
			return err
		}
		row, err := lockOperation(ctx, tx, b.Operation.ID)
		if err != nil {
			return err
		}
		stored = row.operation()
		if stored.Steps, err = loadSteps(ctx, tx, stored.ID); err != nil {
			return err
		}
		return ring(ctx, tx, operationBell(stored.ID), workloadBell(stored.WorkloadID))
	})
	switch {
	case violatesConstraint(err, "operations_unfinished_key"):
		return stored, db.underWay(ctx, b.Workload)
	case violatesConstraint(err, "workloads_name_key"):
		taken := fleet.Conflict("There is already a workload named %s in namespace %s of %s.",
			b.Workload.Name, b.Workload.Namespace, b.Workload.ClusterID)
		taken.Problems = fleet.Problems{"name": "This name is taken there."}
		return stored, taken
	case violatesConstraint(err, "workloads_cluster_fkey"):
		return stored, fleet.Conflict("The cluster %s is no longer registered.", b.Workload.ClusterID)
	}
	return stored, wrap("begin", err)
}

// underWay is the conflict with an operation that has not ended.
func (db *DB) underWay(ctx context.Context, w fleet.Workload) error {
	conflict := fleet.Conflict("Another operation on %s is under way.", w.Name)
	if op, err := latestOperation(ctx, db.pool, w.ID); err == nil && op != nil && !op.State.Finished() {
		conflict.Message = "The " + string(op.Verb) + " of " + w.Name + " is still under way."
	}
	conflict.Remedy = "Wait for it to end, or cancel it."
	return conflict
}

// insertOperation inserts the operation, unfinished, with its steps.
func insertOperation(ctx context.Context, tx pgx.Tx, op fleet.Operation) error {
	if _, err := tx.Exec(ctx, `
		INSERT INTO operations (id, workload_id, workload_name, cluster_id, namespace, runtime, verb, state, release,
			params, actor, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued', $8, $9, $10, coalesce($11, now()))`,
		op.ID, op.WorkloadID, op.WorkloadName, op.ClusterID, op.Namespace, op.Runtime, op.Verb, op.Release,
		op.Params, op.Actor, nullTime(op.CreatedAt)); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	for i, s := range op.Steps {
		batch.Queue(`
			INSERT INTO operation_steps (operation_id, name, position, state, message) VALUES ($1, $2, $3, 'pending', $4)`,
			op.ID, s.Name, i, s.Message)
	}
	return tx.SendBatch(ctx, batch).Close()
}

// beginRelease inserts the release, if there is one, with the next free
// number, and tells the workload and the operation.
func beginRelease(ctx context.Context, tx pgx.Tx, b *fleet.Begin) error {
	if b.Release == nil {
		return nil
	}
	number, err := insertRelease(ctx, tx, b.Workload.ID, *b.Release, b.Seal)
	if err != nil {
		return err
	}
	b.Workload.Release, b.Operation.Release = number, number
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE operations SET release = $2 WHERE id = $1`, b.Operation.ID, number)
	batch.Queue(`UPDATE workloads SET release = $2, image = $3 WHERE id = $1`, b.Workload.ID, number, b.Release.Spec.Image)
	return tx.SendBatch(ctx, batch).Close()
}

// beginQueued makes the operation due and the workload busy.
func (db *DB) beginQueued(ctx context.Context, tx pgx.Tx, op fleet.Operation) error {
	event := fleet.Event{Type: fleet.EventOperation, State: string(fleet.OperationQueued), At: op.CreatedAt}
	if err := appendEvents(ctx, tx, op.ID, event); err != nil {
		return err
	}
	if err := refreshPhase(ctx, tx, op.WorkloadID); err != nil {
		return err
	}
	return db.enqueue(ctx, tx, op.ID, 1)
}

// beginFinished is for a forget: it has no work, and removes the workload.
func (db *DB) beginFinished(ctx context.Context, tx pgx.Tx, op fleet.Operation) error {
	if _, err := tx.Exec(ctx, `
		UPDATE operations SET state = $2, failure = $3, started_at = created_at, finished_at = now() WHERE id = $1`,
		op.ID, op.State, op.Failure); err != nil {
		return err
	}
	event := fleet.Event{Type: fleet.EventOperation, State: string(op.State)}
	if op.Verb == fleet.VerbForget {
		event.Message = "The workload was forgotten. Nothing was deleted in its cluster."
	}
	if err := appendEvents(ctx, tx, op.ID, event); err != nil {
		return err
	}
	if op.Verb != fleet.VerbForget {
		return refreshPhase(ctx, tx, op.WorkloadID)
	}
	_, err := tx.Exec(ctx, `DELETE FROM workloads WHERE id = $1`, op.WorkloadID)
	return err
}
