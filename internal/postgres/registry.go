package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// statusRow is a cluster with what fleet.Status needs beside it. Its test is
// read apart, by its id.
type statusRow struct {
	clusterRow
	TestID    int64
	Running   bool
	Workloads int
	SortKey   string
}

// A running test counts as such until its process must be dead.
const statusColumns = clusterColumns + `, coalesce(c.test_id, 0) AS test_id, lower(c.label) AS sort_key,
	EXISTS (SELECT FROM connection_tests r WHERE r.cluster_id = c.id AND r.state = 'running'
		AND r.started_at + r.deadline + interval '2 seconds' > now()) AS running,
	(SELECT count(*) FROM workloads w WHERE w.cluster_id = c.id) AS workloads`

// ClusterStatus returns a cluster with its latest test; CodeNotFound.
func (db *DB) ClusterStatus(ctx context.Context, id string) (fleet.Status, error) {
	rows, err := db.statuses(ctx, testColumns, `SELECT `+statusColumns+` FROM clusters c WHERE c.id = $1`, id)
	if err != nil {
		return fleet.Status{}, fmt.Errorf("postgres: cluster: %w", err)
	}
	if len(rows) == 0 {
		return fleet.Status{}, fmt.Errorf("postgres: cluster: %w", fleet.NotFound("There is no such cluster."))
	}
	return rows[0].Status, nil
}

// AllClusters returns every cluster with its latest test, by id. The tests come
// without permissions.
func (db *DB) AllClusters(ctx context.Context) ([]fleet.Status, error) {
	rows, err := db.statuses(ctx, testColumnsBrief, `SELECT `+statusColumns+` FROM clusters c ORDER BY c.id`)
	if err != nil {
		return nil, fmt.Errorf("postgres: clusters: %w", err)
	}
	return statusesOf(rows), nil
}

// MountedClusters returns every cluster whose kubeconfig is a mounted file, by
// id.
func (db *DB) MountedClusters(ctx context.Context) ([]fleet.Cluster, error) {
	rows, err := many[clusterRow](ctx, db.pool, `
		SELECT `+clusterColumns+` FROM clusters c WHERE credential_mode = 'mounted' ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("postgres: clusters: %w", err)
	}
	out := make([]fleet.Cluster, len(rows))
	for i, r := range rows {
		out[i] = r.cluster()
	}
	return out, nil
}

// KubeconfigUses returns how clusters use the mounted kubeconfigs of these
// paths, and mounted or stored ones of these hashes.
func (db *DB) KubeconfigUses(ctx context.Context, paths, hashes []string) ([]fleet.KubeconfigUse, error) {
	uses, err := many[fleet.KubeconfigUse](ctx, db.pool, `
		SELECT DISTINCT kubeconfig_path AS path, credential_hash AS hash, context FROM clusters
		WHERE kubeconfig_path = ANY($1) OR credential_hash = ANY($2)`, orEmpty(paths), orEmpty(hashes))
	return uses, wrap("kubeconfig uses", err)
}

// Targets returns the clusters that workloads may be deployed to, by label, at
// most limit of them (0 = 50), and how many there are.
func (db *DB) Targets(ctx context.Context, limit int) ([]fleet.Status, int, error) {
	return db.standing(ctx, "c.standing = 'available'", limit)
}

// NotOffered returns the other clusters in the same way.
func (db *DB) NotOffered(ctx context.Context, limit int) ([]fleet.Status, int, error) {
	return db.standing(ctx, "c.standing <> 'available'", limit)
}

func (db *DB) standing(ctx context.Context, where string, limit int) ([]fleet.Status, int, error) {
	var total int
	if err := db.pool.QueryRow(ctx, `SELECT count(*) FROM clusters c WHERE `+where).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("postgres: clusters: %w", err)
	}
	rows, err := db.statuses(ctx, testColumnsBrief, `
		SELECT `+statusColumns+` FROM clusters c WHERE `+where+` ORDER BY lower(c.label), c.id LIMIT $1`, pageLimit(limit))
	if err != nil {
		return nil, 0, fmt.Errorf("postgres: clusters: %w", err)
	}
	return statusesOf(rows), total, nil
}

func statusesOf(rows []clusterListRow) []fleet.Status {
	out := make([]fleet.Status, len(rows))
	for i, r := range rows {
		out[i] = r.Status
	}
	return out
}

// clusterTextSQL is what a search of the registry looks through.
const clusterTextSQL = `concat_ws(' ', c.id, c.label, c.cluster_name, c.region, c.provider)`

// Clusters returns a page of the registry, by label. Of the tests, those that
// have failed come with their checks, none with permissions.
func (db *DB) Clusters(ctx context.Context, f fleet.ClusterFilter) (fleet.Page[fleet.ClusterRow], error) {
	var page fleet.Page[fleet.ClusterRow]
	label, id, err := pairCursor(f.After)
	if err != nil {
		return page, err
	}
	limit := pageLimit(f.Limit)
	args := pgx.NamedArgs{"limit": limit + 1}
	where := []string{"true"}
	if f.Standing != "" {
		where, args["standing"] = append(where, "c.standing = @standing"), f.Standing
	}
	if pattern := likePattern(f.Query); pattern != "" {
		where, args["pattern"] = append(where, clusterTextSQL+" ILIKE @pattern"), pattern
	}
	if id != "" {
		where = append(where, "(lower(c.label), c.id) > (@label, @id)")
		args["label"], args["id"] = label, id
	}
	rows, err := db.statuses(ctx, testColumnsFailed, `
		SELECT `+statusColumns+` FROM clusters c WHERE `+strings.Join(where, " AND ")+`
		ORDER BY lower(c.label), c.id LIMIT @limit`, args)
	if err != nil {
		return page, fmt.Errorf("postgres: clusters: %w", err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		page.Next = formatPair(last.sortKey, last.Cluster.ID)
	}
	page.Rows = make([]fleet.ClusterRow, len(rows))
	for i := range rows {
		page.Rows[i] = rows[i].ClusterRow
	}
	return page, nil
}

type clusterListRow struct {
	fleet.ClusterRow
	sortKey string
}

// statuses runs a query of statusColumns and adds the latest tests, read with
// columnsOfTest.
func (db *DB) statuses(ctx context.Context, columnsOfTest, sql string, args ...any) ([]clusterListRow, error) {
	rows, err := many[statusRow](ctx, db.pool, sql, args...)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, r := range rows {
		if r.TestID != 0 {
			ids = append(ids, r.TestID)
		}
	}
	tests := map[int64]*fleet.ConnectionTest{}
	if len(ids) > 0 {
		found, err := many[testRow](ctx, db.pool, `SELECT `+columnsOfTest+` FROM connection_tests t WHERE id = ANY($1)`, ids)
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			t := r.test()
			tests[t.ID] = &t
		}
	}
	out := make([]clusterListRow, len(rows))
	for i, r := range rows {
		out[i].Cluster, out[i].Test, out[i].Running = r.cluster(), tests[r.TestID], r.Running
		out[i].Workloads, out[i].sortKey = r.Workloads, r.SortKey
	}
	return out, nil
}

// ClusterCounts counts the clusters by standing, those whose text matches
// query as that of ClusterFilter does; "" = all.
func (db *DB) ClusterCounts(ctx context.Context, query string) (fleet.ClusterCounts, error) {
	if query != "" {
		return db.countClusters(ctx, query)
	}
	return db.tiles.get(func() (fleet.ClusterCounts, error) { return db.countClusters(ctx, "") })
}

func (db *DB) countClusters(ctx context.Context, query string) (fleet.ClusterCounts, error) {
	args := pgx.NamedArgs{"soon": fleet.ExpiryWarning}
	where := "true"
	if pattern := likePattern(query); pattern != "" {
		where, args["pattern"] = clusterTextSQL+" ILIKE @pattern", pattern
	}
	counts, err := one[fleet.ClusterCounts](ctx, db.pool, `
		SELECT count(*) AS "all", count(*) FILTER (WHERE c.standing = 'available') AS available,
			count(*) FILTER (WHERE c.standing = 'failed') AS failed,
			count(*) FILTER (WHERE c.standing = 'untested') AS untested,
			count(*) FILTER (WHERE c.standing = 'disabled') AS disabled,
			count(*) FILTER (WHERE c.enabled AND c.credential_ends_at < now() + @soon::interval) AS expiring
		FROM clusters c WHERE `+where, args)
	return counts, wrap("cluster counts", err)
}

// clusterNamesShown bounds a choice of clusters. Beyond it, searching for a
// cluster's id does the same.
const clusterNamesShown = 100

// ClusterNames returns the clusters that have workloads, by label, at most 100.
func (db *DB) ClusterNames(ctx context.Context) ([]fleet.ClusterName, error) {
	names, err := db.names.get(func() ([]fleet.ClusterName, error) {
		return many[fleet.ClusterName](ctx, db.pool, `
			SELECT c.id, c.label FROM clusters c WHERE EXISTS (SELECT FROM workloads w WHERE w.cluster_id = c.id)
			ORDER BY lower(c.label), c.id LIMIT $1`, clusterNamesShown)
	})
	return slices.Clone(names), wrap("cluster names", err)
}
