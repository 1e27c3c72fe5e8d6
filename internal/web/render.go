package web

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/views"
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// render answers with a page, or with what is in it where it tells of an error to
// htmx. It is made in memory first, so that a page that fails half-way is an error
// and not half a page.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, title string, page func(views.Page) templ.Component) error {
	if status >= http.StatusBadRequest && isFragment(r) {
		frame := s.bareFrame(r, title)
		frame.Bare = true
		return s.renderFragment(w, r, status, page(frame))
	}
	frame, err := s.frame(w, r, status, title)
	if err != nil {
		return err
	}
	return s.renderFragment(w, r, status, page(frame))
}

// renderFragment answers with a component as it is.
func (s *Server) renderFragment(w http.ResponseWriter, r *http.Request, status int, c templ.Component) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	if err := c.Render(r.Context(), buf); err != nil {
		return err
	}
	writeHTML(w, status, buf.Bytes())
	return nil
}

// withoutControls makes the control characters of a page, which only what
// others have written can bring, blanks: a browser shows nothing for them, but a
// terminal obeys them. Those that set colours in a log stay: see
// views.AppendLogLine.
func withoutControls(body []byte) []byte {
	for i, c := range body {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			body[i] = ' '
		}
	}
	return body
}

func writeHTML(w http.ResponseWriter, status int, body []byte) {
	body = withoutControls(body)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has gone
}

// frame is what all pages share. What has just been done is not told on a page
// about an error.
func (s *Server) frame(w http.ResponseWriter, r *http.Request, status int, title string) (views.Page, error) {
	p := s.bareFrame(r, title)
	if p.Person.Email == "" {
		return p, nil
	}
	counts, err := s.Reads.NavCounts(r.Context())
	if err != nil {
		return p, err
	}
	if status < http.StatusBadRequest {
		if p.Notice, err = s.Auth.TakeNotice(r.Context(), w); err != nil {
			return p, err
		}
	}
	p.Nav = views.Nav{Workloads: count(counts.Workloads), Operations: count(counts.Running)}
	if p.Person.CanAdmin {
		p.Nav.Clusters = count(counts.Clusters)
	}
	return p, nil
}

// bareFrame is a frame that reads nothing, for pages about failures.
func (s *Server) bareFrame(r *http.Request, title string) views.Page {
	p := views.Page{Title: title, Path: r.URL.Path, Assets: s.assets}
	if u := visitOf(r.Context()).user; u.Email != "" {
		p.Person = views.Person{
			Email: u.Email, Role: string(u.Role),
			CanOperate: u.Role.Includes(fleet.RoleOperator), CanAdmin: u.Role.Includes(fleet.RoleAdmin),
		}
	}
	return p
}

// done sends the browser on after a POST, with a sentence for the next page.
func (s *Server) done(w http.ResponseWriter, r *http.Request, to, notice string) error {
	if notice != "" {
		if err := s.Auth.SetNotice(r.Context(), w, notice); err != nil {
			return err
		}
	}
	return redirectError(to)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
