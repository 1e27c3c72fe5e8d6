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
