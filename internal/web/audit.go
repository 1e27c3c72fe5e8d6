package web

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

// showAudit shows the record, or with ?format= gives it out as a file. It has
// no timeout of its own for the sake of the file, which may be long.
func (s *Server) showAudit(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter, problems := auditFilter(q)
	if format := q.Get("format"); format != "" {
		if err := problems.Err(); err != nil {
			return err
		}
		return s.exportAudit(w, r, filter, format)
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	v := views.Audit{Kept: fleet.KeptWords(s.Retention.Audit), Form: ui.Form{Values: map[string][]string{}, Errors: problems}}
	for _, name := range auditFields {
		v.Form.Values[name] = []string{strings.ToValidUTF8(clip(q.Get(name), 300), "\uFFFD")}
	}
	v.Actions, v.Outcomes = fleet.AuditActions, fleet.AuditOutcomes
	status := http.StatusUnprocessableEntity
	if len(problems) == 0 {
		status = http.StatusOK
		page, err := s.Reads.AuditEntries(ctx, filter)
		if err != nil {
			return err
		}
		for _, e := range page.Rows {
			v.Rows = append(v.Rows, auditRow(e))
		}
		if page.Next != "" {
			v.Next = auditAddress(q, "after", page.Next)
		}
	}
	if filter.After != "" {
		v.First = auditAddress(q)
	}
	v.CSV, v.JSONL = auditAddress(q, "format", "csv"), auditAddress(q, "format", "jsonl")
	return s.render(w, r.WithContext(ctx), status, "Audit", func(p views.Page) templ.Component { return views.AuditPage(p, v) })
}

var auditFields = []string{"actor", "action", "target", "outcome", "from", "to"}

// auditFilter reads a filter. Days are those of UTC; the last one counts whole.
func auditFilter(q url.Values) (fleet.AuditFilter, fleet.Problems) {
	problems := fleet.Problems{}
	day := func(name string) time.Time {
		text := strings.TrimSpace(q.Get(name))
		if text == "" {
			return time.Time{}
		}
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			problems.Add(name, "must be a day, such as 2026-01-31")
		}
		return at
	}
	text := func(name string) string { return clip(strings.TrimSpace(q.Get(name)), 300) }
	f := fleet.AuditFilter{
		Actor: text("actor"), Action: text("action"), Target: text("target"), Outcome: text("outcome"),
		From: day("from"), To: day("to"), After: q.Get("after"),
	}
	if !f.To.IsZero() {
		f.To = f.To.AddDate(0, 0, 1)
	}
	if f.Outcome != "" && !slices.Contains(fleet.AuditOutcomes, f.Outcome) {
		problems.Add("outcome", "choose ok, refused or failed")
	}
	return f, problems
}

// auditAddress is the page with the filter of q and one thing more.
func auditAddress(q url.Values, more ...string) string {
	var list []string
	for _, name := range auditFields {
		list = append(list, name, strings.TrimSpace(q.Get(name)))
	}
	return address("/admin/audit", append(list, more...)...)
}

func auditRow(e fleet.AuditEntry) views.AuditRow {
	row := views.AuditRow{
		At: e.At, Actor: e.Actor, Address: e.Address, Action: e.Action, Target: e.Target, Outcome: e.Outcome, Reason: e.Reason, Times: e.Times,
	}
	kind, id, _ := strings.Cut(e.Target, "/")
	switch {
	case id == "" || id == "*":
	case kind == "cluster":
		row.Href = "/admin/clusters/" + url.PathEscape(id)
	case kind == "workload":
		row.Href = "/workloads/" + url.PathEscape(id)
	case kind == "operation":
		row.Href = "/operations/" + url.PathEscape(id)
	case kind == "user":
		row.Href = address("/admin/users", "q", id)
	}
	for _, field := range slices.Sorted(maps.Keys(e.Diff)) {
		row.Changes = append(row.Changes, views.AuditChange{Field: field, Before: e.Diff[field][0], After: e.Diff[field][1]})
	}
	return row
}

// formula is what spreadsheets calculate at the start of a cell (OWASP, CSV
// Injection). Those of many countries part cells at a semicolon, whatever the
// quotes around it.
var formula = regexp.MustCompile(`(^|[;\t\r\n])([\s"]*[=+@-])`)

// auditCell is a field of a CSV file in a form that no spreadsheet takes for a
// formula: most of the texts were typed by strangers.
func auditCell(text string) string { return formula.ReplaceAllString(text, "$1'$2") }

var auditHeader = []string{"time", "actor", "action", "target", "outcome", "reason", "address", "times", "changes"}

func auditRecord(e fleet.AuditEntry) []string {
	var changes []string
	for _, field := range slices.Sorted(maps.Keys(e.Diff)) {
		changes = append(changes, field+": "+e.Diff[field][0]+" → "+e.Diff[field][1])
	}
	record := []string{
		e.At.UTC().Format(time.RFC3339Nano), e.Actor, e.Action, e.Target, e.Outcome, e.Reason, e.Address,
		strconv.Itoa(e.Times), strings.Join(changes, "; "),
	}
	for i := range record {
		record[i] = auditCell(record[i])
	}
	return record
}
