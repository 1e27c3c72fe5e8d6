package fleet

import (
	"net/mail"
	"strings"
	"time"
)

// Role is what a person may do.
type Role string

const (
	RoleViewer   Role = "viewer"   // reads; no secret values
	RoleOperator Role = "operator" // runs workloads
	RoleAdmin    Role = "admin"    // everything
)

// Roles lists every role from the least to the most.
var Roles = []Role{RoleViewer, RoleOperator, RoleAdmin}

// Includes reports whether r may do all that other may.
func (r Role) Includes(other Role) bool {
	rank := map[Role]int{RoleViewer: 1, RoleOperator: 2, RoleAdmin: 3}
	return rank[r] != 0 && rank[r] >= rank[other]
}

// User is a person who signs in.
type User struct {
	ID           string // UUID
	Email        string // lower case
	Role         Role
	PasswordHash string
	Disabled     bool
	Epoch        int64 // sessions of an earlier epoch are void
	CreatedAt    time.Time
}

// UserRow is one user of a list.
type UserRow struct {
	User
	Sessions int       // that are open
	SeenAt   time.Time // latest use of one of them; zero when there is none
}

// Session is one place where a person is signed in.
type Session struct {
	ID        string // UUID; not what its cookie holds
	UserID    string
	Address   string // of the client, when last seen
	Agent     string // the User-Agent of the client
	StartedAt time.Time
	SeenAt    time.Time // exact to some minutes
	Current   bool      // it is the one that asks
}

// Invite lets whoever holds its link make an account.
type Invite struct {
	ID        string // UUID
	Email     string // lower case
	Role      Role
	TokenHash []byte // SHA-256 of what stands in the link
	InvitedBy string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// InviteEnding is why the link of an invitation does not work.
type InviteEnding string

const (
	InviteUsed      InviteEnding = "used"
	InviteWithdrawn InviteEnding = "withdrawn" // also since who made it is no admin any more
	InviteReplaced  InviteEnding = "replaced"  // by a later one of the same address
	InviteExpired   InviteEnding = "expired"
	InviteUnknown   InviteEnding = "unknown" // there is none of that link, or it ended long ago
)

// Actor is who does something, and from where.
type Actor struct {
	ID      string // of the account; "" = none, such as on the command line
	Epoch   int64  // of the account, as it was let in
	Email   string
	Role    Role
	Address string // of the client
}

// CleanEmail returns the address in the form in which it is kept, or false.
func CleanEmail(s string) (string, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 {
		return s, false
	}
	return s, true
}
