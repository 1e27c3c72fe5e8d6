package postgres

import (
	"context"
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
		if _, err := tx.Exec(ctx, `
			INSERT INTO users (id, email, role, password_hash, disabled, epoch, created_at)
			VALUES ($1, $2, $3, $4, $5, greatest($6, 1), coalesce($7, now()))`,
			u.ID, u.Email, u.Role, u.PasswordHash, u.Disabled, u.Epoch, nullTime(u.CreatedAt)); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	if violatesConstraint(err, "users_email_key") {
		taken := fleet.Conflict("There is already a user %s.", u.Email)
		taken.Problems = fleet.Problems{"email": "This address is taken."}
		return taken
	}
	return wrap("create user", err)
}

// SetPassword replaces the hash and counts the epoch up; CodeNotFound.
func (db *DB) SetPassword(ctx context.Context, userID, hash string, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE users SET password_hash = $2, epoch = epoch + 1 WHERE id = $1`, userID, hash)
		if absent(err) || err == nil && tag.RowsAffected() == 0 {
			return fleet.NotFound("There is no such user.")
		}
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	return wrap("set password", err)
}
