package web

import (
	"errors"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"portolan/internal/auth"
	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

// showSetup asks for the first admin, as long as there is none.
func (s *Server) showSetup(w http.ResponseWriter, r *http.Request) error {
	done, err := s.Auth.IsSetUp(r.Context())
	if err != nil {
		return err
	}
	if done {
		return redirectError("/login")
	}
	return s.setupPage(w, r, http.StatusOK, ui.Form{})
}

func (s *Server) setup(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	user, err := s.Auth.Setup(r.Context(), form["token"], form["email"], form["password"], visitOf(r.Context()).address)
	switch {
	case fleet.CodeOf(err) == fleet.CodeInvalid:
		return s.setupPage(w, r, http.StatusUnprocessableEntity, shownForm(form, err))
	case err != nil:
		return err
	}
	if err := s.Auth.Start(r.Context(), w, user); err != nil {
		return err
	}
	return redirectError("/")
}

func (s *Server) setupPage(w http.ResponseWriter, r *http.Request, status int, form ui.Form) error {
	return s.render(w, r, status, "Set up", func(p views.Page) templ.Component {
		return views.SetupPage(p, views.Setup{Form: form})
	})
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request) error {
	next := localAddress(r.URL.Query().Get("next"))
	if visitOf(r.Context()).user.Email != "" {
		return redirectError(next)
	}
	return s.loginPage(w, r, http.StatusOK, ui.Form{Values: map[string][]string{"unsaved": {r.URL.Query().Get("unsaved")}}}, next)
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	next := localAddress(form["next"])
	shown := shownForm(form, nil)
	if _, ok := fleet.CleanEmail(form["email"]); !ok {
		shown.Errors["email"] = "must be an e-mail address"
	}
	if form["password"] == "" {
		shown.Errors["password"] = "must not be empty"
	}
	if len(shown.Errors) > 0 {
		return s.loginPage(w, r, http.StatusUnprocessableEntity, shown, next)
	}
	user, err := s.Auth.Login(r.Context(), form["email"], form["password"], visitOf(r.Context()).address)
	var throttled *auth.ThrottledError
	switch {
	case errors.Is(err, auth.ErrCredentials):
		shown.Error = sentence(err.Error())
		return s.loginPage(w, r, http.StatusUnauthorized, shown, next)
	case errors.As(err, &throttled):
		shown.Error = sentence(err.Error())
		retryAfter(w, err)
		return s.loginPage(w, r, http.StatusTooManyRequests, shown, next)
	case errors.Is(err, auth.ErrBusy):
		shown.Error = auth.ErrBusy.Message + " " + auth.ErrBusy.Remedy
		retryAfter(w, err)
		return s.loginPage(w, r, http.StatusServiceUnavailable, shown, next)
	case err != nil:
		return err
	}
	if err := s.Auth.Start(r.Context(), w, user); err != nil {
		return err
	}
	return redirectError(next)
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request, status int, form ui.Form, next string) error {
	if next == "/" {
		next = ""
	}
	return s.render(w, r, status, "Sign in", func(p views.Page) templ.Component {
		p.Person = views.Person{} // the frame of someone who is not in
		return views.LoginPage(p, views.Login{Form: form, Next: next, Unsaved: form.Get("unsaved") == "true"})
	})
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if err := s.Auth.Logout(r.Context(), w, actor(r)); err != nil {
		return err
	}
	return redirectError("/login")
}

// localAddress returns an address on this site: a path, and nothing that a
// browser would take for another host.
func localAddress(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\t\r\n") {
		return "/"
	}
	return next
}
