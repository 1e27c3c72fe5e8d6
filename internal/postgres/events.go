package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type eventRow struct {
	OperationID string
	Seq         int64
	At          time.Time
	Type        fleet.EventType
	Step        fleet.StepName
	State       string
	Reason      string
	Object      string
	Message     string
}

// appendEvents adds events to an operation's record. They are numbered under
// the lock of the operation's row, so that they become visible in the order of
// their numbers and a reader that has seen one has been offered all before it.
func appendEvents(ctx context.Context, tx pgx.Tx, operationID string, events ...fleet.Event) error {
	if len(events) == 0 {
		return nil
	}
	var last int64
	if err := tx.QueryRow(ctx, `UPDATE operations SET last_seq = last_seq + $2 WHERE id = $1 RETURNING last_seq`,
		operationID, len(events)).Scan(&last); err != nil {
		return err
	}
	seq := last - int64(len(events))
	batch := &pgx.Batch{}
	for _, e := range events {
		seq++
		batch.Queue(`
			INSERT INTO operation_events (operation_id, seq, at, type, step, state, reason, object, message)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			operationID, seq, firstTime(e.At, time.Now().UTC()), e.Type, e.Step, e.State,
			storable(e.Reason), storable(e.Object), storable(e.Message))
	}
	return tx.SendBatch(ctx, batch).Close()
}

// EventsSince returns the events of an operation whose number is above seq, in
// order. limit 0 = 1000.
func (db *DB) EventsSince(ctx context.Context, operationID string, seq int64, limit int) ([]fleet.Event, error) {
	if limit <= 0 {
		limit = 1000
	}
	rows, err := many[eventRow](ctx, db.pool, `
		SELECT operation_id, seq, at, type, step, state, reason, object, message FROM operation_events
		WHERE operation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, operationID, seq, limit)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("postgres: events: %w", err)
	}
	events := make([]fleet.Event, len(rows))
	for i, r := range rows {
		events[i] = fleet.Event(r)
	}
	return events, nil
}
