package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// An operation is worked at by the bearer of its token. Whoever claims it
// holds it while heartbeat_at is set; every write of a holder locks the row
// and is refused unless the token is still the row's and the operation has not
// ended. A holder that falls silent is taken over: the token moves on, so that
// whatever it still writes is refused.

// lockOperation reads an operation and locks its row until the transaction
// ends.
func lockOperation(ctx context.Context, tx pgx.Tx, id string) (operationRow, error) {
	return one[operationRow](ctx, tx, `SELECT `+operationColumns+` FROM operations WHERE id = $1 FOR UPDATE`, id)
}

// lockHeld locks an operation that the bearer of token holds; ErrFenced.
func lockHeld(ctx context.Context, tx pgx.Tx, id string, token int64) (operationRow, error) {
	row, err := lockOperation(ctx, tx, id)
	if absent(err) || err == nil && (row.Token != token || row.State.Finished() || row.HeartbeatAt == nil) {
		return row, fleet.ErrFenced
	}
	return row, err
}

// Claim takes hold of the operation for the bearer of token and marks it
// running. fleet.ErrFenced: the token is old, the operation is held, has ended
// or waits for a later time, for which another job will come.
func (db *DB) Claim(ctx context.Context, id string, token int64) (fleet.Operation, error) {
	var op fleet.Operation
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		row, err := lockOperation(ctx, tx, id)
		if absent(err) {
			return fleet.ErrFenced
		}
		if err != nil {
			return err
		}
		if row.Token != token || row.State.Finished() || row.HeartbeatAt != nil || !row.Due {
			return fleet.ErrFenced
		}
		first := row.State == fleet.OperationQueued
		row, err = one[operationRow](ctx, tx, `
			UPDATE operations SET state = 'running', heartbeat_at = now(), started_at = coalesce(started_at, now())
			WHERE id = $1 RETURNING `+operationColumns, id)
		if err != nil {
			return err
		}
		op = row.operation()
		if op.Steps, err = loadSteps(ctx, tx, id); err != nil {
			return err
		}
		if !first {
			return nil
		}
		op.LastSeq++
		event := fleet.Event{Type: fleet.EventOperation, State: string(fleet.OperationRunning), At: op.StartedAt}
		if err := appendEvents(ctx, tx, id, event); err != nil {
			return err
		}
		return ring(ctx, tx, operationBell(id), workloadBell(op.WorkloadID))
	})
	return op, wrap("claim", err)
}

// Heartbeat shows that the holder lives, and tells it whether a cancel was
// asked for; ErrFenced.
func (db *DB) Heartbeat(ctx context.Context, id string, token int64) (cancelRequested bool, err error) {
	err = db.pool.QueryRow(ctx, `
		UPDATE operations SET heartbeat_at = now()
		WHERE id = $1 AND token = $2 AND state = 'running' AND heartbeat_at IS NOT NULL
		RETURNING cancel_requested`, id, token).Scan(&cancelRequested)
	if absent(err) {
		err = fleet.ErrFenced
	}
	return cancelRequested, wrap("heartbeat", err)
}

// GiveUp lets go of the operation until wake, so that waiting is not taken for
// dying; ErrFenced.
func (db *DB) GiveUp(ctx context.Context, id string, token int64, wake time.Duration) error {
	tag, err := db.pool.Exec(ctx, `
		UPDATE operations SET heartbeat_at = NULL, wake_at = now() + $3
		WHERE id = $1 AND token = $2 AND state = 'running' AND heartbeat_at IS NOT NULL`, id, token, wake)
	if absent(err) || err == nil && tag.RowsAffected() == 0 {
		err = fleet.ErrFenced
	}
	return wrap("give up", err)
}

// TakeOver finds every unfinished operation whose holder has been silent for
// staleAfter, or whose job is that late. The first get a new token, which
// fences their holder off; both get a new job. A late job's token stays, since
// the job may only stand in a long queue and must still be good when its turn
// comes. It returns how many there were.
func (db *DB) TakeOver(ctx context.Context, staleAfter time.Duration) (int, error) {
	const bound = 100 // a sweep; the next one takes the rest
	type found struct {
		ID         string
		WorkloadID string
		Token      int64
		Held       bool
	}
	count := 0
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		rows, err := many[found](ctx, tx, `
			UPDATE operations o
			SET token = o.token + (o.heartbeat_at IS NOT NULL)::int, heartbeat_at = NULL, wake_at = now()
			FROM (
				SELECT id, heartbeat_at IS NOT NULL AS held FROM operations
				WHERE state IN ('queued', 'running') AND coalesce(heartbeat_at, wake_at) < now() - $1::interval
				ORDER BY number LIMIT $2 FOR UPDATE SKIP LOCKED
			) stale
			WHERE o.id = stale.id
			RETURNING o.id, o.workload_id, o.token, stale.held`, staleAfter, bound)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Held {
				event := fleet.Event{
					Type: fleet.EventWarning, Reason: "TakenOver",
					Message: "The process that worked at this fell silent. Another goes on where it stopped.",
				}
				if err := appendEvents(ctx, tx, r.ID, event); err != nil {
					return err
				}
				if err := ring(ctx, tx, operationBell(r.ID), workloadBell(r.WorkloadID)); err != nil {
					return err
				}
			}
			if err := db.enqueue(ctx, tx, r.ID, r.Token); err != nil {
				return err
			}
		}
		count = len(rows)
		return nil
	})
	return count, wrap("take over", err)
}

// Record writes what a holder did, all or nothing, and rings the bells;
// ErrFenced. A step that is recorded as it already stands makes no event.
func (db *DB) Record(ctx context.Context, id string, token int64, c fleet.Change) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		op, err := lockHeld(ctx, tx, id, token)
		if err != nil {
			return err
		}
		steps, err := recordSteps(ctx, tx, id, c.Steps)
		if err != nil {
			return err
		}
		events := slices.Concat(c.Events, steps)
		if c.Finish != "" {
			event, err := finish(ctx, tx, op, c)
			if err != nil {
				return err
			}
			events = append(events, event)
		} else if _, err := tx.Exec(ctx, `UPDATE operations SET heartbeat_at = now() WHERE id = $1`, id); err != nil {
			return err
		}
		if err := appendEvents(ctx, tx, id, events...); err != nil {
			return err
		}
		if err := recordWorkload(ctx, tx, op.WorkloadID, c); err != nil {
			return err
		}
		return ring(ctx, tx, operationBell(id), workloadBell(op.WorkloadID))
	})
	return wrap("record", err)
}

// recordSteps stores the new states of steps and returns their events.
func recordSteps(ctx context.Context, tx pgx.Tx, id string, changes []fleet.Step) ([]fleet.Event, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	steps, err := loadSteps(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	var events []fleet.Event
	for _, s := range changes {
		i := slices.IndexFunc(steps, func(have fleet.Step) bool { return have.Name == s.Name })
		if i < 0 {
			return nil, fmt.Errorf("the operation has no step %q", s.Name)
		}
		have := &steps[i]
		s.Message = storable(s.Message)
		if s.State == have.State && s.Message == have.Message {
			continue
		}
		if !s.State.MayFollow(have.State) {
			return nil, fmt.Errorf("step %q may not go from %s to %s", s.Name, have.State, s.State)
		}
		s.StartedAt = firstTime(have.StartedAt, s.StartedAt, now)
		if s.State == fleet.StepRunning {
			s.FinishedAt = time.Time{}
		} else {
			s.FinishedAt = firstTime(s.FinishedAt, now)
		}
		if _, err := tx.Exec(ctx, `
			UPDATE operation_steps SET state = $3, message = $4, started_at = $5, finished_at = $6
			WHERE operation_id = $1 AND name = $2`,
			id, s.Name, s.State, s.Message, nullTime(s.StartedAt), nullTime(s.FinishedAt)); err != nil {
			return nil, err
		}
		*have = s
		events = append(events, fleet.Event{
			At: now, Type: fleet.EventStep, Step: s.Name, State: string(s.State), Message: s.Message,
		})
	}
	return events, nil
}

func firstTime(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// finish ends the operation and returns its last event.
func finish(ctx context.Context, tx pgx.Tx, op operationRow, c fleet.Change) (fleet.Event, error) {
	if !c.Finish.Finished() || !c.Finish.MayFollow(op.State) {
		return fleet.Event{}, fmt.Errorf("an operation may not go from %s to %s", op.State, c.Finish)
	}
	_, err := tx.Exec(ctx, `
		UPDATE operations SET state = $2, failure = $3, finished_at = now(), heartbeat_at = NULL WHERE id = $1`,
		op.ID, c.Finish, c.Failure)
	event := fleet.Event{At: time.Now().UTC(), Type: fleet.EventOperation, State: string(c.Finish)}
	if c.Failure != nil {
		event.Reason, event.Object, event.Message = c.Failure.Reason, c.Failure.Object, c.Failure.Message
	}
	return event, err
}

// recordWorkload changes the workload's rows as the holder says, and its phase
// with them.
func recordWorkload(ctx context.Context, tx pgx.Tx, workloadID string, c fleet.Change) error {
	if c.Removed {
		_, err := tx.Exec(ctx, `DELETE FROM workloads WHERE id = $1`, workloadID)
		return err
	}
	if c.Replicas != nil || c.Stopped != nil {
		if _, err := tx.Exec(ctx, `
			UPDATE workloads SET replicas = coalesce($2, replicas), stopped = coalesce($3, stopped), updated_at = clock_timestamp()
			WHERE id = $1`, workloadID, c.Replicas, c.Stopped); err != nil {
			return err
		}
	}
	if c.ReleaseSucceeded > 0 {
		if _, err := tx.Exec(ctx, `UPDATE releases SET succeeded = true WHERE workload_id = $1 AND number = $2`,
			workloadID, c.ReleaseSucceeded); err != nil {
			return err
		}
	}
	if c.Observation != nil {
		if exists, err := lockWorkload(ctx, tx, workloadID); err != nil || !exists {
			return err
		}
		// A watch may be late without knowing, so the last look of a step that
		// succeeds replaces what it has stored. After a failure or a cancel that look
		// may be the older one. The watch reads the workload anew in either case.
		o := *c.Observation
		o.WorkloadID = workloadID
		return saveObservation(ctx, tx, o, c.Finish == fleet.OperationFailed || c.Finish == fleet.OperationCancelled)
	}
	if c.Finish != "" {
		return refreshPhase(ctx, tx, workloadID)
	}
	return nil
}

// wrap says which use of the store failed. Errors that callers look for stay
// visible through it.
func wrap(use string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("postgres: %s: %w", use, err)
}
