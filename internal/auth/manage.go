package auth

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"portolan/internal/fleet"
)

func userEntry(actor fleet.Actor, action, email string) fleet.AuditEntry {
	return fleet.AuditEntry{
		At: time.Now(), Actor: actor.Email, Address: actor.Address, Action: "user." + action, Target: "user/" + email, Outcome: "ok",
	}
}

// SetRole gives an account another role and ends its sessions. version is the
// account's epoch as the form was made from it, "" = as it is. An account that
// has changed since, and the last admin who can sign in, are CodeConflict.
func (s *Service) SetRole(ctx context.Context, actor fleet.Actor, id, version string, role fleet.Role) error {
	return s.change(ctx, actor, id, version, "role", func(u *fleet.User) (map[string][2]string, error) {
		if !slices.Contains(fleet.Roles, role) {
			return nil, errRole().Err()
		}
		diff := map[string][2]string{"role": {string(u.Role), string(role)}}
		u.Role = role
		return diff, nil
	})
}

// SetDisabled keeps a person out, or lets them in again; either ends the
// account's sessions. version and errors are those of SetRole.
func (s *Service) SetDisabled(ctx context.Context, actor fleet.Actor, id, version string, disabled bool) error {
	action := "enable"
	if disabled {
		action = "disable"
	}
	return s.change(ctx, actor, id, version, action, func(u *fleet.User) (map[string][2]string, error) {
		diff := map[string][2]string{"disabled": {strconv.FormatBool(u.Disabled), strconv.FormatBool(disabled)}}
		u.Disabled = disabled
		return diff, nil
	})
}

func (s *Service) change(ctx context.Context, actor fleet.Actor, id, version, action string, do func(*fleet.User) (map[string][2]string, error)) error {
	u, err := s.store.UserByID(ctx, id)
	if err != nil {
		return s.refused(ctx, userEntry(actor, action, id), err)
	}
	entry := userEntry(actor, action, u.Email)
	if version != "" && version != strconv.FormatInt(u.Epoch, 10) {
		return s.refused(ctx, entry, errOutdated)
	}
	before := u
	if entry.Diff, err = do(&u); err != nil {
		return s.refused(ctx, entry, err)
	}
	if u.Role == before.Role && u.Disabled == before.Disabled {
		return nil // it is so already
	}
	return s.refused(ctx, entry, s.store.ChangeUser(ctx, u, actor, entry))
}

var errOutdated = &fleet.Error{
	Code: fleet.CodeConflict, Message: "Somebody has changed this account since you opened the page.",
	Remedy: "Look at it as it is now, and decide again.",
}

func errRole() fleet.Problems {
	return fleet.Problems{"role": "choose admin, operator or viewer"}
}

// EndSessions signs a person out everywhere; CodeNotFound.
func (s *Service) EndSessions(ctx context.Context, actor fleet.Actor, id string) error {
	u, err := s.store.UserByID(ctx, id)
	if err != nil {
		return s.refused(ctx, userEntry(actor, "end-sessions", id), err)
	}
	return s.store.EndSessions(ctx, u.ID, userEntry(actor, "end-sessions", u.Email))
}

// Remove deletes an account; confirm is its e-mail address, typed. What it did
// stays in the record. The last admin who can sign in is CodeConflict.
func (s *Service) Remove(ctx context.Context, actor fleet.Actor, id, confirm string) error {
	u, err := s.store.UserByID(ctx, id)
	if err != nil {
		return s.refused(ctx, userEntry(actor, "delete", id), err)
	}
	entry := userEntry(actor, "delete", u.Email)
	if typed, _ := fleet.CleanEmail(confirm); typed != u.Email {
		return s.refused(ctx, entry, fleet.Problems{"confirm": "type " + u.Email + " to confirm"}.Err())
	}
	entry.Diff = map[string][2]string{"role": {string(u.Role), ""}}
	return s.refused(ctx, entry, s.store.RemoveUser(ctx, u, actor, entry))
}

// maxPresentFailures is how often the present password may be given wrong in
// the throttle's window: whoever finds a session open must not guess it there.
const maxPresentFailures = 5

// ChangePassword replaces a person's own password. It ends their sessions but
// for that of ctx, which goes on under a new token. A wrong present password
// and an unusable new one are CodeInvalid with Problems at "password" and
// "new_password"; after too many wrong ones it is a *ThrottledError, with
// too many people at once ErrBusy. u is as
// Authenticate returned it; a session that was ended since is ErrNobody.
func (s *Service) ChangePassword(ctx context.Context, w http.ResponseWriter, u fleet.User, actor fleet.Actor, present, next string) error {
	entry := userEntry(actor, "password", u.Email)
	problems := fleet.Problems{}
	if err := ValidatePassword(next); err != nil {
		problems.Add("new_password", "%s", err)
	}
	if strings.TrimSpace(present) == "" {
		problems.Add("password", "must not be empty")
		return problems.Err()
	}
	limits := []limit{{key: "present:" + u.ID, max: maxPresentFailures}}
	leave, err := s.admit(ctx, entry, limits)
	if err != nil {
		return err
	}
	defer leave()
	right, err := VerifyPassword(ctx, u.PasswordHash, present)
	if err != nil {
		return err
	}
	if !right {
		problems.Add("password", "is not your present password")
		return s.refused(ctx, entry, problems.Err())
	}
	if err := s.store.ClearLoginFailures(ctx, limits[0].key); err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return err
	}
	hash, err := HashPassword(ctx, next)
	if err != nil {
		return err
	}
	epoch, err := s.store.SetOwnPassword(ctx, u, storedToken(s.manager.Token(ctx)), hash, entry)
	return s.restart(ctx, w, u, epoch, err)
}
