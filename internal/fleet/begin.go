package fleet

import (
	"errors"
	"time"
)

// ErrFenced says that another process has taken over what the caller works at, an
// operation or the watch of a cluster, or that it has ended: what the caller still
// wanted to write was refused.
var ErrFenced = errors.New("another process has taken over")

// Begin is what one transaction writes at the start of an operation.
type Begin struct {
	// Workload is inserted when New; else its Release, Replicas, Stopped and
	// Kind are updated.
	Workload Workload
	New      bool
	// Release, when not nil, is inserted with the next free number, which
	// Workload.Release and Operation.Release then take.
	Release *Release
	// Seal, when not nil, gives the Release its sealed secrets.
	Seal SealRelease
	// Operation is inserted with its Steps, all pending. A forget arrives
	// finished and removes the workload's row in the same transaction.
	Operation Operation
	Audit     AuditEntry
}

// SealRelease seals the secrets of a release as soon as its number is known, to
// which they are bound. It is called inside a transaction and must be quick.
type SealRelease func(number int) (keyID string, sealed []byte, err error)

// Change is what the holder of an operation records in one transaction. Zero
// fields change nothing.
type Change struct {
	Events []Event // what happened before the steps changed; Seq and OperationID are filled in
	Steps  []Step  // new states, in order; each also becomes an event

	// Finish ends the operation; it becomes the last event.
	Finish  OperationState
	Failure *Failure

	Replicas         *int32       // workload: the count to restore
	Stopped          *bool        // workload
	Removed          bool         // the workload's row is deleted
	ReleaseSucceeded int          // this release has been up
	Observation      *Observation // as seen by the step that ends the operation
}

// WorkloadState is a workload with what decides its phase.
type WorkloadState struct {
	Workload    Workload
	Since       time.Time    // of its phase as last written; age is not counted
	Operation   *Operation   // latest, with its steps
	Observation *Observation // latest
}

// Unreachability is the observer's word on whether a namespace of a cluster
// answers. The zero value means that it does, or is not watched yet.
type Unreachability struct {
	Since time.Time // last proof of life; zero with Error set = never answered
	Error string    // what the watch last failed with; "" = it answers
}

// At reports whether the namespace counts as unreachable: it fails, and has
// shown no life for UnknownAfter.
func (u Unreachability) At(now time.Time) bool {
	return u.Error != "" && now.Sub(u.Since) > UnknownAfter
}

// SealedCredential is an encrypted kubeconfig or cloud credential as it is kept.
type SealedCredential struct {
	KeyID  string
	Sealed []byte
}

// Assignment is one cluster that an observer watches.
type Assignment struct {
	Cluster    Cluster
	Namespaces []string // those that hold workloads
}

// Watched is a workload that an observer watches.
type Watched struct {
	Workload
	// Ended is the number of the last operation on it that has ended; 0 = none.
	// It grows, as an operation begins after the one before it has ended, until
	// retention removes the operation: only a greater one means anything.
	Ended int64
}
