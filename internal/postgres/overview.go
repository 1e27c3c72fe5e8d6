package postgres

import (
	"context"
	"fmt"

	"portolan/internal/fleet"
)

const attentionShown = 8 // of each kind

// Overview returns what the first page shows.
func (db *DB) Overview(ctx context.Context) (fleet.Overview, error) {
	var o fleet.Overview
	var err error
	if o.Workloads, err = db.PhaseCounts(ctx, fleet.WorkloadFilter{}); err != nil {
		return o, err
	}
	if o.Clusters, err = db.ClusterCounts(ctx, ""); err != nil {
		return o, err
	}
	if err := db.pool.QueryRow(ctx, `SELECT count(*) FROM operations WHERE state IN ('queued', 'running')`).Scan(&o.Running); err != nil {
		return o, fmt.Errorf("postgres: overview: %w", err)
	}
	o.FailedClusters, err = db.statuses(ctx, testColumnsBrief, `
		SELECT `+statusColumns+` FROM clusters c WHERE c.standing = 'failed' ORDER BY c.tested_at DESC LIMIT $1`, attentionShown)
	if err != nil {
		return o, fmt.Errorf("postgres: overview: %w", err)
	}
	o.Unreadable, err = db.statuses(ctx, testColumnsBrief, `
		SELECT `+statusColumns+` FROM clusters c WHERE c.enabled AND c.credential_hash = '' ORDER BY c.id LIMIT $1`, attentionShown)
	if err != nil {
		return o, fmt.Errorf("postgres: overview: %w", err)
	}
	o.Expiring, err = db.statuses(ctx, testColumnsBrief, `
		SELECT `+statusColumns+` FROM clusters c WHERE `+expiringSQL+` ORDER BY c.credential_ends_at LIMIT $1`, attentionShown)
	if err != nil {
		return o, fmt.Errorf("postgres: overview: %w", err)
	}
	for _, phase := range []fleet.Phase{fleet.PhaseFailed, fleet.PhaseDegraded, fleet.PhaseUnknown} {
		if o.Workloads[phase] == 0 || len(o.Troubled) >= attentionShown {
			continue
		}
		page, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{Phase: phase, Limit: attentionShown - len(o.Troubled)})
		if err != nil {
			return o, err
		}
		o.Troubled = append(o.Troubled, page.Rows...)
	}
	operations, err := db.Operations(ctx, fleet.OperationFilter{Limit: attentionShown})
	o.Operations = operations.Rows
	return o, err
}

// NavCounts returns the numbers beside the navigation.
func (db *DB) NavCounts(ctx context.Context) (fleet.NavCounts, error) {
	return db.nav.get(ctx, func(ctx context.Context) (fleet.NavCounts, error) {
		counts, err := one[fleet.NavCounts](ctx, db.pool, `
			SELECT (SELECT count(*) FROM workloads) AS workloads,
				(SELECT count(*) FROM operations WHERE state IN ('queued', 'running')) AS running,
				(SELECT count(*) FROM clusters) AS clusters`)
		return counts, wrap("counts", err)
	})
}
