package web

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// entry writes one into the record.
func (b *bundle) entry(e fleet.AuditEntry) {
	b.t.Helper()
	if err := b.db.Audit(b.t.Context(), e); err != nil {
		b.t.Fatal(err)
	}
}

var auditRows = regexp.MustCompile(`data-audit="([^"]+)"`)

func TestAuditPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	day := func(n int) time.Time { return time.Date(2020, 1, n, 12, 0, 0, 0, time.UTC) }
	b.entry(fleet.AuditEntry{At: day(1), Actor: "ana@example.com", Action: "cluster.create", Target: "cluster/one", Outcome: "ok", Diff: map[string][2]string{"label": {"", "One <b>"}}})
	b.entry(fleet.AuditEntry{At: day(2), Actor: "ana@example.com.evil.example", Action: "cluster.delete", Target: "cluster/one", Outcome: "refused", Reason: "workloads are there"})
	b.entry(fleet.AuditEntry{At: day(3), Actor: "bo@example.com", Action: "workload.stop", Target: "workload/1_%", Outcome: "ok"})
	for query, want := range map[string]string{
		"actor=ana@example.com":                     "cluster.create",
		"actor=ana":                                 "cluster.delete cluster.create",
		"action=workload.stop":                      "workload.stop",
		"target=cluster/":                           "cluster.delete cluster.create",
		"target=workload/1_%25":                     "workload.stop",
		"target=workload/__":                        "",
		"outcome=refused&to=2020-01-31":             "cluster.delete",
		"to=2020-01-02":                             "cluster.delete cluster.create",
		"from=2020-01-02&to=2020-01-03":             "workload.stop cluster.delete",
		"from=2020-01-02&to=2020-01-02&outcome=ok":  "",
		"actor=bo@example.com&action=workload.stop": "workload.stop",
		"actor=%00%ff":                              "",
	} {
		a := admin.get("/admin/audit?" + query)
		var got []string
		for _, m := range auditRows.FindAllStringSubmatch(a.body, -1) {
			got = append(got, m[1])
		}
		if a.status != http.StatusOK || strings.Join(got, " ") != want {
			t.Errorf("%s: %d %v, want %q", query, a.status, got, want)
		}
		if strings.Contains(a.body, "One <b>") {
			t.Error("a value became markup")
		}
	}
	for _, bad := range []string{"from=yesterday", "to=2020-13-01", "outcome=maybe", "after=x", "format=xml", "format=csv&from=x"} {
		if a := admin.get("/admin/audit?" + bad); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, a.status)
		}
	}
	for _, bad := range []string{"from=yesterday", "outcome=maybe"} {
		field, _, _ := strings.Cut(bad, "=")
		body := admin.get("/admin/audit?" + bad).body
		if !strings.Contains(body, `<span class="mono">`+field+`</span>`) || strings.Contains(body, "Nothing was saved") || strings.Contains(body, "No entry fits") {
			t.Errorf("%s: it does not say what is wrong with the filter, or that something was looked for or not saved", bad)
		}
	}
}

// TestAuditPagesMeetWithoutGap: entries of one moment are neither repeated nor
// left out where a page ends among them.
func TestAuditPagesMeetWithoutGap(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	at := time.Date(2020, 1, 1, 0, 0, 0, 123456000, time.UTC)
	for i := range 120 {
		b.entry(fleet.AuditEntry{At: at, Actor: "ana@example.com", Action: "a" + strconv.Itoa(i), Target: "x", Outcome: "ok"})
	}
	seen := map[string]int{}
	next := "/admin/audit?actor=ana@example.com"
	for pages := 0; next != ""; pages++ {
		a := admin.get(next)
		if a.status != http.StatusOK || pages > 3 {
			t.Fatalf("%s: %d", next, a.status)
		}
		for _, m := range auditRows.FindAllStringSubmatch(a.body, -1) {
			seen[m[1]]++
		}
		next = ""
		if m := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(a.body); m != nil {
			next = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != 120 {
		t.Errorf("%d of 120 entries", len(seen))
	}
	for action, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", action, n)
		}
	}
}

func TestAuditExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, formula := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "cluster/a;=1+1", `a; "=1+1"`, "plain, with \"signs\"\nand lines"} {
		b.entry(fleet.AuditEntry{At: at, Actor: "ana@example.com", Action: "test", Target: formula, Outcome: "ok", Reason: formula, Diff: map[string][2]string{formula: {"<a>", "b"}}})
	}
	// More than are read at a time.
	if _, err := b.db.Pool().Exec(t.Context(), `
		INSERT INTO audit (at, actor, action, target, outcome, reason, address)
		SELECT '2019-01-01'::timestamptz + n * interval '1 second', 'ana@example.com', 'many', 'x/' || n, 'ok', '', ''
		FROM generate_series(1, 2500) n`); err != nil {
		t.Fatal(err)
	}
	name := func() string {
		return `attachment; filename="portolan-audit-` + time.Now().UTC().Format(time.DateOnly) + `.csv"`
	}
	before := name()
	a := admin.get("/admin/audit?format=csv&actor=ana@example.com")
	got := a.header.Get("Content-Disposition")
	if a.status != http.StatusOK || got != before && got != name() || !strings.HasPrefix(a.header.Get("Content-Type"), "text/csv") {
		t.Fatalf("%d %v", a.status, a.header)
	}
	records, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	if err != nil || len(records) != 1+8+2500 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	seen := map[string]bool{}
	for _, r := range records[1:] {
		for _, cell := range r {
			for part := range strings.SplitSeq(cell, ";") { // where that parts cells
				if part = strings.TrimLeft(part, "\t\r\n \""); part != "" && strings.ContainsAny(part[:1], "=+-@") {
					t.Errorf("a cell is a formula: %q", cell)
				}
			}
		}
		if seen[r[3]] && r[2] == "many" {
			t.Errorf("%s twice", r[3])
		}
		seen[r[3]] = true
	}
	a = admin.get("/admin/audit?format=jsonl&actor=ana@example.com&action=test")
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if a.status != http.StatusOK || len(lines) != 8 {
		t.Fatalf("%d, %d lines", a.status, len(lines))
	}
	for _, line := range lines {
		var e struct {
			Time    time.Time
			Target  string
			Changes map[string]struct{ Before, After string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || !e.Time.Equal(at) || e.Changes[e.Target].Before != "<a>" {
			t.Errorf("%s: %v", line, err)
		}
	}
	if rows := b.audited(fleet.AuditFilter{Action: "audit.export"}); len(rows) != 2 || rows[0].Actor != "admin@example.com" {
		t.Errorf("exports in the record: %+v", rows)
	}
	operator := b.user(fleet.RoleOperator)
	if a := operator.get("/admin/audit?format=csv"); a.status != http.StatusForbidden {
		t.Errorf("an operator: %d", a.status)
	}
}
