package web

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

func (s *Server) listUsers(w http.ResponseWriter, r *http.Request) error {
	return s.usersPage(w, r, http.StatusOK, ui.Form{Values: map[string][]string{"role": {string(fleet.RoleOperator)}}})
}

func (s *Server) usersPage(w http.ResponseWriter, r *http.Request, status int, form ui.Form) error {
	q := r.URL.Query()
	filter := fleet.UserFilter{Query: clip(q.Get("q"), 100), After: q.Get("after")}
	page, err := s.Reads.ListUsers(r.Context(), filter)
	if err != nil {
		return err
	}
	v := views.Users{Query: filter.Query, Form: form}
	self := visitOf(r.Context()).user.ID
	for _, u := range page.Rows {
		v.Rows = append(v.Rows, views.UserRow{
			ID: u.ID, Email: u.Email, Role: string(u.Role), Disabled: u.Disabled, Version: strconv.FormatInt(u.Epoch, 10),
			Self: u.ID == self, Sessions: u.Sessions, SeenAt: u.SeenAt, Since: u.CreatedAt,
		})
	}
	if page.Next != "" {
		v.Next = address("/admin/users", "q", v.Query, "after", page.Next)
	}
	if filter.After != "" {
		v.First = address("/admin/users", "q", v.Query)
	}
	invites, err := s.Reads.Invites(r.Context())
	if err != nil {
		return err
	}
	for _, i := range invites {
		v.Invites = append(v.Invites, views.InviteRow{
			ID: i.ID, Email: i.Email, Role: string(i.Role), By: i.InvitedBy, EndsAt: i.ExpiresAt, Ended: i.ExpiresAt.Before(time.Now()),
		})
	}
	return s.render(w, r, status, "Users", func(p views.Page) templ.Component { return views.UsersPage(p, v) })
}

// inviteUser answers with the link itself instead of leading on to a page: it
// is shown this once, and what stands in it is kept nowhere.
func (s *Server) inviteUser(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	invite, token, err := s.Auth.Invite(r.Context(), actor(r), form["email"], fleet.Role(form["role"]))
	if formAgain(err) {
		return s.usersPage(w, r, formStatus(err), shownForm(form, err))
	}
	if err != nil {
		return err
	}
	v := views.Invited{
		Email: invite.Email, Role: string(invite.Role), EndsAt: invite.ExpiresAt,
		Link: s.address(r, "/invite#"+token),
	}
	return s.render(w, r, http.StatusCreated, "Invitation", func(p views.Page) templ.Component { return views.InvitedPage(p, v) })
}

func (s *Server) withdrawInvite(w http.ResponseWriter, r *http.Request) error {
	if err := s.Auth.WithdrawInvite(r.Context(), actor(r), chi.URLParam(r, "id")); err != nil {
		return err
	}
	return s.done(w, r, "/admin/users", "The invitation was withdrawn; its link is worth nothing now.")
}

func (s *Server) showInvite(w http.ResponseWriter, r *http.Request) error {
	return s.invitePage(w, r, http.StatusOK, ui.Form{})
}

func (s *Server) acceptInvite(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	user, err := s.Auth.AcceptInvite(r.Context(), form["token"], form["password"], visitOf(r.Context()).address)
	if formAgain(err) {
		retryAfter(w, err)
		return s.invitePage(w, r, formStatus(err), shownForm(form, err))
	}
	if err != nil {
		return err
	}
	if err := s.Auth.Start(r.Context(), w, user); err != nil {
		return err
	}
	return s.done(w, r, "/", "Welcome. You are "+user.Email+", with the role "+string(user.Role)+".")
}

func (s *Server) invitePage(w http.ResponseWriter, r *http.Request, status int, form ui.Form) error {
	return s.render(w, r, status, "Join", func(p views.Page) templ.Component {
		p.Person = views.Person{} // the frame of someone who is not in yet
		return views.InvitePage(p, views.Invite{Form: form})
	})
}

func (s *Server) setUserRole(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	id, role := chi.URLParam(r, "id"), fleet.Role(form["role"])
	before, readErr := s.Reads.UserByID(r.Context(), id)
	if err := s.Auth.SetRole(r.Context(), actor(r), id, form["version"], role); err != nil {
		return s.userRefused(err)
	}
	if readErr == nil && before.Role == role {
		return s.done(w, r, "/admin/users", before.Email+" has the role "+string(role)+" already. Nothing was changed.")
	}
	return s.done(w, r, "/admin/users", "The role was changed; the sessions of this account have ended.")
}

func (s *Server) setUserDisabled(disabled bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		form, err := readForm(r)
		if err != nil {
			return err
		}
		if err := s.Auth.SetDisabled(r.Context(), actor(r), chi.URLParam(r, "id"), form["version"], disabled); err != nil {
			return s.userRefused(err)
		}
		notice := "Enabled: this account can sign in again."
		if disabled {
			notice = "Disabled: this account is signed out and cannot sign in."
		}
		return s.done(w, r, "/admin/users", notice)
	}
}

func (s *Server) endUserSessions(w http.ResponseWriter, r *http.Request) error {
	if err := s.Auth.EndSessions(r.Context(), actor(r), chi.URLParam(r, "id")); err != nil {
		return err
	}
	return s.done(w, r, "/admin/users", "The account was signed out everywhere.")
}

// userRefused adds the way out to what a person may do something about.
func (s *Server) userRefused(err error) error {
	var shown *fleet.Error
	if errors.As(err, &shown) && shown.Code == fleet.CodeConflict {
		return &statusError{status: http.StatusConflict, title: "Not possible now", message: shown.Message, remedy: shown.Remedy,
			links: []views.Option{{Value: "/admin/users", Label: "Back to the users"}}}
	}
	return err
}

func (s *Server) askDeleteUser(w http.ResponseWriter, r *http.Request) error {
	return s.deleteUserPage(w, r, http.StatusOK, ui.Form{})
}

func (s *Server) deleteUser(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	err = s.Auth.Remove(r.Context(), actor(r), chi.URLParam(r, "id"), form["confirm"])
	if fleet.CodeOf(err) == fleet.CodeInvalid {
		return s.deleteUserPage(w, r, http.StatusUnprocessableEntity, shownForm(form, err))
	}
	if err != nil {
		return s.userRefused(err)
	}
	return s.done(w, r, "/admin/users", "The account was deleted.")
}

func (s *Server) deleteUserPage(w http.ResponseWriter, r *http.Request, status int, form ui.Form) error {
	u, err := s.Reads.UserByID(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	v := views.Confirm{
		Title: "Delete " + u.Email,
		Says: []string{
			"The account is removed and signed out everywhere.",
			"What it did stays in the audit log. To keep somebody out for a while, disable the account instead.",
		},
		Action: "/admin/users/" + u.ID + "/delete", Word: u.Email, Submit: "Delete user", Back: "/admin/users", Form: form,
	}
	return s.render(w, r, status, v.Title, func(p views.Page) templ.Component { return views.ConfirmPage(p, v) })
}
