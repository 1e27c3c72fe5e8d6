package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// Lease renews the leases of holder and takes free and expired ones, one per
// cluster that has workloads, up to ttl from now. It returns all that holder
// now has, with the namespaces to watch there, by cluster.
func (db *DB) Lease(ctx context.Context, holder string, ttl time.Duration) ([]fleet.Assignment, error) {
	type row struct {
		clusterRow
		WatchedNamespaces []string
	}
	var rows []row
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		// In the order of the ids, so that two observers never wait for each other.
		if _, err := tx.Exec(ctx, `
			INSERT INTO observer_leases AS l (cluster_id, holder, expires_at)
			SELECT id, $1, now() + $2::interval FROM clusters c
			WHERE EXISTS (SELECT FROM workloads w WHERE w.cluster_id = c.id) ORDER BY id
			ON CONFLICT (cluster_id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
			WHERE l.holder = excluded.holder OR l.expires_at < now()`, holder, ttl); err != nil {
			return err
		}
		var err error
		rows, err = many[row](ctx, tx, `
			SELECT `+clusterColumns+`, n.watched_namespaces FROM observer_leases l
			JOIN clusters c ON c.id = l.cluster_id
			JOIN (SELECT cluster_id, array_agg(DISTINCT namespace ORDER BY namespace) AS watched_namespaces
				FROM workloads GROUP BY cluster_id) n ON n.cluster_id = c.id
			WHERE l.holder = $1 AND l.expires_at > now() ORDER BY c.id`, holder)
		return err
	})
	assignments := make([]fleet.Assignment, len(rows))
	for i, r := range rows {
		assignments[i] = fleet.Assignment{Cluster: r.cluster(), Namespaces: r.WatchedNamespaces}
	}
	return assignments, wrap("lease", err)
}

// ReleaseLeases gives all leases of holder back, at shutdown.
func (db *DB) ReleaseLeases(ctx context.Context, holder string) error {
	_, err := db.pool.Exec(ctx, `DELETE FROM observer_leases WHERE holder = $1`, holder)
	return wrap("release leases", err)
}
