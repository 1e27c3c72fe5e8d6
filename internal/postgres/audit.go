package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// Audit appends to the record.
func (db *DB) Audit(ctx context.Context, entry fleet.AuditEntry) error {
	if err := insertAudit(ctx, db.pool, entry); err != nil {
		return fmt.Errorf("postgres: audit: %w", err)
	}
	return nil
}

// insertAudit appends an entry; one without an action is none. An entry
// without a time gets the present one.
func insertAudit(ctx context.Context, q querier, e fleet.AuditEntry) error {
	if e.Action == "" {
		return nil
	}
	e = e.Printable()
	_, err := q.Exec(ctx, `
		INSERT INTO audit (at, actor, action, target, outcome, reason, address, diff)
		VALUES (coalesce($1, now()), $2, $3, $4, $5, $6, $7, $8)`,
		nullTime(e.At), e.Actor, e.Action, e.Target, e.Outcome, e.Reason, e.Address, e.Diff)
	return err
}

type auditRow struct {
	ID                                              int64
	At                                              time.Time
	Actor, Action, Target, Outcome, Reason, Address string
	Diff                                            map[string][2]string
}

// AuditEntries returns the record, newest first. The filter's Query is part
// of the actor, the action or the target.
func (db *DB) AuditEntries(ctx context.Context, f fleet.AuditFilter) (fleet.Page[fleet.AuditEntry], error) {
	var page fleet.Page[fleet.AuditEntry]
	after, err := numberCursor(f.After)
	if err != nil {
		return page, err
	}
	limit := pageLimit(f.Limit)
	rows, err := db.pool.Query(ctx, `
		SELECT id, at, actor, action, target, outcome, reason, address, diff FROM audit
		WHERE ($1 = 0 OR id < $1) AND ($2 = '' OR actor ILIKE $2 OR action ILIKE $2 OR target ILIKE $2)
		ORDER BY id DESC LIMIT $3`, after, likePattern(f.Query), limit+1)
	if err != nil {
		return page, fmt.Errorf("postgres: audit: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[auditRow])
	if err != nil {
		return page, fmt.Errorf("postgres: audit: %w", err)
	}
	if len(found) > limit {
		found = found[:limit]
		page.Next = formatNumber(found[limit-1].ID)
	}
	for _, r := range found {
		page.Rows = append(page.Rows, fleet.AuditEntry{
			At: r.At, Actor: r.Actor, Action: r.Action, Target: r.Target,
			Outcome: r.Outcome, Reason: r.Reason, Address: r.Address, Diff: r.Diff,
		})
	}
	return page, nil
}
