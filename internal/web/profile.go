package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"
	"github.com/mileusna/useragent"

	"portolan/internal/auth"
	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

func (s *Server) showProfile(w http.ResponseWriter, r *http.Request) error {
	return s.profilePage(w, r, http.StatusOK, ui.Form{})
}

func (s *Server) profilePage(w http.ResponseWriter, r *http.Request, status int, form ui.Form) error {
	user := visitOf(r.Context()).user
	sessions, err := s.Auth.Sessions(r.Context(), user)
	if err != nil {
		return err
	}
	v := views.Profile{Email: user.Email, Role: string(user.Role), Since: user.CreatedAt, Form: form}
	for _, o := range sessions {
		v.Sessions = append(v.Sessions, views.SessionRow{
			ID: o.ID, Browser: browser(o.Agent), Address: o.Address, StartedAt: o.StartedAt, SeenAt: o.SeenAt, Current: o.Current,
		})
	}
	return s.render(w, r, status, "Profile", func(p views.Page) templ.Component { return views.ProfilePage(p, v) })
}

func (s *Server) changePassword(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	err = s.Auth.ChangePassword(r.Context(), w, visitOf(r.Context()).user, actor(r), form["password"], form["new_password"])
	var throttled *auth.ThrottledError
	switch {
	case errors.As(err, &throttled):
		retryAfter(w, err)
		return s.profilePage(w, r, http.StatusTooManyRequests, ui.Form{Error: sentence(err.Error())})
	case errors.Is(err, auth.ErrBusy):
		retryAfter(w, err)
		return s.profilePage(w, r, http.StatusServiceUnavailable, ui.Form{Error: auth.ErrBusy.Message + " " + auth.ErrBusy.Remedy})
	case fleet.CodeOf(err) == fleet.CodeInvalid:
		return s.profilePage(w, r, http.StatusUnprocessableEntity, shownForm(form, err))
	case err != nil:
		return err
	}
	return s.done(w, r, "/profile", "Your password was changed; your other sessions have ended.")
}

func (s *Server) endOwnSession(w http.ResponseWriter, r *http.Request) error {
	if err := s.Auth.EndSession(r.Context(), visitOf(r.Context()).user, actor(r), chi.URLParam(r, "id")); err != nil {
		return err
	}
	return s.done(w, r, "/profile", "The session was ended.")
}

func (s *Server) endOtherSessions(w http.ResponseWriter, r *http.Request) error {
	if err := s.Auth.EndOtherSessions(r.Context(), w, visitOf(r.Context()).user, actor(r)); err != nil {
		return err
	}
	return s.done(w, r, "/profile", "You are signed out everywhere else.")
}

// browser names what a User-Agent is, as far as it can be told.
func browser(agent string) string {
	a := useragent.Parse(agent)
	switch {
	case a.Name == "" || a.IsUnknown():
		if name, _, _ := strings.Cut(agent, "/"); name != "" {
			return clip(name, 60)
		}
		return "Unknown client"
	case a.OS == "":
		return clip(a.Name, 60)
	default:
		return clip(a.Name, 60) + " on " + clip(a.OS, 60)
	}
}
