// Package auth knows who is there: passwords, sessions, the first sign-in and
// the throttle on guesses. What a role may do is decided elsewhere, in the
// access table of package web.
package auth

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"

	"portolan/internal/fleet"
)

// ErrNobody says that no one is signed in, or no longer.
var ErrNobody = errors.New("nobody is signed in")

// Options are what a Service works with.
type Options struct {
	Store Store
	// Sessions keeps the sessions; nil in commands that serve no page.
	Sessions SessionStore
	// Secure marks the session cookie for TLS only. It is for addresses that
	// browsers reach by https: on plain http they would drop the cookie.
	Secure bool
	Logger *slog.Logger
	// MaxWaiting is how many may wait to have their password looked at, others
	// being turned away at once; 0 = 64, less = nobody.
	MaxWaiting int
}

// Service holds the use cases of signing in.
type Service struct {
	store   Store
	log     *slog.Logger
	manager *scs.SessionManager
	waiting chan struct{} // holds one for each who waits for a password

	tokenHash []byte // of this process' setup token
	setUp     atomic.Bool
}

// New returns a Service.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = maxWaiting
	}
	return &Service{
		store: o.Store, log: o.Logger, manager: newManager(o.Sessions, o.Secure), waiting: make(chan struct{}, max(o.MaxWaiting, 0)),
	}
}

// audit appends to the record. A record that cannot be written is logged and
// does not undo what was done.
func (s *Service) audit(ctx context.Context, e fleet.AuditEntry) {
	e.At = time.Now()
	if err := s.store.Audit(context.WithoutCancel(ctx), e); err != nil {
		s.log.ErrorContext(ctx, "write audit entry", "action", e.Action, "err", err)
	}
}

// Record appends to the record what another part has done.
func (s *Service) Record(ctx context.Context, e fleet.AuditEntry) {
	e.Outcome = "ok"
	s.audit(ctx, e)
}

// refused records the attempt when why is one that a person is told, and
// returns why.
func (s *Service) refused(ctx context.Context, e fleet.AuditEntry, why error) error {
	var shown *fleet.Error
	if errors.As(why, &shown) {
		e.Outcome, e.Reason, e.Diff = "refused", shown.Message, nil
		s.audit(ctx, e.Folded())
	}
	return why
}

// Refused records an attempt that was turned away before any use case saw it.
func (s *Service) Refused(ctx context.Context, e fleet.AuditEntry) {
	e.Outcome = "refused"
	s.audit(ctx, e.Folded())
}
