package postgres

import (
	"context"
)

// Installation identifies this Portolan among those that share a cluster.
func (db *DB) Installation(ctx context.Context) (string, error) {
	var id string
	err := db.pool.QueryRow(ctx, `SELECT installation_id::text FROM settings`).Scan(&id)
	return id, wrap("installation", err)
}

// SetupToken stores the hash of the one-time token if there is none yet and
// returns the stored one.
func (db *DB) SetupToken(ctx context.Context, hash []byte) (stored []byte, err error) {
	err = db.pool.QueryRow(ctx, `
		UPDATE settings SET setup_token_hash = coalesce(setup_token_hash, $1) RETURNING setup_token_hash`, hash).Scan(&stored)
	return stored, wrap("setup token", err)
}

// ServerMajor is the major version of the server, such as 15.
func (db *DB) ServerMajor(ctx context.Context) (int, error) {
	var number int
	err := db.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&number)
	return number / 10000, wrap("version", err)
}

// Empty reports whether the database holds no tables, views or sequences.
func (db *DB) Empty(ctx context.Context) (bool, error) {
	var empty bool
	err := db.pool.QueryRow(ctx, `
		SELECT NOT EXISTS (
			SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%')`).Scan(&empty)
	return empty, wrap("empty", err)
}
