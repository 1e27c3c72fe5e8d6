package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"portolan/internal/auth"
	"portolan/internal/fleet"
)

// visit is what is known of one request.
type visit struct {
	id      string // to find the request in the log
	address string // of the client
	user    fleet.User
	asked   time.Time // when the question began whether user may have this
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{}
}

// actor is who makes the request, for use cases.
func actor(r *http.Request) fleet.Actor {
	v := visitOf(r.Context())
	return fleet.Actor{ID: v.user.ID, Epoch: v.user.Epoch, Email: v.user.Email, Role: v.user.Role, Address: v.address}
}

// admit returns the request with its session and its user, or why it is not
// let in. Before there is a user, everything leads to the setup page.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, known bool, least fleet.Role) (*http.Request, error) {
	done, err := s.Auth.IsSetUp(r.Context())
	if err != nil {
		return r, err
	}
	if !done && r.URL.Path != "/setup" {
		return r, redirectError("/setup")
	}
	visitOf(r.Context()).asked = time.Now()
	r, err = s.Auth.Attach(r, auth.Client{
		Address: visitOf(r.Context()).address, Agent: clip(r.UserAgent(), 300), Secure: s.byTLS(r),
	})
	if err != nil {
		return r, err
	}
	user, err := s.Auth.Authenticate(r.Context())
	switch {
	case errors.Is(err, auth.ErrNobody):
		if known && least == open {
			return r, nil
		}
		return r, err
	case err != nil:
		return r, err
	}
	visitOf(r.Context()).user = user
	if err := s.Auth.Touch(r.Context(), w); err != nil {
		return r, err
	}
	if !known || least != open && !user.Role.Includes(least) {
		s.auditRefusal(r)
		return r, forbidden(least)
	}
	return r, nil
}

// admitAgain asks a second time, once the whole of a form is there. Its sender
// decides how long that takes, and may have lost the right to it meanwhile.
func (s *Server) admitAgain(r *http.Request, route string, least fleet.Role) error {
	if !strings.HasPrefix(route, http.MethodPost) || r.ContentLength == 0 || least == open {
		return nil
	}
	if err := parseForm(r); err != nil {
		return err
	}
	if err := r.Context().Err(); err != nil {
		return err
	}
	user, err := s.Auth.Recheck(r.Context())
	if err != nil {
		return cmp.Or(r.Context().Err(), err)
	}
	visitOf(r.Context()).user = user
	if !user.Role.Includes(least) {
		s.auditRefusal(r)
		return forbidden(least)
	}
	return nil
}

func forbidden(least fleet.Role) error {
	e := &fleet.Error{Code: fleet.CodeForbidden, Message: "Your role does not allow this."}
	if least != open {
		e.Remedy = "It takes the role " + string(least) + ". An admin can give it to you."
	}
	return e
}

// auditRefusal records that someone tried a change which their role does not
// allow. Reads leave no record.
func (s *Server) auditRefusal(r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return
	}
	v := visitOf(r.Context())
	s.Auth.Refused(r.Context(), fleet.AuditEntry{
		Actor: v.user.Email, Address: v.address, Action: "request", Target: r.Method + " " + clip(r.URL.Path, 200),
		Reason: "the role " + string(v.user.Role) + " does not allow it",
	})
}
