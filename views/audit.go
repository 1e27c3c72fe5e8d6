package views

import (
	"time"

	"portolan/views/ui"
)

// Audit is the record of who did what. Its form has the fields actor, action,
// target, outcome, from and to.
type Audit struct {
	Form              ui.Form
	Kept              string // such as "for 90 days"
	Actions, Outcomes []string
	Rows              []AuditRow
	Next, First       string // addresses of the next and the first page
	CSV, JSONL        string // addresses of the same as a file
}

// AuditRow is one entry.
type AuditRow struct {
	At                   time.Time
	Actor, Address       string
	Action, Target, Href string
	Outcome, Reason      string
	Times                int // how many attempts it stands for
	Changes              []AuditChange
}

// AuditChange is what one field held before and after.
type AuditChange struct {
	Field, Before, After string
}
