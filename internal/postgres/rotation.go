package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// KnownIdentity is PinnedIdentity whatever the credential mode was.
func (db *DB) KnownIdentity(ctx context.Context, clusterID string) (fleet.ClusterIdentity, error) {
	known, err := one[fleet.ClusterIdentity](ctx, db.pool, `
		SELECT `+identityColumns+` FROM connection_tests t
		WHERE t.cluster_id = $1 AND t.state = 'ok' AND t.cluster_uid <> '' ORDER BY t.id DESC LIMIT 1`, clusterID)
	if absent(err) {
		return fleet.ClusterIdentity{}, nil
	}
	return known, wrap("known identity", err)
}

// TakeCredential puts the credential of c, which trial has tested, in the place
// of the present one, and makes that trial the cluster's latest test: all of it
// or nothing. It is CodeConflict when the row has moved on from c.Version or
// the trial has ended otherwise, and CodeForbidden when by is no admin any more:
// trials take long.
func (db *DB) TakeCredential(ctx context.Context, c fleet.Cluster, cred *fleet.SealedCredential, trial fleet.ConnectionTest, by fleet.Actor, audit fleet.AuditEntry) error {
	trial.Trial = false
	return wrap("take credential", db.inTx(ctx, func(tx pgx.Tx) error {
		if err := stillAdmin(ctx, tx, by); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			UPDATE clusters SET credential_mode = @credential_mode, kubeconfig_path = @kubeconfig_path, context = @context,
				credential_hash = @credential_hash, credential = @credential, credential_ends_at = @ends, cloud = @cloud,
				allow_tls_skip = @allow_tls_skip, allow_proxy = @allow_proxy, fingerprint = @fingerprint, test_wanted = false,
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
		if _, err := tx.Exec(ctx, `
			UPDATE connection_tests SET trial = false, credential_mode = $2 WHERE id = $1`, trial.ID, c.CredentialMode); err != nil {
			return err
		}
		if _, err := saveTest(ctx, tx, trial); err != nil {
			return err
		}
		return insertAudit(ctx, tx, audit)
	}))
}
