package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"portolan/internal/fleet"
)

// throttleWindow is how far back failures count.
const throttleWindow = 5 * time.Minute

// How many failures in the window close the door. The limit on an account from
// anywhere is higher than the one from a single address: else anybody could
// lock an account's owner out.
const (
	maxPairFailures    = 5
	maxAccountFailures = 20
	maxAddressFailures = 50
)

// maxWaiting is how many people may wait until it is their turn to have their
// password looked at, in each process: each takes some 50 ms.
const maxWaiting = 64

// ErrBusy says that too many are waiting already. Nothing was looked at, and
// nothing is counted.
var ErrBusy = &fleet.Error{
	Code: fleet.CodeUnavailable, Message: "Too many people are signing in at this moment.", Remedy: "Try again in a few seconds.",
}

// enter takes a place among those who wait, until leave is called. It fails at
// once with ErrBusy when there is none.
func (s *Service) enter() (leave func(), err error) {
	select {
	case s.waiting <- struct{}{}:
		return func() { <-s.waiting }, nil
	default:
		return nil, ErrBusy
	}
}

// ErrCredentials says that the e-mail address and the password do not belong
// together; it is the same for an account that does not exist.
var ErrCredentials = errors.New("the e-mail address or the password is wrong")

// ThrottledError says that there were too many failures lately.
type ThrottledError struct {
	RetryAfter time.Duration
	key        string // of the limit that was reached
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many attempts; try again in %d minutes", int(e.RetryAfter.Minutes()))
}

type limit struct {
	key string
	max int
	// spare, if there is one, is asked when the limit is reached, and lets the
	// attempt go on.
	spare func(ctx context.Context) (bool, error)
}

// Login returns the user whose password it is. It fails with ErrCredentials, a
// *ThrottledError, ErrBusy, or what the store says. Accounts that exist, do not
// exist and are disabled answer alike and take the same time.
func (s *Service) Login(ctx context.Context, email, password, address string) (fleet.User, error) {
	email, ok := fleet.CleanEmail(email)
	if !ok {
		email = "" // no account has it; what was typed may not even be text
	}
	entry := fleet.AuditEntry{Actor: email, Address: address, Action: "login", Outcome: "refused"}
	from := fleet.Network(address)
	limits := []limit{
		{key: "pair:" + email + " " + from, max: maxPairFailures},
		{key: "account:" + email, max: maxAccountFailures, spare: func(ctx context.Context) (bool, error) { return s.knows(ctx, email, from) }},
		{key: "address:" + from, max: maxAddressFailures},
	}
	leave, err := s.admit(ctx, entry, limits)
	if err != nil {
		return fleet.User{}, err
	}
	defer leave()
	u, err := s.store.UserByEmail(ctx, email)
	if err != nil && fleet.CodeOf(err) != fleet.CodeNotFound {
		return fleet.User{}, err
	}
	ok, err = VerifyPassword(ctx, u.PasswordHash, password)
	if err != nil {
		return fleet.User{}, err
	}
	if !ok || u.Disabled {
		entry.Reason = ErrCredentials.Error()
		s.audit(ctx, entry.Folded())
		return fleet.User{}, ErrCredentials
	}
	for _, l := range limits[:2] { // the address may still be guessing elsewhere
		if err := s.store.ClearLoginFailures(ctx, l.key); err != nil {
			return fleet.User{}, err
		}
	}
	entry.Outcome = "ok"
	s.audit(ctx, entry)
	return u, nil
}

// knows reports whether the owner of an account has been signed in lately from
// where the attempt comes: guesses from elsewhere must not lock them out.
func (s *Service) knows(ctx context.Context, email, from string) (bool, error) {
	addresses, err := s.store.SessionAddresses(ctx, email)
	return slices.ContainsFunc(addresses, func(a string) bool { return fleet.Network(a) == from }), err
}

// auditThrottled records an attempt that throttle turned away. Anybody can make
// them without end: those of one window are one row that counts them.
func (s *Service) auditThrottled(ctx context.Context, entry fleet.AuditEntry, err error) {
	entry.Outcome, entry.Reason = "refused", err.Error()
	var throttled *ThrottledError
	if errors.As(err, &throttled) {
		entry.Fold = fold(entry.Action, throttled.key)
	}
	s.audit(ctx, entry)
}

// fold is the same for all attempts of a kind within a window.
func fold(action, key string) string {
	return fmt.Sprintf("%s %s %d", action, key, fleet.AuditWindow())
}

// admit takes a place among those who wait to have their password looked at,
// until leave is called. Those who are over a limit are turned away before, and
// recorded: they must not keep places from others. It fails with a
// *ThrottledError, ErrBusy, or what the store says.
func (s *Service) admit(ctx context.Context, entry fleet.AuditEntry, limits []limit) (leave func(), err error) {
	now := time.Now()
	if err = s.over(ctx, limits, now, 1); err == nil {
		if leave, err = s.enter(); err != nil {
			return nil, err
		}
		if err = s.throttle(ctx, limits, now); err == nil {
			return leave, nil
		}
		leave()
	}
	s.auditThrottled(ctx, entry, err)
	return nil, err
}

// throttle counts the attempt as a failure before it is looked at, so that
// many at once cannot slip past the limit; a success clears it.
func (s *Service) throttle(ctx context.Context, limits []limit, now time.Time) error {
	for _, l := range limits {
		if err := s.store.AddLoginFailure(ctx, l.key, now); err != nil {
			return err
		}
	}
	return s.over(ctx, limits, now, 0)
}

// over fails with a *ThrottledError if so many more attempts would be over one
// of the limits.
func (s *Service) over(ctx context.Context, limits []limit, now time.Time, more int) error {
	for _, l := range limits {
		n, err := s.store.LoginFailures(ctx, l.key, now.Add(-throttleWindow))
		if err != nil {
			return err
		}
		if n+more <= l.max {
			continue
		}
		spared := false
		if l.spare != nil {
			if spared, err = l.spare(ctx); err != nil {
				return err
			}
		}
		if !spared {
			return &ThrottledError{RetryAfter: throttleWindow, key: l.key}
		}
	}
	return nil
}
