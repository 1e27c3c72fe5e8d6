package web

import (
	"context"

	"portolan/internal/fleet"
)

// Reads is what pages read. Lists are paged by key and bounded.
type Reads interface {
	// Ready returns nil when the database answers and its schema is current.
	Ready(ctx context.Context) error
	// NavCounts returns the numbers beside the navigation.
	NavCounts(ctx context.Context) (fleet.NavCounts, error)
	// Overview returns what the first page shows.
	Overview(ctx context.Context) (fleet.Overview, error)

	// Clusters returns one page of clusters by label.
	Clusters(ctx context.Context, f fleet.ClusterFilter) (fleet.Page[fleet.ClusterRow], error)
	// ClusterCounts counts those whose text matches query, "" = all.
	ClusterCounts(ctx context.Context, query string) (fleet.ClusterCounts, error)
	// ClusterNames returns id and label of every cluster that has workloads.
	ClusterNames(ctx context.Context) ([]fleet.ClusterName, error)
	// Targets returns at most limit clusters that can be deployed to, by label,
	// and how many there are.
	Targets(ctx context.Context, limit int) ([]fleet.Status, int, error)
	// NotOffered returns the other clusters in the same way.
	NotOffered(ctx context.Context, limit int) ([]fleet.Status, int, error)
	// ClusterStatus returns a cluster with its latest finished test; CodeNotFound.
	ClusterStatus(ctx context.Context, id string) (fleet.Status, error)
	// Tests returns the newest tests of a cluster, a running one first.
	Tests(ctx context.Context, clusterID string, limit int) ([]fleet.ConnectionTest, error)
	// ClusterWorkloads returns the names of the workloads that refer to the cluster.
	ClusterWorkloads(ctx context.Context, id string) ([]string, error)

	// ListWorkloads returns one page of workloads by name.
	ListWorkloads(ctx context.Context, f fleet.WorkloadFilter) (fleet.Page[fleet.WorkloadRow], error)
	// PhaseCounts counts the workloads that f chooses, whatever their phase.
	PhaseCounts(ctx context.Context, f fleet.WorkloadFilter) (fleet.PhaseCounts, error)
	// Workload returns a workload with its latest operation and observation; CodeNotFound.
	Workload(ctx context.Context, id string) (fleet.WorkloadState, error)
	// Release returns one release; CodeNotFound.
	Release(ctx context.Context, workloadID string, number int) (fleet.Release, error)
	// Releases returns the newest releases of a workload.
	Releases(ctx context.Context, workloadID string) ([]fleet.ReleaseRow, error)
	// VolumeNames returns the names of the volumes of all releases of a workload.
	VolumeNames(ctx context.Context, workloadID string) ([]string, error)

	// ListUsers returns one page of users by e-mail address.
	ListUsers(ctx context.Context, f fleet.UserFilter) (fleet.Page[fleet.UserRow], error)
	// UserByID returns a user; CodeNotFound.
	UserByID(ctx context.Context, id string) (fleet.User, error)
	// Invites returns the newest invitations that nobody has accepted yet.
	Invites(ctx context.Context) ([]fleet.Invite, error)

	// AuditEntries returns one page of the record, newest first.
	AuditEntries(ctx context.Context, f fleet.AuditFilter) (fleet.Page[fleet.AuditEntry], error)
	// EachAuditEntry calls do with every entry, newest first, until it fails.
	EachAuditEntry(ctx context.Context, f fleet.AuditFilter, do func(fleet.AuditEntry) error) error

	// Operations returns one page of operations, newest first, without steps.
	Operations(ctx context.Context, f fleet.OperationFilter) (fleet.Page[fleet.Operation], error)
	// OperationsOf returns the newest operations of a workload, without steps.
	OperationsOf(ctx context.Context, workloadID string, limit int) ([]fleet.Operation, error)
	// Operation returns an operation with its steps; CodeNotFound.
	Operation(ctx context.Context, id string) (fleet.Operation, error)
	// EventsSince returns the events of an operation after seq, in order.
	EventsSince(ctx context.Context, operationID string, seq int64, limit int) ([]fleet.Event, error)
}

// Bell wakes streams when what they show has changed. Topics are
// operation:<id>, workload:<id> and cluster:<id>. A ring says only that
// something may have changed; several may come as one.
type Bell interface {
	Subscribe(topic string) (ring <-chan struct{}, stop func())
}
