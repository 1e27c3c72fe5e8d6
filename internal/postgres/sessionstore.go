package postgres

import (
	"context"

	"github.com/alexedwards/scs/pgxstore"
)

// SessionStore is where the session library keeps its sessions. Rows are
// written and read by the library's own store. They are only ever marked as
// ended, never deleted by who ends them: a request that was under way writes
// down what it had read, and would bring a row that is gone back to life. What
// has ended goes with RemoveOld, long after any such request.
type SessionStore struct {
	*pgxstore.PostgresStore
	db *DB
}

// SessionStore returns the store of the sessions.
func (db *DB) SessionStore() *SessionStore {
	return &SessionStore{PostgresStore: pgxstore.NewWithCleanupInterval(db.pool, 0), db: db}
}

// Delete ends a session for good. One that is not there is no error.
func (s *SessionStore) Delete(tokenHash string) error {
	_, err := s.db.pool.Exec(context.Background(), `
		UPDATE sessions SET ended = true, expiry = least(expiry, now()) WHERE token = $1 AND NOT ended`, tokenHash)
	return wrap("end session", err)
}
