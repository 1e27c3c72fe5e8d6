package fleet

import (
	"slices"
	"time"
)

// Verb is what an operation does to a workload.
type Verb string

const (
	VerbDeploy   Verb = "deploy"
	VerbUpdate   Verb = "update"
	VerbStop     Verb = "stop"
	VerbStart    Verb = "start"
	VerbRestart  Verb = "restart"
	VerbScale    Verb = "scale"
	VerbRollback Verb = "rollback"
	VerbRedeploy Verb = "redeploy"
	VerbDelete   Verb = "delete"
	VerbForget   Verb = "forget"
)

// Verbs lists every verb in the order pages show them.
var Verbs = []Verb{
	VerbDeploy, VerbUpdate, VerbStart, VerbStop, VerbRestart, VerbScale, VerbRollback, VerbRedeploy, VerbDelete, VerbForget,
}

// StepName names one part of an operation.
type StepName string

const (
	StepNamespace StepName = "namespace" // it exists, or is made
	StepObjects   StepName = "objects"   // every object is applied
	StepReplicas  StepName = "replicas"  // spec.replicas is set
	StepRestart   StepName = "restart"   // the pod template's restart annotation is set
	StepRemove    StepName = "remove"    // deletion of the objects is asked for
	StepGone      StepName = "gone"      // no pod, or on removal no object, remains
	StepRollout   StepName = "rollout"   // updated = available = desired; what only the release before used is removed
	StepAddress   StepName = "address"   // the load balancer has an address
)

// Steps returns the steps of verb in order.
func Steps(verb Verb) []StepName {
	switch verb {
	case VerbDeploy:
		return []StepName{StepNamespace, StepObjects, StepRollout, StepAddress}
	case VerbUpdate, VerbRollback:
		return []StepName{StepObjects, StepRollout, StepAddress}
	case VerbStop:
		return []StepName{StepReplicas, StepGone}
	case VerbStart:
		return []StepName{StepReplicas, StepRollout, StepAddress}
	case VerbScale:
		return []StepName{StepReplicas, StepRollout}
	case VerbRestart:
		return []StepName{StepRestart, StepRollout}
	case VerbRedeploy:
		return []StepName{StepRemove, StepGone, StepNamespace, StepObjects, StepRollout, StepAddress}
	case VerbDelete:
		return []StepName{StepRemove, StepGone}
	default: // VerbForget touches no cluster
		return nil
	}
}

// OperationState is the state of an operation.
type OperationState string

const (
	OperationQueued    OperationState = "queued"
	OperationRunning   OperationState = "running"
	OperationSucceeded OperationState = "succeeded"
	OperationFailed    OperationState = "failed"
	OperationCancelled OperationState = "cancelled"
)

// Finished reports whether no more will happen.
func (s OperationState) Finished() bool {
	return s == OperationSucceeded || s == OperationFailed || s == OperationCancelled
}

// StepState is the state of a step.
type StepState string

const (
	StepPending   StepState = "pending"
	StepRunning   StepState = "running"
	StepSucceeded StepState = "succeeded"
	StepFailed    StepState = "failed"
	StepSkipped   StepState = "skipped"
)

// Operation is one durable action on a workload. Its rows outlive the
// workload's, so it keeps the names a reader needs.
type Operation struct {
	ID              string // UUID
	WorkloadID      string
	WorkloadName    string
	ClusterID       string
	Namespace       string
	Runtime         string
	Verb            Verb
	State           OperationState
	Release         int // the release it brings up; 0 = it changes none
	Params          Params
	Actor           string // e-mail address of who asked
	CancelRequested bool
	Failure         *Failure // why it failed; nil otherwise
	Token           int64    // fences off a worker that was taken over
	CreatedAt       time.Time
	StartedAt       time.Time // zero while queued
	FinishedAt      time.Time // zero until finished
	Steps           []Step    // in order
	LastSeq         int64     // of its newest event
	EventsRemoved   bool      // they were kept long enough
}

// Params are what the person chose beside the verb.
type Params struct {
	Replicas    int32 `json:"replicas,omitempty"`    // scale; start: the count to restore
	KeepVolumes bool  `json:"keepVolumes,omitempty"` // delete, forget
	Stopped     bool  `json:"stopped,omitempty"`     // update, rollback, redeploy: of a stopped workload, so that no pod begins
	First       bool  `json:"first,omitempty"`       // update, redeploy: nothing of the workload was made before, so that it begins as a deploy does
	FromRelease int   `json:"fromRelease,omitempty"` // rollback: the release that is repeated; update: the one before
}

// Step is one part of an operation.
type Step struct {
	Name       StepName
	State      StepState
	Message    string
	StartedAt  time.Time // of its first attempt; zero while pending
	FinishedAt time.Time
}

// What the end of an operation says of the steps that it ends.
const (
	MessageNotReached = "not reached"
	MessageCancelled  = "Cancelled before it was done. What it changed so far stays as it is."
)

// Done reports whether the step came to its own end, also because it found
// nothing to do.
func (s *Step) Done() bool {
	return s.State == StepSucceeded || s.State == StepSkipped && s.Message != MessageNotReached && s.Message != MessageCancelled
}

// Event is one line of an operation's append-only record, or one change of
// its state or of a step's state, so that a stream of events is the whole
// story.
type Event struct {
	OperationID string
	Seq         int64 // from 1, without gaps, per operation
	At          time.Time
	Type        EventType
	Step        StepName // "" = the operation as a whole
	State       string   // the new state, for EventStep and EventOperation
	Reason      string   // one CamelCase word, where Kubernetes gave one
	Object      string   // Kind/name it is about, or ""
	Message     string
}

// EventType classes an Event.
type EventType string

const (
	EventNormal    EventType = "normal"
	EventWarning   EventType = "warning"
	EventStep      EventType = "step"      // a step changed its state
	EventOperation EventType = "operation" // the operation changed its state
)

// Failure is why an operation failed, in words a person can act on.
type Failure struct {
	Reason  string   `json:"reason"` // one CamelCase word, such as ImagePullBackOff
	Message string   `json:"message"`
	Remedy  string   `json:"remedy,omitempty"`
	Object  string   `json:"object,omitempty"` // Kind/name
	Events  []string `json:"events,omitempty"` // the last ones of that object
	Logs    []string `json:"logs,omitempty"`   // the last lines of its container
}

func (f *Failure) Error() string { return f.Message }

// Reasons of failures that Portolan itself gives; others are Kubernetes' own.
const (
	ReasonConflict        = "Conflict"     // an object of this name is not ours
	ReasonForbidden       = "Forbidden"    // the credential lacks a permission
	ReasonUnauthorized    = "Unauthorized" // the API server does not accept the credential
	ReasonUnreachable     = "Unreachable"  // the API server does not answer
	ReasonDeadline        = "DeadlineExceeded"
	ReasonAnotherCluster  = "AnotherCluster"  // the credential leads elsewhere than before
	ReasonTargetChanged   = "TargetChanged"   // no longer a target when the work began
	ReasonInvalid         = "Invalid"         // the API server refused the object
	ReasonSecretsUnopened = "SecretsUnopened" // the sealed values cannot be opened
	ReasonInternal        = "Internal"
)

// MayFollow reports whether a step may go from one state to the other.
func (s StepState) MayFollow(from StepState) bool {
	switch from {
	case StepPending: // failed: what it needs could not even be gathered
		return s == StepRunning || s == StepSkipped || s == StepFailed
	case StepRunning:
		return s == StepRunning || s == StepSucceeded || s == StepFailed || s == StepSkipped
	default:
		return false
	}
}

// MayFollow reports whether an operation may go from one state to the other.
func (s OperationState) MayFollow(from OperationState) bool {
	switch from {
	case OperationQueued:
		return s == OperationRunning || s.Finished()
	case OperationRunning:
		return s == OperationRunning || s.Finished()
	default:
		return false
	}
}

// NextStep returns the first step that is not done, or nil.
func (o *Operation) NextStep() *Step {
	i := slices.IndexFunc(o.Steps, func(s Step) bool { return s.State == StepPending || s.State == StepRunning })
	if i < 0 {
		return nil
	}
	return &o.Steps[i]
}

// Has reports whether the operation has a step of that name.
func (o *Operation) Has(name StepName) bool {
	return slices.ContainsFunc(o.Steps, func(s Step) bool { return s.Name == name })
}

// Deadlines of the steps that wait for the cluster. The wait for a load
// balancer's address has the cluster's own.
const (
	RolloutDeadline = 10 * time.Minute
	GoneDeadline    = 10 * time.Minute
)

// ResumeGrace is for how long a wait that is taken up again is looked at before it
// counts as too long, however long nobody has: after a machine was down its
// cluster has to begin too.
const ResumeGrace = 2 * time.Minute
