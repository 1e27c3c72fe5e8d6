package fleet

import (
	"errors"
	"time"
)

// ErrOutdated says that an operation, which had looked itself, has ended since
// a workload was read.
var ErrOutdated = errors.New("an operation has ended since this was read")

// UnknownAfter is how long after the last proof of life a workload's state is
// no longer known.
const UnknownAfter = 30 * time.Second

// Observation is the last state of a workload seen in its cluster.
type Observation struct {
	WorkloadID         string
	SeenAt             time.Time // last proof of life of the watch that shows it
	ChangedAt          time.Time // when it last changed
	Exists             bool      // the Deployment or StatefulSet is there
	UID                string
	Generation         int64
	ObservedGeneration int64
	Desired            int32 // spec.replicas
	Current            int32 // status.replicas
	Ready              int32
	Available          int32
	Updated            int32
	Release            int         // the release its annotation names; 0 = none
	Health             string      // kstatus: InProgress, Failed, Current, Terminating, NotFound, Unknown
	Message            string      // why it is not as wanted, in a sentence
	Reason             string      // one CamelCase word for that, such as CrashLoopBackOff
	Conditions         []Condition `json:"conditions"`
	Pods               []Pod       `json:"pods"`
	PodsOmitted        int         // how many there are beside Pods: ones that have ended, where Pods names some, else those that are too many to be told of
	Endpoints          []Endpoint  `json:"endpoints"`
}

// Condition is one condition of the Deployment or StatefulSet.
type Condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Pod is one pod of a workload.
type Pod struct {
	Name       string         `json:"name"`
	UID        string         `json:"uid"`
	Phase      string         `json:"phase"`
	Ready      bool           `json:"ready"`
	Restarts   int32          `json:"restarts,omitempty"`
	Reason     string         `json:"reason,omitempty"` // why it is not ready
	Message    string         `json:"message,omitempty"`
	Node       string         `json:"node,omitempty"`
	Deleting   bool           `json:"deleting,omitempty"`
	StartedAt  time.Time      `json:"startedAt,omitzero"`
	Containers []PodContainer `json:"containers,omitempty"`
}

// Over reports whether the pod has ended for good: it runs nothing and holds
// nothing, and its controller no longer counts it. An evicted pod stays so in the
// cluster. One that is being deleted is not over before it is gone.
func (p *Pod) Over() bool { return PodOver(p.Phase, p.Deleting) }

// PodOver is Over of a pod in that phase, as Kubernetes writes it.
func PodOver(phase string, deleting bool) bool {
	return !deleting && (phase == "Succeeded" || phase == "Failed")
}

// PodContainer is one container of a pod.
type PodContainer struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Restarts int32  `json:"restarts,omitempty"`
	State    string `json:"state"` // waiting, running, terminated
	Reason   string `json:"reason,omitempty"`
}

// Endpoint is one way to reach a port of the workload.
type Endpoint struct {
	Port string `json:"port"`          // name
	URL  string `json:"url,omitempty"` // to click; "" = only inside the cluster
	Text string `json:"text"`          // host:port as a person types it
}

// Age is how long ago the observation had its last proof of life.
func (o *Observation) Age(now time.Time) time.Duration { return max(0, now.Sub(o.SeenAt)) }

// left is how many pods are not over.
func (o *Observation) left() int {
	n := 0
	for i := range o.Pods {
		if !o.Pods[i].Over() {
			n++
		}
	}
	return n
}

// Phase is a workload's state in one word.
type Phase string

const (
	PhaseDeploying Phase = "deploying"
	PhaseRunning   Phase = "running"
	PhaseDegraded  Phase = "degraded"
	PhaseStopping  Phase = "stopping"
	PhaseStopped   Phase = "stopped"
	PhaseFailed    Phase = "failed"
	PhaseDeleting  Phase = "deleting"
	PhaseUnknown   Phase = "unknown"
)

// Phases lists every phase in the order filters show them.
var Phases = []Phase{
	PhaseRunning, PhaseDeploying, PhaseDegraded, PhaseFailed, PhaseStopping, PhaseStopped, PhaseDeleting, PhaseUnknown,
}

// PhaseOf computes a workload's phase, and why, from its latest operation,
// its latest observation and the time; both may be nil. It is the only place
// that does.
func PhaseOf(op *Operation, obs *Observation, now time.Time) (Phase, string) {
	if op != nil && !op.State.Finished() {
		switch op.Verb {
		case VerbStop:
			return PhaseStopping, ""
		case VerbDelete, VerbForget:
			return PhaseDeleting, ""
		default:
			return PhaseDeploying, ""
		}
	}
	if obs == nil {
		if op != nil && op.State == OperationFailed && op.Verb == VerbDeploy {
			return PhaseFailed, failureText(op)
		}
		return PhaseUnknown, "It has not been seen in its cluster yet."
	}
	if age := obs.Age(now); age > UnknownAfter {
		return PhaseUnknown, "Its cluster has not answered since then."
	}
	failed := op != nil && (op.State == OperationFailed || op.State == OperationCancelled)
	switch {
	case !obs.Exists && failed && (op.Failure != nil || op.Release > 0 || op.Verb == VerbDelete):
		return PhaseFailed, failureText(op)
	case !obs.Exists:
		return PhaseFailed, "Its objects are not in the cluster. Redeploy makes them anew."
	case obs.Desired == 0 && obs.Current == 0 && obs.Ready == 0 && obs.left() == 0:
		return PhaseStopped, ""
	case obs.Desired == 0:
		return PhaseStopping, Counted(max(int(obs.Current), obs.left()), "pod remains.", "pods remain.")
	case obs.Health == "Failed" && obs.Available == 0:
		return PhaseFailed, obs.Message
	case obs.Generation > obs.ObservedGeneration || obs.Updated < obs.Desired || obs.Available < obs.Desired || obs.Current > obs.Desired:
		if obs.Available == 0 && failed {
			// An operation explains what it has brought up. Any other may be long past,
			// and what is seen now says more.
			if obs.Message == "" || op.Release > 0 && op.Release == obs.Release {
				return PhaseFailed, failureText(op)
			}
			return PhaseFailed, obs.Message
		}
		return PhaseDegraded, obs.Message
	default:
		return PhaseRunning, ""
	}
}

func failureText(op *Operation) string {
	if op.Failure != nil {
		return op.Failure.Message
	}
	if op.State == OperationCancelled {
		return "Its " + string(op.Verb) + " was cancelled."
	}
	return "Its " + string(op.Verb) + " failed."
}
