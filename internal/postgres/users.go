package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type userRow struct {
	ID           string
	Email        string
	Role         fleet.Role
	PasswordHash string
	Disabled     bool
	Epoch        int64
	CreatedAt    time.Time
}

const userColumns = `id, email, role, password_hash, disabled, epoch, created_at`

// UserByEmail returns the user, disabled or not; CodeNotFound.
func (db *DB) UserByEmail(ctx context.Context, email string) (fleet.User, error) {
	row, err := one[userRow](ctx, db.pool, `SELECT `+userColumns+` FROM users WHERE email = $1`, email)
	return fleet.User(row), wrap("user", orNotFound(err, "There is no such user."))
}

// UserByID returns the user, disabled or not; CodeNotFound.
func (db *DB) UserByID(ctx context.Context, id string) (fleet.User, error) {
	row, err := one[userRow](ctx, db.pool, `SELECT `+userColumns+` FROM users WHERE id = $1`, id)
	return fleet.User(row), wrap("user", orNotFound(err, "There is no such user."))
}

// Users returns all of them, by e-mail address.
func (db *DB) Users(ctx context.Context) ([]fleet.User, error) {
	rows, err := many[userRow](ctx, db.pool, `SELECT `+userColumns+` FROM users ORDER BY email`)
	users := make([]fleet.User, len(rows))
	for i, r := range rows {
		users[i] = fleet.User(r)
	}
	return users, wrap("users", err)
}

// CountUsers returns how many there are.
func (db *DB) CountUsers(ctx context.Context) (int, error) {
	var n int
	err := db.pool.QueryRow(ctx, `SELECT count(*) FROM users`).Scan(&n)
	return n, wrap("users", err)
}

// CreateUser inserts; an e-mail address that is taken is CodeConflict with a
// problem at "email". With first, it inserts only while there is no user at all
// (CodeConflict otherwise), under a lock.
func (db *DB) CreateUser(ctx context.Context, u fleet.User, first bool, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if first {
			// Readers go on; whoever else would insert waits.
			if _, err := tx.Exec(ctx, `LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE`); err != nil {
				return err
			}
			var taken bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM users)`).Scan(&taken); err != nil {
				return err
			}
			if taken {
				return fleet.Conflict("This Portolan has been set up already.")
			}
		}
		if err := insertUser(ctx, tx, u); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	if violatesConstraint(err, "users_email_key") {
		return emailTaken(u.Email)
	}
	return wrap("create user", err)
}

func insertUser(ctx context.Context, q querier, u fleet.User) error {
	_, err := q.Exec(ctx, `
		INSERT INTO users (id, email, role, password_hash, disabled, epoch, created_at)
		VALUES ($1, $2, $3, $4, $5, greatest($6, 1), coalesce($7, now()))`,
		u.ID, u.Email, u.Role, u.PasswordHash, u.Disabled, u.Epoch, nullTime(u.CreatedAt))
	return err
}

func emailTaken(email string) error {
	taken := fleet.Conflict("There is already a user %s.", email)
	taken.Problems = fleet.Problems{"email": "This address is taken."}
	return taken
}

// SetPassword replaces the hash, counts the epoch up and ends all sessions;
// CodeNotFound.
func (db *DB) SetPassword(ctx context.Context, userID, hash string, audit fleet.AuditEntry) error {
	return wrap("set password", db.signOut(ctx, userID, audit, `UPDATE users SET password_hash = $2, epoch = epoch + 1 WHERE id = $1`, hash))
}

// SetOwnPassword replaces the hash of u, who asks for it in the session with
// tokenHash, counts the epoch up, returns it and ends all sessions.
// CodeNotFound: see restartEpoch.
func (db *DB) SetOwnPassword(ctx context.Context, u fleet.User, tokenHash, hash string, audit fleet.AuditEntry) (epoch int64, err error) {
	err = db.inTx(ctx, func(tx pgx.Tx) error {
		if epoch, err = restartEpoch(ctx, tx, u, tokenHash); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1`, u.ID, hash); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	return epoch, wrap("set own password", err)
}

// ListUsers returns one page of users by e-mail address.
func (db *DB) ListUsers(ctx context.Context, f fleet.UserFilter) (fleet.Page[fleet.UserRow], error) {
	var page fleet.Page[fleet.UserRow]
	after, _, err := pairCursor(f.After)
	if err != nil {
		return page, err
	}
	limit := pageLimit(f.Limit)
	type row struct {
		userRow
		Sessions int
		SeenAt   *time.Time
	}
	rows, err := many[row](ctx, db.pool, `
		SELECT `+userColumns+`, open.sessions, open.seen_at FROM users,
		LATERAL (SELECT count(*) AS sessions, max(seen_at) AS seen_at FROM sessions s
			WHERE s.user_id = users.id AND NOT s.ended AND s.expiry > now()) open
		WHERE email > $1 AND ($2 = '' OR email LIKE $2) ORDER BY email LIMIT $3`,
		after, likePattern(strings.ToLower(f.Query)), limit+1)
	if err != nil {
		return page, wrap("users", err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Next = formatPair(rows[limit-1].Email, rows[limit-1].ID)
	}
	for _, r := range rows {
		page.Rows = append(page.Rows, fleet.UserRow{User: fleet.User(r.userRow), Sessions: r.Sessions, SeenAt: timeOf(r.SeenAt)})
	}
	return page, nil
}

// ChangeUser stores the role of u and whether it is disabled, and ends all its
// sessions. A row that has changed since u was read, and taking away the last
// admin, are CodeConflict; by who is no admin any more is CodeForbidden.
func (db *DB) ChangeUser(ctx context.Context, u fleet.User, by fleet.Actor, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if u.Role != fleet.RoleAdmin || u.Disabled {
			if err := keepAnAdmin(ctx, tx, u.ID); err != nil {
				return err
			}
		}
		if err := stillAdmin(ctx, tx, by); err != nil {
			return err
		}
		if u.Role != fleet.RoleAdmin || u.Disabled {
			if err := withdrawInvitesOf(ctx, tx, u); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `UPDATE users SET role = $3, disabled = $4, epoch = epoch + 1 WHERE id = $1 AND epoch = $2`,
			u.ID, u.Epoch, u.Role, u.Disabled)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errUserChanged
		}
		if err := endSessions(ctx, tx, u.ID); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	return wrap("change user", err)
}

// RemoveUser deletes u with all its sessions. A row that has changed since u
// was read, and taking away the last admin, are CodeConflict; by who is no
// admin any more is CodeForbidden.
func (db *DB) RemoveUser(ctx context.Context, u fleet.User, by fleet.Actor, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if err := keepAnAdmin(ctx, tx, u.ID); err != nil {
			return err
		}
		if err := stillAdmin(ctx, tx, by); err != nil {
			return err
		}
		if err := withdrawInvitesOf(ctx, tx, u); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM users WHERE id = $1 AND epoch = $2`, u.ID, u.Epoch)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errUserChanged
		}
		return insertAudit(ctx, tx, audit)
	})
	return wrap("remove user", err)
}

// withdrawInvitesOf keeps somebody who is no admin any more from coming back by
// a link of their own.
func withdrawInvitesOf(ctx context.Context, tx pgx.Tx, u fleet.User) error {
	_, err := tx.Exec(ctx, `
		WITH gone AS (DELETE FROM invites WHERE invited_by = $1 RETURNING token_hash, email, expires_at)
		`+noteEnded(`CASE WHEN expires_at > now() THEN $2 ELSE 'expired' END FROM gone`),
		u.Email, fleet.InviteWithdrawn)
	return err
}

var errUserChanged = &fleet.Error{
	Code: fleet.CodeConflict, Message: "This account has been changed meanwhile.",
	Remedy: "Look at it as it is now, and decide again.",
}

// stillAdmin refuses who is no admin any more, or was signed out everywhere
// since; whoever would do that to them now waits for this transaction. Where
// keepAnAdmin is called too it comes first: it locks all admins in one order.
func stillAdmin(ctx context.Context, tx pgx.Tx, by fleet.Actor) error {
	if by.ID == "" { // not an account: the command line
		return nil
	}
	var is bool
	err := tx.QueryRow(ctx, `
		SELECT role = 'admin' AND NOT disabled AND epoch = $2 FROM users WHERE id = $1 FOR SHARE`, by.ID, by.Epoch).Scan(&is)
	if absent(err) || err == nil && !is {
		return &fleet.Error{Code: fleet.CodeForbidden, Message: "Your account does not allow this any more."}
	}
	return err
}

// keepAnAdmin refuses to go on when the user is the only admin who can sign
// in. Whoever else would take one away waits for this transaction.
func keepAnAdmin(ctx context.Context, tx pgx.Tx, userID string) error {
	admins, err := column[string](ctx, tx, `
		SELECT id::text FROM users WHERE role = 'admin' AND NOT disabled ORDER BY id FOR UPDATE`)
	if err != nil {
		return err
	}
	if len(admins) == 1 && admins[0] == userID {
		return &fleet.Error{
			Code: fleet.CodeConflict, Message: "This is the only admin who can sign in.",
			Remedy: "Make somebody else an admin first.",
		}
	}
	return nil
}
