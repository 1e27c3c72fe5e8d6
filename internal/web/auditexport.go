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

// exportFlush is how many entries are written between two looks at whether
// their reader still takes them, and still may.
const exportFlush = 500

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
	rc := http.NewResponseController(w)
	buffered := bufio.NewWriterSize(w, 32<<10)
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
	patience := func() error {
		if err := rc.SetWriteDeadline(time.Now().Add(s.Patience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		return nil
	}
	if err := patience(); err != nil {
		return err
	}
	n, asked := 0, time.Now()
	err := s.Reads.EachAuditEntry(r.Context(), filter, func(e fleet.AuditEntry) error {
		if n++; n%exportFlush == 0 {
			if err := patience(); err != nil {
				return err
			}
			if time.Since(asked) > s.Recheck {
				if err := s.mayRead(r); err != nil {
					return err
				}
				asked = time.Now()
			}
		}
		return write(e)
	})
	if err != nil {
		// The file would look whole: a broken connection tells that it is not.
		if hasBegun(w) && r.Context().Err() == nil {
			s.Logger.WarnContext(r.Context(), "audit export broke off", "id", visitOf(r.Context()).id, "err", err)
		}
		panic(http.ErrAbortHandler)
	}
	return buffered.Flush()
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
