package auth

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"portolan/internal/fleet"
)

// InviteLife is how long the link of an invitation works.
const InviteLife = 72 * time.Hour

// maxInviteFailures is how many wrong links one address may try in the
// throttle's window.
const maxInviteFailures = 20

// Invite makes an invitation and returns the token of its link, which is kept
// nowhere: only its hash is. An earlier invitation of the same address ends.
// Unusable fields are CodeInvalid with Problems, an address that has an account
// is CodeConflict.
func (s *Service) Invite(ctx context.Context, actor fleet.Actor, email string, role fleet.Role) (inv fleet.Invite, token string, err error) {
	problems := fleet.Problems{}
	email, ok := fleet.CleanEmail(email)
	switch {
	case email == "":
		problems.Add("email", "must not be empty")
	case !ok:
		problems.Add("email", "must be an e-mail address")
	}
	if !slices.Contains(fleet.Roles, role) {
		problems.Add("role", "choose admin, operator or viewer")
	}
	entry := userEntry(actor, "invite", email)
	if err := problems.Err(); err != nil {
		return inv, "", s.refused(ctx, entry, err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return inv, "", err
	}
	token = strings.ToLower(rand.Text())
	now := time.Now()
	inv = fleet.Invite{
		ID: id.String(), Email: email, Role: role, TokenHash: hashToken(token),
		InvitedBy: actor.Email, CreatedAt: now, ExpiresAt: now.Add(InviteLife),
	}
	entry.Diff = map[string][2]string{"role": {"", string(role)}}
	return inv, token, s.refused(ctx, entry, s.store.Invite(ctx, inv, actor, entry))
}

// WithdrawInvite makes the link of an invitation worthless; CodeNotFound.
func (s *Service) WithdrawInvite(ctx context.Context, actor fleet.Actor, id string) error {
	inv, err := s.store.InviteByID(ctx, id)
	if err != nil {
		return s.refused(ctx, userEntry(actor, "withdraw-invite", id), err)
	}
	entry := userEntry(actor, "withdraw-invite", inv.Email)
	return s.refused(ctx, entry, s.store.WithdrawInvite(ctx, id, entry))
}

// AcceptInvite makes the account of an invitation with the password that its
// owner has chosen. A token that is wrong, used or out of date and an unusable
// password are CodeInvalid with Problems; too many wrong tokens from one
// address are a *ThrottledError, too many people at once ErrBusy.
func (s *Service) AcceptInvite(ctx context.Context, token, password, address string) (fleet.User, error) {
	entry := userEntry(fleet.Actor{Address: address}, "accept-invite", "")
	limits := []limit{{key: "invite:" + fleet.Network(address), max: maxInviteFailures}}
	leave, err := s.admit(ctx, entry, limits)
	if err != nil {
		return fleet.User{}, err
	}
	defer leave()
	problems := fleet.Problems{}
	if err := ValidatePassword(password); err != nil {
		problems.Add("password", "%s", err)
	}
	hash := hashToken(strings.TrimSpace(token))
	inv, err := s.store.InviteByToken(ctx, hash)
	if fleet.CodeOf(err) == fleet.CodeNotFound {
		return fleet.User{}, s.wrongInvite(ctx, entry, hash, problems)
	}
	if err != nil {
		return fleet.User{}, err
	}
	if err := s.store.ClearLoginFailures(ctx, limits[0].key); err != nil {
		return fleet.User{}, err
	}
	if err := problems.Err(); err != nil {
		return fleet.User{}, err
	}
	u, err := newUser(ctx, inv.Email, password, inv.Role)
	if err != nil {
		return u, err
	}
	entry.Actor, entry.Target = inv.Email, "user/"+inv.Email
	entry.Reason = "invited by " + inv.InvitedBy
	entry.Diff = map[string][2]string{"role": {"", string(inv.Role)}}
	err = s.store.AcceptInvite(ctx, inv.ID, u, entry)
	if fleet.CodeOf(err) == fleet.CodeNotFound { // somebody was faster with the same link
		return u, s.wrongInvite(ctx, entry, hash, problems)
	}
	if err != nil {
		return u, s.refused(ctx, entry, err)
	}
	return s.store.UserByEmail(ctx, u.Email) // the epoch is the store's to begin
}

// inviteEndings are the reasons in the record.
var inviteEndings = map[fleet.InviteEnding]string{
	fleet.InviteUsed:      "the invitation has been used already",
	fleet.InviteWithdrawn: "the invitation was withdrawn",
	fleet.InviteReplaced:  "a later invitation took the place of this one",
	fleet.InviteExpired:   "the time of the invitation is over",
	fleet.InviteUnknown:   "there is no invitation of this link",
}

// wrongInvite is the answer to a link that does not work. The record says why;
// whoever has the link is told no more than what to do.
func (s *Service) wrongInvite(ctx context.Context, entry fleet.AuditEntry, hash []byte, problems fleet.Problems) error {
	email, why, err := s.store.InviteEnded(ctx, hash)
	if err != nil {
		return err
	}
	problems.Add("token", "is not that of an open invitation: it has been used or withdrawn, or its time is over; ask for a new one")
	entry.Actor, entry.Target, entry.Diff = "", "user/"+email, nil
	entry.Outcome, entry.Reason = "refused", inviteEndings[why]
	entry = entry.Folded()
	s.audit(ctx, entry)
	return problems.Err()
}
