package auth

import (
	"context"
	"time"

	"github.com/alexedwards/scs/v2"

	"portolan/internal/fleet"
)

// SessionStore keeps the sessions for the session library.
type SessionStore interface {
	scs.Store
	// FindWithUser is Find with the user who has signed in in the session,
	// disabled or not; the zero User where nobody has.
	FindWithUser(ctx context.Context, tokenHash string) (data []byte, u fleet.User, found bool, err error)
}

// Store keeps users, and what throttles guesses.
type Store interface {
	// UserByEmail returns the user, disabled or not; CodeNotFound.
	UserByEmail(ctx context.Context, email string) (fleet.User, error)
	// UserByID returns the user, disabled or not; CodeNotFound.
	UserByID(ctx context.Context, id string) (fleet.User, error)
	// CountUsers returns how many there are.
	CountUsers(ctx context.Context) (int, error)
	// CreateUser inserts; an e-mail address that is taken is CodeConflict.
	// With first, it inserts only while there is no user at all (CodeConflict
	// otherwise), under a lock.
	CreateUser(ctx context.Context, u fleet.User, first bool, audit fleet.AuditEntry) error
	// SetPassword replaces the hash, counts the epoch up and ends all sessions.
	SetPassword(ctx context.Context, userID, hash string, audit fleet.AuditEntry) error
	// SetOwnPassword is SetPassword by u's session with tokenHash, and returns
	// the new epoch. When that session has ended, or u's epoch has been counted
	// up since u was read, it is CodeNotFound.
	SetOwnPassword(ctx context.Context, u fleet.User, tokenHash, hash string, audit fleet.AuditEntry) (epoch int64, err error)
	// ChangeUser stores the role of u and whether it is disabled, and ends all
	// its sessions. A row that has changed since u was read, and taking away
	// the last admin who can sign in, are CodeConflict. by is asked for once
	// more: one who is no admin any more is CodeForbidden.
	ChangeUser(ctx context.Context, u fleet.User, by fleet.Actor, audit fleet.AuditEntry) error
	// RemoveUser deletes u with its sessions, under the same conditions.
	RemoveUser(ctx context.Context, u fleet.User, by fleet.Actor, audit fleet.AuditEntry) error

	// Invite stores an invitation in place of an earlier one of the same
	// address. An address that has an account is CodeConflict, and somebody
	// who is no admin any more CodeForbidden.
	Invite(ctx context.Context, inv fleet.Invite, by fleet.Actor, audit fleet.AuditEntry) error
	// InviteByID returns an invitation; CodeNotFound.
	InviteByID(ctx context.Context, id string) (fleet.Invite, error)
	// InviteByToken returns one that has not ended yet; CodeNotFound.
	InviteByToken(ctx context.Context, tokenHash []byte) (fleet.Invite, error)
	// InviteEnded tells why a link does not work, and whose invitation it was.
	InviteEnded(ctx context.Context, tokenHash []byte) (email string, why fleet.InviteEnding, err error)
	// WithdrawInvite deletes an invitation; CodeNotFound.
	WithdrawInvite(ctx context.Context, id string, audit fleet.AuditEntry) error
	// AcceptInvite makes the account of an invitation, which is gone then; one
	// that is gone already is CodeNotFound.
	AcceptInvite(ctx context.Context, inviteID string, u fleet.User, audit fleet.AuditEntry) error

	// NoteSession writes down whose the session is and that it is in use.
	NoteSession(ctx context.Context, tokenHash string, s fleet.Session) error
	// SessionAddresses returns from where an account has been signed in
	// lately, each address once; none for one that does not exist.
	SessionAddresses(ctx context.Context, email string) ([]string, error)
	// SessionsOf returns the open sessions of a user; the one with tokenHash
	// is the current one.
	SessionsOf(ctx context.Context, userID, tokenHash string) ([]fleet.Session, error)
	// EndSession ends one session of a user; CodeNotFound.
	EndSession(ctx context.Context, userID, id string, audit fleet.AuditEntry) error
	// EndSessions ends all of them and counts the epoch up; CodeNotFound.
	EndSessions(ctx context.Context, userID string, audit fleet.AuditEntry) error
	// EndOwnSessions is EndSessions under the conditions of SetOwnPassword.
	EndOwnSessions(ctx context.Context, u fleet.User, tokenHash string, audit fleet.AuditEntry) (epoch int64, err error)

	// SetupToken stores the hash of the one-time token if there is none yet
	// and returns the stored one.
	SetupToken(ctx context.Context, hash []byte) (stored []byte, err error)

	// LoginFailures counts the failures of key since then.
	LoginFailures(ctx context.Context, key string, since time.Time) (int, error)
	// AddLoginFailure records one, and drops those older than a day.
	AddLoginFailure(ctx context.Context, key string, at time.Time) error
	// ClearLoginFailures forgets those of key.
	ClearLoginFailures(ctx context.Context, key string) error

	// Audit appends to the record.
	Audit(ctx context.Context, entry fleet.AuditEntry) error
}
