package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"time"

	"github.com/google/uuid"

	"portolan/internal/fleet"
)

// IsSetUp reports whether there is a user. Once there is one, it stays so.
func (s *Service) IsSetUp(ctx context.Context) (bool, error) {
	if s.setUp.Load() {
		return true, nil
	}
	n, err := s.store.CountUsers(ctx)
	if err != nil || n == 0 {
		return false, err
	}
	s.setUp.Store(true)
	return true, nil
}

// PrepareSetup returns a one-time token for the first admin, to be printed in
// the log, or "" when there is a user already. Only hashes of tokens are kept:
// the first one in the store, for every process; each process' own beside it,
// so that the newest log line is right after a restart too.
func (s *Service) PrepareSetup(ctx context.Context) (token string, err error) {
	done, err := s.IsSetUp(ctx)
	if err != nil || done {
		return "", err
	}
	token = strings.ToLower(rand.Text())
	s.tokenHash = hashToken(token)
	_, err = s.store.SetupToken(ctx, s.tokenHash)
	return token, err
}

// Setup makes the first admin. A wrong token and unusable fields are
// CodeInvalid with Problems; a user that exists already is CodeConflict.
func (s *Service) Setup(ctx context.Context, token, email, password, address string) (fleet.User, error) {
	if done, err := s.IsSetUp(ctx); err != nil {
		return fleet.User{}, err
	} else if done {
		s.audit(ctx, fleet.AuditEntry{
			Address: address, Action: "setup", Outcome: "refused", Reason: errSetUp.Message, Fold: fold("setup-again", fleet.Network(address)),
		})
		return fleet.User{}, errSetUp
	}
	right, err := s.tokenIsRight(ctx, token)
	if err != nil {
		return fleet.User{}, err
	}
	problems := fleet.Problems{}
	if !right {
		problems.Add("token", "is not the token in the server's log")
	}
	email, err = checkAccount(problems, email, password)
	if err != nil {
		if !right {
			s.audit(ctx, fleet.AuditEntry{
				Address: address, Action: "setup", Outcome: "refused", Reason: "wrong token", Fold: fold("setup", fleet.Network(address)),
			})
		}
		return fleet.User{}, err
	}
	return s.createFirst(ctx, email, password, address)
}

// EnsureAdmin makes the first admin from the configuration. It does nothing
// when there is a user already.
func (s *Service) EnsureAdmin(ctx context.Context, email, password string) error {
	if done, err := s.IsSetUp(ctx); err != nil || done {
		return err
	}
	email, err := checkAccount(fleet.Problems{}, email, password)
	if err != nil {
		return err
	}
	_, err = s.createFirst(ctx, email, password, "")
	if fleet.CodeOf(err) == fleet.CodeConflict {
		return nil // another process was faster
	}
	return err
}

var errSetUp = &fleet.Error{
	Code: fleet.CodeConflict, Message: "Portolan is set up already.", Remedy: "Sign in instead.",
}

func (s *Service) createFirst(ctx context.Context, email, password, address string) (fleet.User, error) {
	u, err := newUser(ctx, email, password, fleet.RoleAdmin)
	if err != nil {
		return u, err
	}
	err = s.store.CreateUser(ctx, u, true, fleet.AuditEntry{
		At: u.CreatedAt, Actor: email, Address: address, Action: "setup", Target: "user/" + email, Outcome: "ok",
	})
	if fleet.CodeOf(err) == fleet.CodeConflict {
		return u, errSetUp
	}
	if err != nil {
		return u, err
	}
	s.setUp.Store(true)
	return s.store.UserByEmail(ctx, email) // the epoch is the store's to begin
}

func (s *Service) tokenIsRight(ctx context.Context, token string) (bool, error) {
	given := hashToken(strings.TrimSpace(token))
	own := s.tokenHash
	if own == nil { // PrepareSetup was not called here: nothing matches but the stored one
		own = hashToken(rand.Text())
	}
	stored, err := s.store.SetupToken(ctx, own)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(given, own)|subtle.ConstantTimeCompare(given, stored) == 1, nil
}

func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// checkAccount returns the address as it is kept, and the problems as an error.
func checkAccount(problems fleet.Problems, email, password string) (string, error) {
	email, ok := fleet.CleanEmail(email)
	switch {
	case email == "":
		problems.Add("email", "must not be empty")
	case !ok:
		problems.Add("email", "must be an e-mail address")
	}
	if err := ValidatePassword(password); err != nil {
		problems.Add("password", "%s", err)
	}
	return email, problems.Err()
}

func newUser(ctx context.Context, email, password string, role fleet.Role) (fleet.User, error) {
	hash, err := HashPassword(ctx, password)
	if err != nil {
		return fleet.User{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fleet.User{}, err
	}
	return fleet.User{ID: id.String(), Email: email, Role: role, PasswordHash: hash, CreatedAt: time.Now()}, nil
}
