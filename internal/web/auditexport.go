package web

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"portolan/internal/fleet"
)

// exportAudit gives the record out as CSV or as a JSON object a line.
func (s *Server) exportAudit(w http.ResponseWriter, r *http.Request, filter fleet.AuditFilter, format string) error {
	kinds := map[string]string{"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
	kind := kinds[format]
	if kind == "" {
		return fleet.Problems{"format": "must be csv or jsonl"}.Err()
	}
	now := time.Now()
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", `attachment; filename="portolan-audit-`+now.UTC().Format(time.DateOnly)+`.`+format+`"`)
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil
	}
	// What is exported ends before the row that says so.
	if filter.To.IsZero() || filter.To.After(now) {
		filter.To = now
	}
	filter.After = ""
	who := actor(r)
	s.Auth.Record(r.Context(), fleet.AuditEntry{
		Actor: who.Email, Address: who.Address, Action: "audit.export", Target: "audit", Reason: clip(r.URL.RawQuery, 1000),
	})
	return s.limited(func(w http.ResponseWriter, r *http.Request) error {
		return s.writeAudit(w, r, filter, format)
	})(w, r)
}

func (s *Server) writeAudit(w http.ResponseWriter, r *http.Request, filter fleet.AuditFilter, format string) error {
	out := &patientWriter{w: w, rc: http.NewResponseController(w), patience: s.Patience, before: func() error {
		if !s.due(r) {
			return nil
		}
		return s.mayRead(r)
	}}
	defer out.end()
	// The server's own deadlines are those of pages.
	if err := errors.Join(out.deadline(time.Time{}), supported(out.rc.SetReadDeadline(time.Time{}))); err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(out, 32<<10)
	write := jsonLines(buffered)
	if format == "csv" {
		table := csv.NewWriter(buffered)
		if err := table.Write(auditHeader); err != nil {
			return err
		}
		write = func(e fleet.AuditEntry) error {
			err := table.Write(auditRecord(e))
			table.Flush()
			return errors.Join(err, table.Error())
		}
		table.Flush()
	}
	err := s.Reads.EachAuditEntry(r.Context(), filter, write)
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		// The file would look whole: a broken connection tells that it is not.
		if hasBegun(w) && r.Context().Err() == nil {
			s.Logger.WarnContext(r.Context(), "audit export broke off", "id", visitOf(r.Context()).id, "err", err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// jsonLines writes entries as JSON lines.
func jsonLines(out *bufio.Writer) func(fleet.AuditEntry) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	type change struct {
		Before string `json:"before"`
		After  string `json:"after"`
	}
	type line struct {
		Time    time.Time         `json:"time"`
		Actor   string            `json:"actor"`
		Action  string            `json:"action"`
		Target  string            `json:"target"`
		Outcome string            `json:"outcome"`
		Reason  string            `json:"reason,omitempty"`
		Address string            `json:"address,omitempty"`
		Times   int               `json:"times"`
		Changes map[string]change `json:"changes,omitempty"`
	}
	return func(e fleet.AuditEntry) error {
		l := line{
			Time: e.At.UTC(), Actor: e.Actor, Action: e.Action, Target: e.Target, Outcome: e.Outcome,
			Reason: e.Reason, Address: e.Address, Times: e.Times, Changes: map[string]change{},
		}
		for field, values := range e.Diff {
			l.Changes[field] = change{values[0], values[1]}
		}
		return encoder.Encode(l)
	}
}
