package views

import (
	"strconv"
	"time"
)

// Workloads is the list of workloads.
type Workloads struct {
	Query, Target, Runtime, Phase string // the chosen filters
	Targets, Runtimes             []Option
	Phases                        []Count // of the filtered list; Href chooses the phase
	Rows                          []WorkloadRow
	Next, First                   string // addresses of the next and the first page
	Targetable                    bool   // there is a target to deploy to
}

// WorkloadRow is one workload of a list.
type WorkloadRow struct {
	ID, Name, Runtime    string
	Target, ClusterLabel string
	Namespace            string
	Phase, Reason        string
	Image                string
	Ready, Desired       int
	Observed             bool // Ready and Desired were seen in the cluster
	SeenAt               time.Time
}

// Workload is the page of one workload.
type Workload struct {
	ID, Name              string
	Runtime, RuntimeLabel string
	Target, ClusterLabel  string
	ClusterHref           string // empty when the person may not see it
	Namespace, Kind       string
	Image                 string
	Release               int
	Phase, Reason         string
	Since                 time.Time // of the phase
	SeenAt                time.Time // last proof of life; zero when never seen
	Replicas              Replicas
	Wanted                int // replicas it has when it is not stopped
	Endpoints             []Endpoint
	Notes                 []string // things to know, such as that another release runs
	Conditions            []Condition
	Events                []Event
	Pods                  []Pod
	PodsOmitted           int // how many there are beside them
	Verbs                 []Verb
	Active                *OperationRow // the unfinished operation
	Releases              []Release
	Operations            []OperationRow
	Spec                  []Fact
	Logs                  LogPane
	Delete                Confirm // for the dialog
}

// Replicas are the counts of the live object.
type Replicas struct {
	Desired, Current, Ready, Available, Updated int
	Known                                       bool // seen at least once
}

// Endpoint is an address of a workload. URL is empty when it cannot be opened
// in a browser; Text is then shown alone.
type Endpoint struct {
	Name, Text, URL string
	Note            string
}

// Condition is a condition of the live object.
type Condition struct {
	Type, Status, Reason, Message string
	At                            time.Time
}

// Event is an event of the cluster about one of the workload's objects, which
// the last operation recorded.
type Event struct {
	At                   time.Time
	Type                 string // Normal or Warning
	Reason, Object, Says string
	Count                int
}

// Pod is a pod of the workload.
type Pod struct {
	Name, Phase, Reason, Node string
	Ready                     bool
	Restarts                  int
	At                        time.Time // of its creation
}

// omittedPods says which pods the list leaves out: it ends with ones that have
// ended, unless there are too many that have not.
func omittedPods(v Workload) string {
	if last := v.Pods[len(v.Pods)-1].Phase; last != "Failed" && last != "Succeeded" {
		return strconv.Itoa(v.PodsOmitted) + " more are not shown: there are too many for this page."
	}
	return strconv.Itoa(v.PodsOmitted) + " more have ended, begun earlier than those shown. They run nothing; the cluster's garbage collection removes them in time."
}

// Verb is an action on a workload: edit, start, stop, restart, redeploy, scale,
// delete or forget. The page shows those of the list in its order; one with a
// Why is disabled and says so.
type Verb struct {
	Name string
	Why  string
}

// Release is a release of a workload.
type Release struct {
	Number   int
	At       time.Time
	By       string
	Image    string
	Says     string // what changed, or what it was made from
	State    string // succeeded when it has been up, else that of the operation that made it
	Current  bool   // the one that is wanted
	Runs     bool   // the one that was seen to run
	Rollback bool   // may be rolled back to
}

// WorkloadDelete is the page that asks before deleting, and, where the cluster
// is gone, before forgetting.
type WorkloadDelete struct {
	Delete Confirm
	Forget *Confirm
}

// LogPane is the log of a workload.
type LogPane struct {
	WorkloadID, Name string
	Stream           string   // address of the stream with the choices below
	Pods             []string // full names
	Containers       []string
	Pod, Container   string // chosen; empty for all and for the first
	Tail             string // number of lines
	Previous         bool
	Off              string // why there are no logs; the pane then only says so
}
