// Package observe watches the workloads of each cluster and writes down what it
// sees, with the time of the last proof that it sees at all.
package observe

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

// Store keeps leases, sources and observations.
type Store interface {
	// Lease renews the leases of holder and takes free and expired ones, one
	// per cluster that has workloads, up to ttl from now. It returns all that
	// holder now has, with the namespaces to watch there.
	Lease(ctx context.Context, holder string, ttl time.Duration) ([]fleet.Assignment, error)
	// ReleaseLeases gives all leases of holder back, at shutdown.
	ReleaseLeases(ctx context.Context, holder string) error
	// PinnedIdentity returns by what the tests recognise the cluster; without a
	// UID there is nothing.
	PinnedIdentity(ctx context.Context, clusterID string) (fleet.ClusterIdentity, error)
	// Workloads returns the workloads of one namespace of one cluster.
	Workloads(ctx context.Context, clusterID, namespace string) ([]fleet.Watched, error)
	// SaveObservation upserts an observation by its WorkloadID and rings the
	// workload's bell. holder must have the cluster's lease, else
	// fleet.ErrFenced. ended is what fleet.Watched said before the workload was
	// read; fleet.ErrOutdated where another operation has ended since. An
	// observation of a workload that is gone is dropped.
	SaveObservation(ctx context.Context, holder string, o fleet.Observation, ended int64) error
	// MarkAlive records a proof of life of a namespace's watch, once its first
	// list is complete. holder must have the cluster's lease, else
	// fleet.ErrFenced.
	MarkAlive(ctx context.Context, holder, clusterID, namespace string, at time.Time) error
	// MarkBroken records that the watch fails, and with what. The time of the
	// last proof of life stays. holder must have the cluster's lease, else
	// fleet.ErrFenced.
	MarkBroken(ctx context.Context, holder, clusterID, namespace, message string) error
}
