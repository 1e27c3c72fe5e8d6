package web

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"portolan/internal/auth"
	"portolan/internal/fleet"
	"portolan/views"
)

// redirectError ends a request with a 303 to its address.
type redirectError string

func (e redirectError) Error() string { return "see " + string(e) }

// statusError is a failure that no use case knows of.
type statusError struct {
	status                 int
	title, message, remedy string
	links                  []views.Option // where to go from there
}

func (e *statusError) Error() string { return e.message }

var codes = map[fleet.Code]struct {
	status int
	title  string
}{
	fleet.CodeInvalid:     {http.StatusUnprocessableEntity, "That cannot be used"},
	fleet.CodeConflict:    {http.StatusConflict, "Not possible now"},
	fleet.CodeNotFound:    {http.StatusNotFound, "Not found"},
	fleet.CodeForbidden:   {http.StatusForbidden, "Not allowed"},
	fleet.CodeUnavailable: {http.StatusServiceUnavailable, "Not available now"},
}

// fail answers with err. It is the only place that turns an error into a
// response, and that logs one.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if hasBegun(w) {
		if r.Context().Err() == nil {
			s.Logger.ErrorContext(r.Context(), "answer broke off", "id", visitOf(r.Context()).id, "err", err)
		}
		return
	}
	var to redirectError
	switch {
	case errors.As(err, &to):
		http.Redirect(w, r, string(to), http.StatusSeeOther)
		return
	case errors.Is(err, auth.ErrNobody) && isPage(r):
		http.Redirect(w, r, loginAddress(r), http.StatusSeeOther)
		return
	}
	retryAfter(w, err)
	f := s.failure(r, err)
	if errors.Is(err, auth.ErrNobody) {
		w.Header().Set("HX-Redirect", loginAddress(r))
	}
	if from, ok := askedFrom(r); ok && len(f.Links) == 0 && r.Method == http.MethodPost && isPage(r) {
		f.Links = []views.Option{{Value: from, Label: "Back"}}
	}
	s.renderFailure(w, r, f)
}

// retryAfter tells when an attempt that was turned away may be made again.
func retryAfter(w http.ResponseWriter, err error) {
	var throttled *auth.ThrottledError
	switch {
	case errors.As(err, &throttled):
		w.Header().Set("Retry-After", strconv.Itoa(int(throttled.RetryAfter.Seconds())))
	case errors.Is(err, auth.ErrBusy):
		w.Header().Set("Retry-After", "5")
	}
}

// failure is what the person is told. What is not meant for showing is logged
// under the request's id, and only the id is shown.
func (s *Server) failure(r *http.Request, err error) views.Failure {
	var shown *fleet.Error
	var status *statusError
	var tooLarge *http.MaxBytesError
	var throttled *auth.ThrottledError
	switch {
	case errors.As(err, &shown):
		if shown.Err != nil {
			s.Logger.WarnContext(r.Context(), "request failed", "id", visitOf(r.Context()).id, "err", shown.Err)
		}
		c := codes[shown.Code]
		f := views.Failure{Status: c.status, Title: c.title, Cause: shown.Message, Remedy: shown.Remedy}
		if shown.Code == fleet.CodeInvalid && len(shown.Problems) > 0 {
			f.Cause = strings.TrimSpace(f.Cause + " " + shown.Problems.String())
		}
		return f
	case errors.As(err, &status):
		return views.Failure{Status: status.status, Title: status.title, Cause: status.message, Remedy: status.remedy, Links: status.links}
	case errors.As(err, &throttled):
		return views.Failure{Status: http.StatusTooManyRequests, Title: "Too many attempts", Cause: sentence(throttled.Error())}
	case errors.Is(err, auth.ErrNobody):
		return views.Failure{
			Status: http.StatusUnauthorized, Title: "Not signed in", Cause: "Your session has ended, or there was none.",
			Links: []views.Option{{Value: "/login", Label: "Sign in"}},
		}
	case errors.As(err, &tooLarge):
		return views.Failure{
			Status: http.StatusRequestEntityTooLarge, Title: "Too large",
			Cause: "What was sent is larger than the " + size(tooLarge.Limit) + " that are taken here.",
		}
	case errors.Is(err, context.DeadlineExceeded):
		s.Logger.WarnContext(r.Context(), "request took too long", "id", visitOf(r.Context()).id, "path", clip(r.URL.Path, 200), "err", err)
		return views.Failure{
			Status: http.StatusServiceUnavailable, Title: "Not available now",
			Cause: "The answer took too long.", Remedy: "Try again in a moment.", Ref: visitOf(r.Context()).id,
		}
	}
	var network *net.OpError
	if errors.As(err, &network) { // clusters' own are an Error by now, so it is the database's
		s.Logger.ErrorContext(r.Context(), "database not reachable", "id", visitOf(r.Context()).id, "err", err)
		return views.Failure{
			Status: http.StatusServiceUnavailable, Title: "Not available now", Cause: "Portolan cannot reach its database.",
			Remedy: "Try again in a moment; it goes on by itself once the database is back.", Ref: visitOf(r.Context()).id,
		}
	}
	if r.Context().Err() == nil { // else the client has gone: nobody failed
		s.Logger.ErrorContext(r.Context(), "request failed", "id", visitOf(r.Context()).id, "method", r.Method, "path", clip(r.URL.Path, 200), "err", err)
	}
	return views.Failure{
		Status: http.StatusInternalServerError, Title: "Something went wrong",
		Cause:  "Portolan could not do this. What happened stands in its log.",
		Remedy: "Try again; if it happens again, tell the person who runs Portolan.", Ref: visitOf(r.Context()).id,
	}
}

// renderFailure writes a page or, for htmx and for streams, a fragment.
func (s *Server) renderFailure(w http.ResponseWriter, r *http.Request, f views.Failure) {
	var component templ.Component
	if isPage(r) {
		component = views.FailurePage(s.bareFrame(r, f.Title), f)
	} else {
		component = views.FailureFragment(f)
	}
	var buf bytes.Buffer
	if err := component.Render(context.WithoutCancel(r.Context()), &buf); err != nil {
		http.Error(w, f.Title, f.Status)
		return
	}
	writeHTML(w, f.Status, buf.Bytes())
}

// isPage reports whether a browser shows the answer as a page.
func isPage(r *http.Request) bool {
	return !isFragment(r) && !strings.HasSuffix(r.URL.Path, "/stream")
}

// isFragment reports whether htmx puts the answer into a page.
func isFragment(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

func size(bytes int64) string {
	if bytes >= 1<<20 {
		return strconv.FormatInt(bytes>>20, 10) + " MiB"
	}
	return strconv.FormatInt(bytes>>10, 10) + " KiB"
}

// sentence begins with a capital and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}
