// Package registry holds the use cases of clusters: register, change, test,
// enable, delete, and say which are targets.
package registry

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

// Store keeps clusters and their connection tests.
type Store interface {
	// CreateCluster inserts; an id that is taken is CodeConflict with a
	// problem at "id". cred is nil for a mounted credential.
	CreateCluster(ctx context.Context, c fleet.Cluster, cred *fleet.SealedCredential, audit fleet.AuditEntry) error
	// UpdateCluster replaces every field of the row if c.Version is still its
	// version, and counts it up. cred nil keeps the sealed credential, except
	// that mounted mode drops it. A version that has moved on is CodeConflict.
	UpdateCluster(ctx context.Context, c fleet.Cluster, cred *fleet.SealedCredential, audit fleet.AuditEntry) error
	// SetEnabled switches a cluster on or off, and counts its version up.
	SetEnabled(ctx context.Context, id string, enabled bool, audit fleet.AuditEntry) error
	// SetCredentialHash records the hash of the mounted file at path, "" = not
	// readable, and what its credential says of itself. It does not count the
	// version up: nobody's form is outdated by it. A cluster that has another
	// credential by now is left as it is.
	SetCredentialHash(ctx context.Context, id, path, hash string, says fleet.CredentialFacts) error
	// DeleteCluster removes the row with its tests and credential. While
	// workloads are there it is CodeConflict and the message names them.
	DeleteCluster(ctx context.Context, id string, audit fleet.AuditEntry) error
	// ClusterWorkloads returns the names of the workloads that refer to the cluster.
	ClusterWorkloads(ctx context.Context, id string) ([]string, error)

	// Cluster returns a cluster; CodeNotFound.
	Cluster(ctx context.Context, id string) (fleet.Cluster, error)
	// ClusterStatus returns a cluster with its latest test; CodeNotFound.
	ClusterStatus(ctx context.Context, id string) (fleet.Status, error)
	// AllClusters returns every cluster with its latest test, by id.
	AllClusters(ctx context.Context) ([]fleet.Status, error)
	// MountedFiles returns the mounted kubeconfigs that clusters use.
	MountedFiles(ctx context.Context) ([]fleet.MountedFile, error)
	// KubeconfigUses returns how clusters use the mounted kubeconfigs of these
	// paths, and mounted or stored ones of these hashes.
	KubeconfigUses(ctx context.Context, paths, hashes []string) ([]fleet.KubeconfigUse, error)
	// Credential returns the sealed kubeconfig of an encrypted cluster; CodeNotFound.
	Credential(ctx context.Context, id string) (fleet.SealedCredential, error)

	// CloudCredential returns the sealed cloud credential of a cluster; CodeNotFound.
	CloudCredential(ctx context.Context, id string) (fleet.SealedCredential, error)

	// BeginTest inserts a running test and returns its id. While one runs for
	// the cluster it is CodeConflict; one whose deadline has passed without an
	// end (its process died) is closed as failed first. Until a result is saved
	// the cluster is due for a test.
	BeginTest(ctx context.Context, t fleet.ConnectionTest) (int64, error)
	// SaveTest stores the progress or, when its State is ok or failed, the end
	// of a test, and keeps the newest 50 of the cluster. A test that has ended
	// otherwise meanwhile, or whose cluster is gone, is CodeConflict.
	SaveTest(ctx context.Context, t fleet.ConnectionTest) error
	// DropTest forgets a running test that cannot be brought to its end.
	DropTest(ctx context.Context, t fleet.ConnectionTest) error
	// PinnedIdentity returns what the newest passed test pinned that pinned
	// anything, for the cluster's present credential mode; without a UID there is
	// none.
	PinnedIdentity(ctx context.Context, clusterID string) (fleet.ClusterIdentity, error)
	// WantTests makes clusters due for a test that by has asked for. Whoever
	// asked first for one that is wanted already stays named.
	WantTests(ctx context.Context, ids []string, by string) error
	// DueTests returns at most limit enabled clusters without a running test
	// whose latest test of the present configuration ended longer than interval
	// ago, after those for which a test is wanted, with who asked for it.
	DueTests(ctx context.Context, interval time.Duration, limit int) ([]fleet.DueTest, error)
	// KnownIdentity is PinnedIdentity whatever the credential mode was.
	KnownIdentity(ctx context.Context, clusterID string) (fleet.ClusterIdentity, error)
	// TakeCredential puts the credential of c, which trial has tested, in the
	// place of the present one, and makes the trial the cluster's latest test,
	// all or nothing. A row that has moved on from c.Version is CodeConflict. by is
	// asked for once more: one who is no admin any more is CodeForbidden.
	TakeCredential(ctx context.Context, c fleet.Cluster, cred *fleet.SealedCredential, trial fleet.ConnectionTest, by fleet.Actor, audit fleet.AuditEntry) error
	// Audit appends to the record.
	Audit(ctx context.Context, entry fleet.AuditEntry) error
}
