package fleet

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// AuditEntry is one line of the record of who did what.
type AuditEntry struct {
	ID      int64 // of the row; given by the store
	At      time.Time
	Actor   string               // e-mail address; "" = nobody signed in
	Action  string               // such as cluster.create, workload.stop, login
	Target  string               // such as cluster/aks-eastus2 or workload/<id>
	Outcome string               // ok, refused, failed
	Reason  string               // why it was refused or failed
	Address string               // of the client
	Diff    map[string][2]string // field → before, after; redacted
	// Fold is for attempts that anybody can repeat without end: entries with
	// the same one are kept as the first of them and a count. "" = on its own.
	Fold  string
	Times int // how many attempts the row stands for
}

// AuditOutcomes lists every outcome.
var AuditOutcomes = []string{"ok", "refused", "failed"}

// AuditActions lists what can be done, as Portolan's parts name it in the
// record: what a filter offers.
var AuditActions = []string{
	"login", "logout", "setup", "request",
	"user.create", "user.invite", "user.withdraw-invite", "user.accept-invite", "user.role", "user.disable", "user.enable",
	"user.end-sessions", "user.end-session", "user.password", "user.reset-password", "user.delete",
	"cluster.create", "cluster.update", "cluster.test", "cluster.rotate", "cluster.enable", "cluster.disable", "cluster.delete",
	"workload.deploy", "workload.update", "workload.stop", "workload.start", "workload.restart", "workload.redeploy",
	"workload.scale", "workload.rollback", "workload.delete", "workload.forget", "operation.cancel",
	"audit.export", "keys.rotate", "database.backup", "database.restore",
}

// auditWindow is how long the attempts are made that count as one row.
const auditWindow = 5 * time.Minute

// AuditWindow numbers the present window for Fold.
func AuditWindow() int64 { return time.Now().Unix() / int64(auditWindow.Seconds()) }

// Folded returns an entry that is counted with others like it: of the same
// actor and place, the same action on the same target, ended for the same
// reason within the same five minutes. Attempts that are turned away can be
// made without end.
func (e AuditEntry) Folded() AuditEntry {
	parts := strings.Join([]string{e.Actor, Network(e.Address), e.Action, e.Target, e.Outcome, e.Reason}, "\x00")
	e.Fold = fmt.Sprintf("%x %d", sha256.Sum256([]byte(parts)), AuditWindow())
	return e
}

// Printable returns the entry with every text in a form that can be kept and
// read: much of it was typed by whoever was refused. Control characters are
// shown as dots, and what is too long is cut.
func (e AuditEntry) Printable() AuditEntry {
	const short, long = 300, 4000 // characters
	e.Actor, e.Action, e.Target = printable(e.Actor, short), printable(e.Action, short), printable(e.Target, short)
	e.Outcome, e.Reason, e.Address = printable(e.Outcome, short), printable(e.Reason, long), printable(e.Address, short)
	diff := make(map[string][2]string, len(e.Diff))
	for field, values := range e.Diff {
		diff[printable(field, short)] = [2]string{printable(values[0], long), printable(values[1], long)}
	}
	if e.Diff != nil {
		e.Diff = diff
	}
	return e
}

func printable(s string, limit int) string {
	runes := []rune(strings.ToValidUTF8(s, "·"))
	if len(runes) > limit {
		runes = append(runes[:limit], '…')
	}
	for i, c := range runes {
		if unicode.IsControl(c) && c != '\n' && c != '\t' {
			runes[i] = '·'
		}
	}
	return string(runes)
}
