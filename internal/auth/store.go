package auth

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

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
	// SetPassword replaces the hash and counts the epoch up.
	SetPassword(ctx context.Context, userID, hash string, audit fleet.AuditEntry) error

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
