package auth

import (
	"context"
	"slices"
	"time"

	"portolan/internal/fleet"
)

// CreateUser makes an account. Unusable fields are CodeInvalid with Problems,
// an address that is taken CodeConflict.
func (s *Service) CreateUser(ctx context.Context, actor fleet.Actor, email, password string, role fleet.Role) (fleet.User, error) {
	problems := fleet.Problems{}
	if !slices.Contains(fleet.Roles, role) {
		problems.Add("role", "choose admin, operator or viewer")
	}
	email, err := checkAccount(problems, email, password)
	if err != nil {
		return fleet.User{}, err
	}
	u, err := newUser(ctx, email, password, role)
	if err != nil {
		return u, err
	}
	return u, s.store.CreateUser(ctx, u, false, fleet.AuditEntry{
		At: u.CreatedAt, Actor: actor.Email, Address: actor.Address, Action: "user.create",
		Target: "user/" + email, Outcome: "ok", Diff: map[string][2]string{"role": {"", string(role)}},
	})
}

// ResetPassword gives an account a new password and ends all its sessions.
func (s *Service) ResetPassword(ctx context.Context, actor fleet.Actor, email, password string) error {
	email, err := checkAccount(fleet.Problems{}, email, password)
	if err != nil {
		return err
	}
	u, err := s.store.UserByEmail(ctx, email)
	if err != nil {
		return err
	}
	hash, err := HashPassword(ctx, password)
	if err != nil {
		return err
	}
	return s.store.SetPassword(ctx, u.ID, hash, fleet.AuditEntry{
		At: time.Now(), Actor: actor.Email, Address: actor.Address, Action: "user.reset-password",
		Target: "user/" + email, Outcome: "ok",
	})
}
