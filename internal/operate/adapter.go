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
	Do(ctx context.Context, r StepRequest, slice time.Duration) (StepResult, error)
}

// StepRequest is all that a step needs to know.
type StepRequest struct {
	Operation    fleet.Operation
	Step         fleet.Step
	Cluster      fleet.Cluster // as it is now: credential, exposure
	Workload     fleet.Workload
	Spec         fleet.Spec        // of the release that is wanted
	Secrets      map[string]string // values of Spec.SecretEnv
	Installation string
}

// StepResult is what a slice of a step came to.
type StepResult struct {
	Done        bool   // the step has succeeded
	Skipped     bool   // with Done: there was nothing to do
	Message     string // for the step's line: "2 of 3 updated", "198.51.100.7"
	Events      []fleet.Event
	Replicas    *int32             // stop: the count it found, to restore later
	Observation *fleet.Observation // the state seen at the end of the slice
}
