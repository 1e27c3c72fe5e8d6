package fleet

import "time"

// StepRequest is all that the adapter needs to know to work at a step.
type StepRequest struct {
	Operation    Operation
	Step         Step
	Watched      time.Time // since when this process has looked at the step without a pause; zero = since it began
	Cluster      Cluster   // as it is now: credential, exposure
	Workload     Workload
	Spec         Spec              // of the release that is wanted
	Secrets      map[string]string // values of Spec.SecretEnv; nil = they cannot be opened, and no step applies them
	Installation string            // tells this Portolan's objects from another's

	// Pinned is by what the cluster's tests recognise it: in another one nothing
	// is done. Without a UID it is not known, or was compared already.
	Pinned ClusterIdentity
}

// Resumed reports whether the step's wait was taken up again not long ago, so that
// it must not count as too long yet.
func (r *StepRequest) Resumed(now time.Time) bool { return now.Before(r.Patience()) }

// Patience is the earliest time at which the step's wait may count as too long;
// zero where that does not depend on who has looked.
func (r *StepRequest) Patience() time.Time {
	if r.Watched.Sub(r.Step.StartedAt) < time.Minute {
		return time.Time{} // it was looked at from the beginning
	}
	return r.Watched.Add(ResumeGrace)
}

// StepResult is what a slice of a step came to.
type StepResult struct {
	Done        bool   // the step has succeeded
	Skipped     bool   // with Done: there was nothing to do
	Message     string // for the step's line: "2 of 3 updated", "198.51.100.7"
	Events      []Event
	Replicas    *int32       // stop: the count it found, to restore later
	Observation *Observation // the state seen at the end of the slice
}

// ObjectPreview is what a deploy would do to one Kubernetes object.
type ObjectPreview struct {
	Kind    string
	Name    string
	Summary string // what matters about it, in a line
	Action  string // create, configure, unchanged, conflict
	Tried   bool   // the API server was asked; it cannot be while the namespace is not there
	Error   string // why the API server would refuse it; "" = accepted
	Note    string // what the person should know though it is accepted; "" = nothing
	YAML    string // as it would be applied; secret values are masked
}
