package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type operationRow struct {
	ID              string
	Number          int64
	WorkloadID      string
	WorkloadName    string
	ClusterID       string
	Namespace       string
	Runtime         string
	Verb            fleet.Verb
	State           fleet.OperationState
	Release         int
	Params          fleet.Params
	Actor           string
	CancelRequested bool
	Failure         *fleet.Failure
	Token           int64
	HeartbeatAt     *time.Time
	Due             bool
	CreatedAt       time.Time
	StartedAt       *time.Time
	FinishedAt      *time.Time
	LastSeq         int64
	EventsRemoved   bool
}

// A job may come a little before the time it was put off to: clocks differ.
const operationColumns = `id, number, workload_id, workload_name, cluster_id, namespace, runtime, verb, state, release,
	params, actor, cancel_requested, failure, token, heartbeat_at, wake_at <= now() + interval '2 seconds' AS due,
	created_at, started_at, finished_at, last_seq, events_removed`

func (r operationRow) operation() fleet.Operation {
	return fleet.Operation{
		ID: r.ID, WorkloadID: r.WorkloadID, WorkloadName: r.WorkloadName, ClusterID: r.ClusterID,
		Namespace: r.Namespace, Runtime: r.Runtime, Verb: r.Verb, State: r.State, Release: r.Release,
		Params: r.Params, Actor: r.Actor, CancelRequested: r.CancelRequested, Failure: r.Failure, Token: r.Token,
		CreatedAt: r.CreatedAt, StartedAt: timeOf(r.StartedAt), FinishedAt: timeOf(r.FinishedAt), LastSeq: r.LastSeq,
		EventsRemoved: r.EventsRemoved,
	}
}

type stepRow struct {
	Name       fleet.StepName
	State      fleet.StepState
	Message    string
	StartedAt  *time.Time
	FinishedAt *time.Time
}

// loadSteps returns the steps of an operation in their order.
func loadSteps(ctx context.Context, q querier, operationID string) ([]fleet.Step, error) {
	rows, err := many[stepRow](ctx, q, `
		SELECT name, state, message, started_at, finished_at FROM operation_steps
		WHERE operation_id = $1 ORDER BY position`, operationID)
	if err != nil {
		return nil, err
	}
	steps := make([]fleet.Step, len(rows))
	for i, r := range rows {
		steps[i] = fleet.Step{
			Name: r.Name, State: r.State, Message: r.Message,
			StartedAt: timeOf(r.StartedAt), FinishedAt: timeOf(r.FinishedAt),
		}
	}
	return steps, nil
}

// Operation returns an operation with its steps; CodeNotFound.
func (db *DB) Operation(ctx context.Context, id string) (fleet.Operation, error) {
	row, err := one[operationRow](ctx, db.pool, `SELECT `+operationColumns+` FROM operations WHERE id = $1`, id)
	if err != nil {
		return fleet.Operation{}, fmt.Errorf("postgres: operation: %w", orNotFound(err, "There is no such operation."))
	}
	op := row.operation()
	if op.Steps, err = loadSteps(ctx, db.pool, id); err != nil {
		return fleet.Operation{}, fmt.Errorf("postgres: steps: %w", err)
	}
	return op, nil
}

// latestOperation returns the newest operation of a workload, without its
// steps, or nil.
func latestOperation(ctx context.Context, q querier, workloadID string) (*fleet.Operation, error) {
	row, err := one[operationRow](ctx, q, `
		SELECT `+operationColumns+` FROM operations WHERE workload_id = $1 ORDER BY number DESC LIMIT 1`, workloadID)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	op := row.operation()
	return &op, nil
}

// Operations returns operations, newest first, without their steps.
func (db *DB) Operations(ctx context.Context, f fleet.OperationFilter) (fleet.Page[fleet.Operation], error) {
	var page fleet.Page[fleet.Operation]
	after, err := numberCursor(f.After)
	if err != nil {
		return page, err
	}
	limit := pageLimit(f.Limit)
	where, args := "true", []any{limit + 1}
	if after > 0 {
		args = append(args, after)
		where += fmt.Sprintf(" AND number < $%d", len(args))
	}
	if f.State != "" {
		args = append(args, f.State)
		where += fmt.Sprintf(" AND state = $%d", len(args))
	}
	rows, err := many[operationRow](ctx, db.pool, `
		SELECT `+operationColumns+` FROM operations WHERE `+where+` ORDER BY number DESC LIMIT $1`, args...)
	if err != nil {
		return page, fmt.Errorf("postgres: operations: %w", err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Next = formatNumber(rows[limit-1].Number)
	}
	for _, r := range rows {
		page.Rows = append(page.Rows, r.operation())
	}
	return page, nil
}

// OperationsOf returns the newest operations of a workload, present or gone,
// without their steps.
func (db *DB) OperationsOf(ctx context.Context, workloadID string, limit int) ([]fleet.Operation, error) {
	rows, err := many[operationRow](ctx, db.pool, `
		SELECT `+operationColumns+` FROM operations WHERE workload_id = $1 ORDER BY number DESC LIMIT $2`,
		workloadID, pageLimit(limit))
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("postgres: operations: %w", err)
	}
	out := make([]fleet.Operation, len(rows))
	for i, r := range rows {
		out[i] = r.operation()
	}
	return out, nil
}

// RequestCancel marks an unfinished operation, and calls its worker at once if
// it is waiting for a later time; CodeConflict if it has ended, CodeNotFound.
func (db *DB) RequestCancel(ctx context.Context, id string, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		op, err := lockOperation(ctx, tx, id)
		if err != nil {
			return orNotFound(err, "There is no such operation.")
		}
		if op.State.Finished() {
			return fleet.Conflict("The operation has already ended: it %s.", pastTense(op.State))
		}
		if err := insertAudit(ctx, tx, audit); err != nil {
			return err
		}
		if op.CancelRequested {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE operations SET cancel_requested = true WHERE id = $1`, id); err != nil {
			return err
		}
		event := fleet.Event{Type: fleet.EventNormal, Reason: "CancelRequested", Message: "A cancel was asked for."}
		if audit.Actor != "" {
			event.Message = audit.Actor + " asked to cancel."
		}
		if err := appendEvents(ctx, tx, id, event); err != nil {
			return err
		}
		if op.HeartbeatAt == nil {
			if err := db.wake(ctx, tx, id, op.Token); err != nil {
				return err
			}
		}
		return ring(ctx, tx, operationBell(id), workloadBell(op.WorkloadID))
	})
	return wrap("cancel", err)
}

func pastTense(s fleet.OperationState) string {
	if s == fleet.OperationCancelled {
		return "was cancelled"
	}
	return string(s)
}

// wake makes an operation that nobody holds due now, and inserts a job for it.
// A job for a later time that is still there does no harm: it comes too early
// for whatever time is set then, or finds nothing to do.
func (db *DB) wake(ctx context.Context, tx pgx.Tx, id string, token int64) error {
	if _, err := tx.Exec(ctx, `UPDATE operations SET wake_at = now() WHERE id = $1`, id); err != nil {
		return err
	}
	return db.enqueue(ctx, tx, id, token)
}

func (db *DB) enqueue(ctx context.Context, tx pgx.Tx, id string, token int64) error {
	if db.Enqueue == nil {
		return fmt.Errorf("postgres: no job queue is wired")
	}
	if err := db.Enqueue(ctx, tx, id, token); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	return nil
}
