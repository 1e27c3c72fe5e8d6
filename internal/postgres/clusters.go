package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type clusterRow struct {
	ID                string
	Label             string
	Provider          fleet.Provider
	ClusterName       string
	CredentialMode    fleet.CredentialMode
	KubeconfigPath    string
	Context           string
	CredentialHash    string
	Credential        fleet.CredentialFacts
	Cloud             fleet.CloudIdentity
	AllowTLSSkip      bool
	AllowProxy        bool
	Namespace         string
	RuntimeNamespaces map[string]string
	Exposure          fleet.Exposure
	ImagePullSecrets  []string
	Labels            map[string]string
	Region            string
	Enabled           bool
	Version           int64
	CreatedAt         time.Time
	UpdatedAt         time.Time
}

const clusterColumns = `c.id, c.label, c.provider, c.cluster_name, c.credential_mode, c.kubeconfig_path, c.context,
	c.credential_hash, c.credential, c.cloud, c.allow_tls_skip, c.allow_proxy, c.namespace, c.runtime_namespaces,
	c.exposure, c.image_pull_secrets, c.labels, c.region, c.enabled, c.version, c.created_at, c.updated_at`

func (r clusterRow) cluster() fleet.Cluster {
	return fleet.Cluster{
		ID: r.ID, Label: r.Label, Provider: r.Provider, ClusterName: r.ClusterName, CredentialMode: r.CredentialMode,
		KubeconfigPath: r.KubeconfigPath, Context: r.Context, CredentialHash: r.CredentialHash,
		Credential: r.Credential, Cloud: r.Cloud,
		Allows: fleet.Allowances{TLSSkip: r.AllowTLSSkip, Proxy: r.AllowProxy}, Namespace: r.Namespace,
		RuntimeNamespaces: r.RuntimeNamespaces, Exposure: r.Exposure, ImagePullSecrets: r.ImagePullSecrets,
		Labels: r.Labels, Region: r.Region, Enabled: r.Enabled,
		Version: r.Version, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// clusterArgs are the values of a cluster's columns, under their names.
func clusterArgs(c fleet.Cluster) pgx.NamedArgs {
	return pgx.NamedArgs{
		"id": c.ID, "label": c.Label, "provider": c.Provider, "cluster_name": c.ClusterName,
		"credential_mode": c.CredentialMode, "kubeconfig_path": c.KubeconfigPath, "context": c.Context,
		"credential_hash": c.CredentialHash, "credential": c.Credential, "ends": nullTime(c.Credential.NotAfter),
		"cloud": c.Cloud, "allow_tls_skip": c.Allows.TLSSkip, "allow_proxy": c.Allows.Proxy,
		"namespace": c.Namespace, "runtime_namespaces": orEmptyMap(c.RuntimeNamespaces), "exposure": c.Exposure,
		"image_pull_secrets": orEmpty(c.ImagePullSecrets), "labels": orEmptyMap(c.Labels), "region": c.Region,
		"enabled": c.Enabled, "version": c.Version, "fingerprint": c.Fingerprint(),
	}
}

// CreateCluster inserts; an id that is taken is CodeConflict with a problem at
// "id". cred is nil for a mounted credential.
func (db *DB) CreateCluster(ctx context.Context, c fleet.Cluster, cred *fleet.SealedCredential, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
			INSERT INTO clusters (id, label, provider, cluster_name, credential_mode, kubeconfig_path, context,
				credential_hash, credential, credential_ends_at, cloud, allow_tls_skip, allow_proxy,
				namespace, runtime_namespaces, exposure, image_pull_secrets, labels, region, enabled, fingerprint)
			VALUES (@id, @label, @provider, @cluster_name, @credential_mode, @kubeconfig_path, @context,
				@credential_hash, @credential, @ends, @cloud, @allow_tls_skip, @allow_proxy,
				@namespace, @runtime_namespaces, @exposure, @image_pull_secrets, @labels, @region, @enabled,
				@fingerprint)`, clusterArgs(c)); err != nil {
			return err
		}
		if err := storeCredential(ctx, tx, c, cred); err != nil {
			return err
		}
		if err := insertAudit(ctx, tx, audit); err != nil {
			return err
		}
		return ring(ctx, tx, clusterBell(c.ID))
	})
	if violates(err, uniqueViolation) {
		taken := fleet.Conflict("There is already a cluster %s.", c.ID)
		taken.Problems = fleet.Problems{"id": "This id is taken."}
		return taken
	}
	return wrap("create cluster", err)
}

// UpdateCluster replaces every field of the row if c.Version is still its
// version, and counts it up. cred nil keeps the sealed credential, except that
// mounted mode drops it. A version that has moved on is CodeConflict. No test is
// wanted of what a person has changed; of a mounted file whose change is noticed
// only here, one is.
func (db *DB) UpdateCluster(ctx context.Context, c fleet.Cluster, cred *fleet.SealedCredential, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE clusters SET label = @label, provider = @provider, cluster_name = @cluster_name,
				credential_mode = @credential_mode, kubeconfig_path = @kubeconfig_path, context = @context,
				credential_hash = @credential_hash, credential = @credential, credential_ends_at = @ends, cloud = @cloud,
				allow_tls_skip = @allow_tls_skip, allow_proxy = @allow_proxy, namespace = @namespace,
				runtime_namespaces = @runtime_namespaces, exposure = @exposure, image_pull_secrets = @image_pull_secrets,
				labels = @labels, region = @region, enabled = @enabled, fingerprint = @fingerprint,
				test_wanted = test_wanted AND fingerprint = @fingerprint
					OR credential_mode = 'mounted' AND @credential_mode = 'mounted' AND kubeconfig_path = @kubeconfig_path
					AND credential_hash <> @credential_hash AND @credential_hash <> '',
				test_wanted_by = CASE WHEN test_wanted AND fingerprint = @fingerprint THEN test_wanted_by ELSE '' END,
				version = version + 1, updated_at = now()
			WHERE id = @id AND version = @version`, clusterArgs(c))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return movedOn(ctx, tx, c.ID)
		}
		if err := storeCredential(ctx, tx, c, cred); err != nil {
			return err
		}
		if err := insertAudit(ctx, tx, audit); err != nil {
			return err
		}
		return ring(ctx, tx, clusterBell(c.ID))
	})
	return wrap("update cluster", err)
}

// movedOn is the error of an update that found no row of its version.
func movedOn(ctx context.Context, tx pgx.Tx, id string) error {
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM clusters WHERE id = $1)`, id).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		return fleet.NotFound("There is no such cluster.")
	}
	return fleet.Conflict("Somebody else has saved this cluster since you opened the form.")
}

func storeCredential(ctx context.Context, tx pgx.Tx, c fleet.Cluster, cred *fleet.SealedCredential) error {
	var err error
	switch {
	case c.CredentialMode == fleet.CredentialMounted:
		_, err = tx.Exec(ctx, `DELETE FROM cluster_credentials WHERE cluster_id = $1`, c.ID)
	case cred != nil:
		_, err = tx.Exec(ctx, `
			INSERT INTO cluster_credentials (cluster_id, key_id, sealed) VALUES ($1, $2, $3)
			ON CONFLICT (cluster_id) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, updated_at = now()`,
			c.ID, cred.KeyID, cred.Sealed)
	}
	if err != nil {
		return err
	}
	switch {
	case !c.Cloud.Sealed():
		_, err = tx.Exec(ctx, `DELETE FROM cluster_cloud_credentials WHERE cluster_id = $1`, c.ID)
	case c.SealedCloud != nil:
		_, err = tx.Exec(ctx, `
			INSERT INTO cluster_cloud_credentials (cluster_id, key_id, sealed) VALUES ($1, $2, $3)
			ON CONFLICT (cluster_id) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, updated_at = now()`,
			c.ID, c.SealedCloud.KeyID, c.SealedCloud.Sealed)
	}
	return err
}

// Credential returns the sealed kubeconfig of an encrypted cluster; CodeNotFound.
func (db *DB) Credential(ctx context.Context, id string) (fleet.SealedCredential, error) {
	cred, err := one[fleet.SealedCredential](ctx, db.pool, `
		SELECT key_id, sealed FROM cluster_credentials WHERE cluster_id = $1`, id)
	return cred, wrap("credential", orNotFound(err, "There is no stored credential for cluster %s.", id))
}

// CloudCredential returns the sealed cloud credential of a cluster; CodeNotFound.
func (db *DB) CloudCredential(ctx context.Context, id string) (fleet.SealedCredential, error) {
	cred, err := one[fleet.SealedCredential](ctx, db.pool, `
		SELECT key_id, sealed FROM cluster_cloud_credentials WHERE cluster_id = $1`, id)
	return cred, wrap("cloud credential", orNotFound(err, "There is no stored cloud credential for cluster %s.", id))
}

// SetEnabled switches a cluster on or off, and counts its version up;
// CodeNotFound.
func (db *DB) SetEnabled(ctx context.Context, id string, enabled bool, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE clusters SET enabled = $2, version = version + 1, updated_at = now() WHERE id = $1`, id, enabled)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fleet.NotFound("There is no such cluster.")
		}
		if err := insertAudit(ctx, tx, audit); err != nil {
			return err
		}
		return ring(ctx, tx, clusterBell(id))
	})
	return wrap("enable cluster", err)
}

// SetCredentialHash records the hash of the mounted file at path, "" = not
// readable, and what its credential says of itself. It does not count the version
// up: nobody's form is outdated by it. What has become readable is due for a
// test. Where the cluster is gone or has another credential by now, nothing
// changes, and that is no error.
func (db *DB) SetCredentialHash(ctx context.Context, id, path, hash string, says fleet.CredentialFacts) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		row, err := one[clusterRow](ctx, tx, `SELECT `+clusterColumns+` FROM clusters c
			WHERE id = $1 AND credential_mode = 'mounted' AND kubeconfig_path = $2 FOR UPDATE`, id, path)
		if absent(err) {
			return nil
		}
		if err != nil || row.CredentialHash == hash {
			return err
		}
		c := row.cluster()
		c.CredentialHash = hash
		if _, err := tx.Exec(ctx, `
			UPDATE clusters SET credential_hash = $2, fingerprint = $3, credential = $4, credential_ends_at = $5,
				test_wanted = $2 <> '', test_wanted_by = CASE WHEN test_wanted THEN test_wanted_by ELSE '' END
			WHERE id = $1`,
			id, hash, c.Fingerprint(), says, nullTime(says.NotAfter)); err != nil {
			return err
		}
		return ring(ctx, tx, clusterBell(id))
	})
	return wrap("credential hash", err)
}

// DeleteCluster removes the row with its tests and credential; CodeNotFound.
// While workloads are there it is CodeConflict and the message names them.
func (db *DB) DeleteCluster(ctx context.Context, id string, audit fleet.AuditEntry) error {
	err := db.inTx(ctx, func(tx pgx.Tx) error {
		// The lock keeps new workloads out until the row is gone.
		var exists bool
		if err := tx.QueryRow(ctx, `SELECT true FROM clusters WHERE id = $1 FOR UPDATE`, id).Scan(&exists); err != nil {
			return orNotFound(err, "There is no such cluster.")
		}
		names, err := clusterWorkloads(ctx, tx, id)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return fleet.ClusterInUse(id, names)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM clusters WHERE id = $1`, id); err != nil {
			return err
		}
		if err := insertAudit(ctx, tx, audit); err != nil {
			return err
		}
		return ring(ctx, tx, clusterBell(id))
	})
	return wrap("delete cluster", err)
}

// ClusterWorkloads returns the names of the workloads that refer to the cluster.
func (db *DB) ClusterWorkloads(ctx context.Context, id string) ([]string, error) {
	names, err := clusterWorkloads(ctx, db.pool, id)
	return names, wrap("workloads of cluster", err)
}

func clusterWorkloads(ctx context.Context, q querier, id string) ([]string, error) {
	return column[string](ctx, q, `SELECT name FROM workloads WHERE cluster_id = $1 ORDER BY name`, id)
}
