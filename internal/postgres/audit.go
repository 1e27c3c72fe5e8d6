package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// auditBatch is how many entries EachAuditEntry reads at a time.
const auditBatch = 1000

// Audit appends to the record.
func (db *DB) Audit(ctx context.Context, entry fleet.AuditEntry) error {
	if err := insertAudit(ctx, db.pool, entry); err != nil {
		return fmt.Errorf("postgres: audit: %w", err)
	}
	return nil
}

// insertAudit appends an entry; one without an action is none. An entry
// without a time gets the present one. One that folds into an earlier entry is
// counted there.
func insertAudit(ctx context.Context, q querier, e fleet.AuditEntry) error {
	if e.Action == "" {
		return nil
	}
	e = e.Printable()
	_, err := q.Exec(ctx, `
		INSERT INTO audit (at, actor, action, target, outcome, reason, address, diff, fold)
		VALUES (coalesce($1, now()), $2, $3, $4, $5, $6, $7, $8, nullif($9, ''))
		ON CONFLICT (fold) WHERE fold IS NOT NULL DO UPDATE SET times = audit.times + 1`,
		nullTime(e.At), e.Actor, e.Action, e.Target, e.Outcome, e.Reason, e.Address, e.Diff, storable(e.Fold))
	return err
}

type auditRow struct {
	ID                                              int64
	At                                              time.Time
	Actor, Action, Target, Outcome, Reason, Address string
	Diff                                            map[string][2]string
	Times                                           int
}

// AuditEntries returns the record, newest first.
func (db *DB) AuditEntries(ctx context.Context, f fleet.AuditFilter) (fleet.Page[fleet.AuditEntry], error) {
	page, err := db.auditEntries(ctx, f, pageLimit(f.Limit))
	if err != nil {
		return page, fmt.Errorf("postgres: audit: %w", err)
	}
	return page, nil
}

// EachAuditEntry calls do with every entry that the filter chooses, newest
// first. It reads some at a time and holds nothing in between, so that do may
// take as long as it needs. Entries made meanwhile are not seen.
func (db *DB) EachAuditEntry(ctx context.Context, f fleet.AuditFilter, do func(fleet.AuditEntry) error) error {
	for {
		page, err := db.auditEntries(ctx, f, auditBatch)
		if err != nil {
			return fmt.Errorf("postgres: audit: %w", err)
		}
		for _, e := range page.Rows {
			if err := do(e); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		f.After = page.Next
	}
}

func (db *DB) auditEntries(ctx context.Context, f fleet.AuditFilter, limit int) (page fleet.Page[fleet.AuditEntry], err error) {
	where, args, err := auditWhere(f)
	if err != nil {
		return page, err
	}
	// Planned for its values each time: which index is best depends on how
	// often they occur.
	found, err := many[auditRow](ctx, db.pool, `
		SELECT id, at, actor, action, target, outcome, reason, address, diff, times FROM audit
		`+where+` ORDER BY at DESC, id DESC LIMIT `+strconv.Itoa(limit+1),
		append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
	if err != nil {
		return page, err
	}
	if len(found) > limit {
		found = found[:limit]
		last := found[limit-1]
		page.Next = formatPair(last.At.Format(time.RFC3339Nano), formatNumber(last.ID))
	}
	for _, r := range found {
		page.Rows = append(page.Rows, fleet.AuditEntry{
			ID: r.ID, At: r.At, Actor: r.Actor, Action: r.Action, Target: r.Target,
			Outcome: r.Outcome, Reason: r.Reason, Address: r.Address, Diff: r.Diff, Times: r.Times,
		})
	}
	return page, nil
}

// auditWhere writes only the conditions that there are, so that each can be
// answered by its index.
func auditWhere(f fleet.AuditFilter) (string, []any, error) {
	var conditions []string
	var args []any
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(args)), 1)
		}
		conditions = append(conditions, condition)
	}
	if email, whole := fleet.CleanEmail(f.Actor); whole {
		add("actor = ?", email)
	} else if f.Actor != "" {
		add("actor LIKE ?", likeBeginning(f.Actor))
	}
	if f.Action != "" {
		add("action = ?", storable(f.Action))
	}
	if f.Target != "" {
		add("target LIKE ?", likeBeginning(f.Target))
	}
	switch f.Outcome {
	case "":
	case "ok":
		add("outcome = 'ok'")
	default: // in this form the index of what was not ok is seen to fit
		add("outcome <> 'ok' AND outcome = ?", storable(f.Outcome))
	}
	if !f.From.IsZero() {
		add("at >= ?", f.From)
	}
	if !f.To.IsZero() {
		add("at < ?", f.To)
	}
	if f.After != "" {
		text, number, err := pairCursor(f.After)
		if err != nil {
			return "", nil, err
		}
		id, err := numberCursor(number)
		if err != nil {
			return "", nil, err
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return "", nil, errCursor
		}
		add("(at, id) < (?, ?)", at, id)
	}
	if len(conditions) == 0 {
		return "", nil, nil
	}
	return "WHERE " + strings.Join(conditions, " AND "), args, nil
}
