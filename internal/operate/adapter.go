package operate

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

// Adapter drives a workload's Kubernetes objects, one step at a time. Every
// step is idempotent: done again after a crash it ends in the same state.
type Adapter interface {
	// Do works at a step for at most slice. An error is a *fleet.Failure when
	// it ends the operation, or wraps one; any other error is worth a later
	// try until the step's deadline.
	Do(ctx context.Context, r fleet.StepRequest, slice time.Duration) (fleet.StepResult, error)
	// Preview asks the API server, in a dry run, what applying the request's
	// objects would do. Nothing is changed.
	Preview(ctx context.Context, r fleet.StepRequest) ([]fleet.ObjectPreview, error)
}
