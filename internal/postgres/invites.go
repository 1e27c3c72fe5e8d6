package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type inviteRow struct {
	ID        string
	Email     string
	Role      fleet.Role
	TokenHash []byte
	InvitedBy string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// inviteLock is "invi" as bytes: the first key of the locks on addresses.
const inviteLock int32 = 0x696e7669

const inviteColumns = `id, email, role, token_hash, invited_by, created_at, expires_at`

// Invites returns the newest 100 invitations that nobody has accepted yet.
func (db *DB) Invites(ctx context.Context) ([]fleet.Invite, error) {
	rows, err := many[inviteRow](ctx, db.pool, `SELECT `+inviteColumns+` FROM invites ORDER BY created_at DESC, id LIMIT 100`)
	invites := make([]fleet.Invite, len(rows))
	for i, r := range rows {
		invites[i] = fleet.Invite(r)
	}
	return invites, wrap("invites", err)
}

// Invite stores an invitation in place of an earlier one of the same address.
// An address that has an account is CodeConflict with a problem at "email", by
// who is no admin any more CodeForbidden.
func (db *DB) Invite(ctx context.Context, inv fleet.Invite, by fleet.Actor, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if err := stillAdmin(ctx, tx, by); err != nil {
			return err
		}
		// One at a time for each address: of two first ones, too, the earlier is
		// noted as replaced.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1, hashtext($2))`, inviteLock, inv.Email); err != nil {
			return err
		}
		// The lock on the row has whoever withdraws or accepts it come first, or
		// find it replaced.
		if _, err := tx.Exec(ctx, `
			WITH old AS (SELECT token_hash, email, expires_at FROM invites WHERE email = $1 FOR UPDATE)
			`+noteEnded(`CASE WHEN expires_at > now() THEN $2 ELSE 'expired' END FROM old`),
			inv.Email, fleet.InviteReplaced); err != nil {
			return err
		}
		var taken bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM users WHERE email = $1)`, inv.Email).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return emailTaken(inv.Email)
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO invites (`+inviteColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (email) DO UPDATE SET id = EXCLUDED.id, role = EXCLUDED.role, token_hash = EXCLUDED.token_hash,
				invited_by = EXCLUDED.invited_by, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at`,
			inv.ID, inv.Email, inv.Role, inv.TokenHash, inv.InvitedBy, inv.CreatedAt, inv.ExpiresAt); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	return wrap("invite", err)
}

// InviteByID returns an invitation; CodeNotFound.
func (db *DB) InviteByID(ctx context.Context, id string) (fleet.Invite, error) {
	row, err := one[inviteRow](ctx, db.pool, `SELECT `+inviteColumns+` FROM invites WHERE id = $1`, id)
	return fleet.Invite(row), wrap("invite", orNotFound(err, "There is no such invitation."))
}

// InviteByToken returns the invitation of a link that has not ended yet;
// CodeNotFound.
func (db *DB) InviteByToken(ctx context.Context, tokenHash []byte) (fleet.Invite, error) {
	row, err := one[inviteRow](ctx, db.pool, `
		SELECT `+inviteColumns+` FROM invites WHERE token_hash = $1 AND expires_at > now()`, tokenHash)
	return fleet.Invite(row), wrap("invite", orNotFound(err, "There is no such invitation."))
}

// InviteEnded tells why a link does not work, and whose invitation it was:
// fleet.InviteUnknown and "" where nothing is known of it.
func (db *DB) InviteEnded(ctx context.Context, tokenHash []byte) (email string, why fleet.InviteEnding, err error) {
	err = db.pool.QueryRow(ctx, `
		SELECT email, ending FROM ended_invites WHERE token_hash = $1
		UNION ALL SELECT email, 'expired' FROM invites WHERE token_hash = $1 AND expires_at <= now() LIMIT 1`, tokenHash).Scan(&email, &why)
	if absent(err) {
		return "", fleet.InviteUnknown, nil
	}
	return email, why, wrap("ended invite", err)
}

// WithdrawInvite deletes an invitation; CodeNotFound.
func (db *DB) WithdrawInvite(ctx context.Context, id string, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if err := endInvite(ctx, tx, id, fleet.InviteWithdrawn); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	return wrap("withdraw invite", err)
}

// AcceptInvite makes the account of an invitation, which is gone then. One
// that is gone already is CodeNotFound, an address that has an account by now
// CodeConflict.
func (db *DB) AcceptInvite(ctx context.Context, inviteID string, u fleet.User, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if err := endInvite(ctx, tx, inviteID, fleet.InviteUsed); err != nil {
			return err
		}
		if err := insertUser(ctx, tx, u); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	})
	if violatesConstraint(err, "users_email_key") {
		return emailTaken(u.Email)
	}
	return wrap("accept invite", err)
}

// noteEnded is a statement that notes what became of invitations; ending is the
// SQL that says what, and where their rows come from.
func noteEnded(ending string) string {
	return `INSERT INTO ended_invites (token_hash, email, ending) SELECT token_hash, email, ` + ending + ` ON CONFLICT DO NOTHING`
}

func endInvite(ctx context.Context, q querier, id string, why fleet.InviteEnding) error {
	tag, err := q.Exec(ctx, `
		WITH gone AS (DELETE FROM invites WHERE id = $1 RETURNING token_hash, email, expires_at),
		noted AS (`+noteEnded(`CASE WHEN expires_at > now() OR $2 = 'used' THEN $2 ELSE 'expired' END FROM gone`)+`)
		SELECT FROM gone`, id, why)
	if absent(err) || err == nil && tag.RowsAffected() == 0 {
		return fleet.NotFound("There is no such invitation.")
	}
	return err
}
