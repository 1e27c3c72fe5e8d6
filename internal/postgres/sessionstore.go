package postgres

import (
	"context"
	"errors"

	"github.com/alexedwards/scs/pgxstore"
	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
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

// FindWithUser returns what the library keeps of a session that is open, and the
// user who has signed in in it, disabled or not; the zero User where nobody has.
func (s *SessionStore) FindWithUser(ctx context.Context, tokenHash string) (data []byte, u fleet.User, found bool, err error) {
	type row struct {
		Data []byte
		userRow
	}
	r, err := one[row](ctx, s.db.pool, `
		SELECT s.data, coalesce(u.id::text, '') AS id, coalesce(u.email, '') AS email, coalesce(u.role, '') AS role,
			coalesce(u.password_hash, '') AS password_hash, coalesce(u.disabled, false) AS disabled,
			coalesce(u.epoch, 0) AS epoch, coalesce(u.created_at, s.started_at) AS created_at
		FROM sessions s LEFT JOIN users u ON u.id = s.user_id
		WHERE s.token = $1 AND NOT s.ended AND s.expiry > now()`, tokenHash)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, u, false, nil
	case err != nil:
		return nil, u, false, wrap("session", err)
	case r.ID != "":
		u = fleet.User(r.userRow)
	}
	return r.Data, u, true, nil
}

// Delete ends a session for good. One that is not there is no error.
func (s *SessionStore) Delete(tokenHash string) error {
	_, err := s.db.pool.Exec(context.Background(), `
		UPDATE sessions SET ended = true, expiry = least(expiry, now()) WHERE token = $1 AND NOT ended`, tokenHash)
	return wrap("end session", err)
}
