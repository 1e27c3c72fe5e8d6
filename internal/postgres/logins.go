package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// loginFailuresKept is longer than any window in which failures are counted.
const loginFailuresKept = 24 * time.Hour

// LoginFailures counts the failures of key since then.
func (db *DB) LoginFailures(ctx context.Context, key string, since time.Time) (int, error) {
	var n int
	err := db.pool.QueryRow(ctx, `SELECT count(*) FROM login_failures WHERE key = $1 AND at >= $2`, key, since).Scan(&n)
	return n, wrap("login failures", err)
}

// AddLoginFailure records one, and drops those older than a day.
func (db *DB) AddLoginFailure(ctx context.Context, key string, at time.Time) error {
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM login_failures WHERE at < $1`, at.Add(-loginFailuresKept))
	batch.Queue(`INSERT INTO login_failures (key, at) VALUES ($1, $2)`, key, at)
	return wrap("login failure", db.pool.SendBatch(ctx, batch).Close())
}

// ClearLoginFailures forgets those of key.
func (db *DB) ClearLoginFailures(ctx context.Context, key string) error {
	_, err := db.pool.Exec(ctx, `DELETE FROM login_failures WHERE key = $1`, key)
	return wrap("login failures", err)
}
