package views

import (
	"time"

	"portolan/views/ui"
)

// Users is the list of accounts and open invitations. Its form has the fields
// email and role.
type Users struct {
	Query       string
	Rows        []UserRow
	Invites     []InviteRow
	Next, First string // addresses of the next and the first page
	Form        ui.Form
}

// UserRow is one account of the list.
type UserRow struct {
	ID, Email, Role string
	Version         string // the row as the page shows it
	Disabled        bool
	Self            bool // of whoever looks
	Sessions        int
	SeenAt          time.Time // zero when there is no session
	Since           time.Time
}

// InviteRow is an invitation that nobody has accepted.
type InviteRow struct {
	ID, Email, Role, By string
	EndsAt              time.Time
	Ended               bool
}

// Invited shows the link of a new invitation, once.
type Invited struct {
	Email, Role, Link string
	EndsAt            time.Time
}

// Profile is a person's own page. Its form has the fields password and
// new_password.
type Profile struct {
	Email, Role string
	Since       time.Time
	Sessions    []SessionRow
	Form        ui.Form
}

// SessionRow is one place where the person is signed in.
type SessionRow struct {
	ID, Browser, Address string
	StartedAt, SeenAt    time.Time
	Current              bool
}
