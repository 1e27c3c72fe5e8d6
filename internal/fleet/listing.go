package fleet

import "time"

// Page is one page of a list. Next is the cursor of the page after it, "" at
// the end.
type Page[T any] struct {
	Rows []T
	Next string
}

// Standing is the one list of the registry that a cluster is on.
type Standing string

const (
	StandingAvailable Standing = "available" // a target
	StandingFailed    Standing = "failed"    // its present configuration failed its test
	StandingUntested  Standing = "untested"  // not tested, or changed since
	StandingDisabled  Standing = "disabled"  // switched off, whatever its test says
)

// Standings lists every Standing in the order filters show them.
var Standings = []Standing{StandingAvailable, StandingFailed, StandingUntested, StandingDisabled}

// Standing returns the list of the registry that the cluster is on.
func (s *Status) Standing() Standing {
	switch {
	case !s.Cluster.Enabled:
		return StandingDisabled
	case s.IsTarget():
		return StandingAvailable
	case s.Verdict() == TestFailed:
		return StandingFailed
	default:
		return StandingUntested
	}
}

// ClusterFilter chooses clusters. Zero fields choose all.
type ClusterFilter struct {
	Standing Standing
	Expiring bool   // those that ClusterCounts.Expiring counts
	Query    string // part of the id, the label, the cluster's name, the region or the provider
	After    string // cursor
	Limit    int    // 0 = 50
}

// ClusterRow is one cluster of a list.
type ClusterRow struct {
	ID             string
	Label          string
	ClusterName    string
	Provider       Provider
	Exposure       ExposureMode
	Enabled        bool
	Allows         Allowances
	CredentialEnds time.Time // zero = never, or not known
	Readable       bool      // its kubeconfig can be read
	Workloads      int

	TestState TestState // as Status.TestState gives it
	// Of the latest finished test, of whatever configuration; zero = none.
	ServerVersion string
	TestedAt      time.Time
	TestTook      time.Duration
	FailedStage   Stage // of one that has failed
	FailedMessage string
}

// ClusterCounts counts the clusters by standing.
type ClusterCounts struct {
	All, Available, Failed, Untested, Disabled int
	Expiring                                   int // enabled, their credential ends soon or has ended
}

// ClusterName is what a choice of clusters shows.
type ClusterName struct {
	ID, Label string
}

// WorkloadFilter chooses workloads. Zero fields choose all.
type WorkloadFilter struct {
	Query   string // part of the name, the cluster's id, the namespace or the image
	Cluster string // its id
	Runtime string
	Phase   Phase
	After   string // cursor
	Limit   int    // 0 = 50
}

// WorkloadRow is one workload of a list, with its phase as it is now.
type WorkloadRow struct {
	ID, Name, ClusterID, Namespace, Runtime string // as in Workload

	ClusterLabel string
	Image        string
	Phase        Phase
	Reason       string    // why it is in that phase, where there is something to say
	Since        time.Time // of the phase; of the one before where it has become unknown by age
	SeenAt       time.Time // last proof of life; zero when never seen

	Desired, Ready int32 // as last seen; zero when never seen
}

// Target names where the workload runs.
func (w *WorkloadRow) Target() string { return TargetPrefix + w.ClusterID }

// OperationName is what a list shows of an operation on something else.
type OperationName struct {
	ID    string
	Verb  Verb
	State OperationState
}

// PhaseCounts counts workloads by phase.
type PhaseCounts map[Phase]int

// All is how many there are in all phases together.
func (c PhaseCounts) All() int {
	n := 0
	for _, count := range c {
		n += count
	}
	return n
}

// OperationFilter chooses operations. Zero fields choose all.
type OperationFilter struct {
	State OperationState
	After string // cursor
	Limit int    // 0 = 50
}

// ReleaseRow is one release of a workload, without its secrets, with the
// latest operation that brings or brought it up.
type ReleaseRow struct {
	Release
	Latest OperationName
}

// AuditFilter chooses entries of the record. Zero fields choose all.
type AuditFilter struct {
	Actor   string // how it begins; a whole e-mail address is that person alone
	Action  string
	Target  string // how it begins
	Outcome string
	From    time.Time // the first moment
	To      time.Time // the first moment after
	After   string    // cursor
	Limit   int       // 0 = 50
}

// UserFilter chooses users. Zero fields choose all.
type UserFilter struct {
	Query string // part of the e-mail address
	After string // cursor
	Limit int    // 0 = 50
}

// Overview is what the first page counts and points to.
type Overview struct {
	Workloads PhaseCounts
	Clusters  ClusterCounts
	Running   int // unfinished operations
	// Each is bounded: what needs attention first.
	FailedClusters []Status      // enabled, their latest test failed
	Unreadable     []Status      // enabled, their mounted kubeconfig cannot be read
	Expiring       []Status      // enabled, their credential ends soon or has ended; soonest first
	Troubled       []WorkloadRow // failed, degraded or unknown
	Operations     []Operation   // newest first, without steps
}

// NavCounts are the numbers beside the entries of the navigation.
type NavCounts struct {
	Workloads, Running, Clusters int
}
