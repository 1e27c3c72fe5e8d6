// Package operate holds the use cases of workloads: begin an operation, run it
// step by step so that it survives its process, cancel it.
package operate

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

// Store keeps workloads, releases and operations.
type Store interface {
	// Begin writes everything that an operation starts with, and its job, in
	// one transaction. It returns the operation as stored. A second unfinished
	// operation of a workload, and a second workload of a name in one
	// namespace of one cluster, are a fleet.Error with CodeConflict; the
	// latter has a problem with the field "name". So is a workload that another
	// operation has changed since it was read.
	Begin(ctx context.Context, b fleet.Begin) (fleet.Operation, error)

	// Claim takes hold of the operation for the bearer of token and marks it
	// running. fleet.ErrFenced: the token is old, the operation is held or has ended.
	Claim(ctx context.Context, operationID string, token int64) (fleet.Operation, error)
	// Heartbeat shows that the holder lives, and tells it whether a cancel was asked for.
	Heartbeat(ctx context.Context, operationID string, token int64) (cancelRequested bool, err error)
	// GiveUp lets go of the operation until wake, so that waiting is not taken for dying.
	GiveUp(ctx context.Context, operationID string, token int64, wake time.Duration) error
	// Record writes what a holder did, all or nothing, and rings the bells.
	Record(ctx context.Context, operationID string, token int64, c fleet.Change) error
	// TakeOver gives every unfinished operation whose holder has been silent
	// for staleAfter, or whose job is that late, a new token and a new job.
	// It returns how many.
	TakeOver(ctx context.Context, staleAfter time.Duration) (int, error)
	// RequestCancel marks an unfinished operation; CodeConflict if it has ended.
	RequestCancel(ctx context.Context, operationID string, audit fleet.AuditEntry) error

	// Workload returns a workload with its latest operation and observation
	// (nil where there is none); CodeNotFound.
	Workload(ctx context.Context, id string) (fleet.WorkloadState, error)
	// Release returns one release; CodeNotFound.
	Release(ctx context.Context, workloadID string, number int) (fleet.Release, error)
	// EverUp reports whether any release of a workload has been up.
	EverUp(ctx context.Context, workloadID string) (bool, error)
	// VolumeNames returns the names of the volumes of all releases of a workload.
	VolumeNames(ctx context.Context, workloadID string) ([]string, error)
	// Cluster returns a cluster; CodeNotFound.
	Cluster(ctx context.Context, clusterID string) (fleet.Cluster, error)
	// ClusterStatus returns a cluster with its latest test; CodeNotFound.
	ClusterStatus(ctx context.Context, clusterID string) (fleet.Status, error)
	// Unreachable says since when the observer gets no answer for the
	// cluster's namespace, and the last error; ok = it answers, or it is not
	// watched yet.
	Unreachable(ctx context.Context, clusterID, namespace string) (u fleet.Unreachability, err error)
	// PinnedIdentity returns by what the tests recognise the cluster; without a
	// UID there is nothing.
	PinnedIdentity(ctx context.Context, clusterID string) (fleet.ClusterIdentity, error)
	// Installation identifies this Portolan among those that share a cluster.
	Installation(ctx context.Context) (string, error)
	// Audit appends to the record.
	Audit(ctx context.Context, entry fleet.AuditEntry) error
}
