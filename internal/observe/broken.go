package observe

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// run watches until ctx ends. A watch that breaks is begun anew, ever more
// rarely; meanwhile the age of what was seen grows, and nothing is concluded
// from the silence.
func (n *namespace) run(ctx context.Context) {
	backoff := n.firstBackoff()
	for {
		began := time.Now()
		err := n.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, live.ErrExpired) || errors.Is(err, errClosed) {
			err = nil
		}
		if err != nil {
			n.broke(ctx, err)
		}
		if err == nil || time.Since(began) > n.opts.MaxBackoff {
			backoff = n.firstBackoff()
		}
		// Spread out, so that the watches of a server that comes back do not
		// all come at once.
		wait := backoff/2 + rand.N(backoff/2)
		if err == nil && time.Since(began) > time.Second {
			wait = 0 // unless the server ends watches at once, which is no reason to ask it in a loop
		}
		backoff = min(n.opts.MaxBackoff, 2*backoff)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// broke tells why a watch broke: of the cluster, if it was the cluster.
func (n *namespace) broke(ctx context.Context, err error) {
	about := []any{"cluster", n.cluster.ID, "namespace", n.name, "err", err}
	switch {
	case errors.Is(err, fleet.ErrFenced): // another process watches it
		n.opts.Logger.DebugContext(ctx, "watch taken over", about...)
		return
	case errors.As(err, &errStore{}):
		n.opts.Logger.WarnContext(ctx, "store what a watch sees", about...)
		return
	}
	n.opts.Logger.DebugContext(ctx, "watch broke", about...)
	err = n.store.MarkBroken(ctx, n.opts.Holder, n.cluster.ID, n.name, words(err))
	if err != nil && !errors.Is(err, fleet.ErrFenced) && ctx.Err() == nil {
		n.opts.Logger.WarnContext(ctx, "mark a watch broken", "cluster", n.cluster.ID, "err", err)
	}
}

// words says in a sentence why a watch fails.
func words(err error) string {
	var shown *fleet.Error
	switch {
	case errors.As(err, &shown):
		return shown.Message
	case errors.Is(err, context.DeadlineExceeded):
		return "The API server does not answer in time."
	case apierrors.IsForbidden(err):
		return "The credential may not watch the namespace: " + live.Clip(err.Error())
	case apierrors.IsUnauthorized(err):
		return "The API server does not accept the credential."
	default:
		return live.Clip(err.Error())
	}
}

func (n *namespace) firstBackoff() time.Duration { return min(500*time.Millisecond, n.opts.MaxBackoff) }
