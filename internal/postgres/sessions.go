package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// The rows of sessions are the session library's; what a person is shown of
// them stands beside. tokenHash is how the library names a row.

// NoteSession writes down whose the session is and that it is in use.
func (db *DB) NoteSession(ctx context.Context, tokenHash string, s fleet.Session) error {
	_, err := db.pool.Exec(ctx, `
		UPDATE sessions SET user_id = $2, address = $3, agent = $4, seen_at = now() WHERE token = $1`,
		tokenHash, s.UserID, storable(s.Address), storable(s.Agent))
	return wrap("session", err)
}

// SessionAddresses returns from where a user has been signed in lately, the
// latest first; none for an address that has no account.
func (db *DB) SessionAddresses(ctx context.Context, email string) ([]string, error) {
	addresses, err := column[string](ctx, db.pool, `
		SELECT address FROM sessions WHERE user_id = (SELECT id FROM users WHERE email = $1)
		GROUP BY address ORDER BY max(seen_at) DESC LIMIT 200`, email)
	return addresses, wrap("session addresses", err)
}

// SessionsOf returns the sessions of a user that are open, the latest used
// first. The one that has tokenHash is the current one.
func (db *DB) SessionsOf(ctx context.Context, userID, tokenHash string) ([]fleet.Session, error) {
	type row struct {
		ID, UserID, Address, Agent string
		StartedAt, SeenAt          time.Time
		Current                    bool
	}
	rows, err := many[row](ctx, db.pool, `
		SELECT id, user_id, address, agent, started_at, seen_at, token = $2 AS current FROM sessions
		WHERE user_id = $1 AND NOT ended AND expiry > now()
		ORDER BY current DESC, seen_at DESC, id LIMIT 200`, userID, tokenHash)
	sessions := make([]fleet.Session, len(rows))
	for i, r := range rows {
		sessions[i] = fleet.Session(r)
	}
	return sessions, wrap("sessions", err)
}

// EndSession ends one session of a user; CodeNotFound.
func (db *DB) EndSession(ctx context.Context, userID, id string, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE sessions SET ended = true, expiry = now() WHERE id = $1 AND user_id = $2 AND NOT ended`, id, userID)
		if absent(err) || err == nil && tag.RowsAffected() == 0 {
			return fleet.NotFound("This session has ended already.")
		}
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	return wrap("end session", err)
}

// EndSessions ends all sessions of a user; CodeNotFound.
func (db *DB) EndSessions(ctx context.Context, userID string, audit fleet.AuditEntry) error {
	return wrap("end sessions", db.signOut(ctx, userID, audit, `UPDATE users SET epoch = epoch + 1 WHERE id = $1`))
}

// signOut runs an update of the row of a user, the first of its arguments, that
// counts the epoch up, and ends all sessions; CodeNotFound.
func (db *DB) signOut(ctx context.Context, userID string, audit fleet.AuditEntry, update string, args ...any) error {
	return db.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, update, append([]any{userID}, args...)...)
		if absent(err) || err == nil && tag.RowsAffected() == 0 {
			return fleet.NotFound("There is no such user.")
		}
		if err != nil {
			return err
		}
		if err := endSessions(ctx, tx, userID); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
}

// EndOwnSessions ends all sessions of u, who asks for it in the one with
// tokenHash, and returns the new epoch. CodeNotFound: see restartEpoch.
func (db *DB) EndOwnSessions(ctx context.Context, u fleet.User, tokenHash string, audit fleet.AuditEntry) (epoch int64, err error) {
	err = db.inTx(ctx, func(tx pgx.Tx) error {
		if epoch, err = restartEpoch(ctx, tx, u, tokenHash); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	return epoch, wrap("end own sessions", err)
}

// restartEpoch counts the epoch of u up, ends all sessions and returns the new
// epoch. When the session with tokenHash has ended, or the epoch has been
// counted up since u was read, it is CodeNotFound. Whoever ends that session at
// the same time does so before or after this transaction.
func restartEpoch(ctx context.Context, tx pgx.Tx, u fleet.User, tokenHash string) (epoch int64, err error) {
	err = tx.QueryRow(ctx, `UPDATE users SET epoch = epoch + 1 WHERE id = $1 AND epoch = $2 RETURNING epoch`, u.ID, u.Epoch).Scan(&epoch)
	if err == nil {
		var token string
		err = tx.QueryRow(ctx, `
			SELECT token FROM sessions WHERE token = $1 AND user_id = $2 AND NOT ended AND expiry > now() FOR UPDATE`,
			tokenHash, u.ID).Scan(&token)
	}
	if err != nil {
		return 0, orNotFound(err, "This session has ended already.")
	}
	return epoch, endSessions(ctx, tx, u.ID)
}

func endSessions(ctx context.Context, q querier, userID string) error {
	_, err := q.Exec(ctx, `UPDATE sessions SET ended = true, expiry = now() WHERE user_id = $1 AND NOT ended`, userID)
	return err
}
