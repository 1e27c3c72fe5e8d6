package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// statusRow is a cluster with what fleet.Status needs beside it. Its test is
// read apart, by its id.
type statusRow struct {
	clusterRow
	TestID  int64
	Running bool
}

var (
	runningSQL = `EXISTS (SELECT FROM connection_tests r WHERE r.cluster_id = c.id AND r.state = 'running' AND ` + aliveSQL + `)`

	statusColumns = clusterColumns + `, coalesce(c.test_id, 0) AS test_id, ` + runningSQL + ` AS running`
)

// Cluster returns a cluster; CodeNotFound.
func (db *DB) Cluster(ctx context.Context, id string) (fleet.Cluster, error) {
	row, err := one[clusterRow](ctx, db.pool, `SELECT `+clusterColumns+` FROM clusters c WHERE c.id = $1`, id)
	if err != nil {
		return fleet.Cluster{}, fmt.Errorf("postgres: cluster: %w", orNotFound(err, "There is no such cluster."))
	}
	return row.cluster(), nil
}

// ClusterStatus returns a cluster with its latest test; CodeNotFound.
func (db *DB) ClusterStatus(ctx context.Context, id string) (fleet.Status, error) {
	rows, err := db.statuses(ctx, testColumns, `SELECT `+statusColumns+` FROM clusters c WHERE c.id = $1`, id)
	if err != nil {
		return fleet.Status{}, fmt.Errorf("postgres: cluster: %w", err)
	}
	if len(rows) == 0 {
		return fleet.Status{}, fmt.Errorf("postgres: cluster: %w", fleet.NotFound("There is no such cluster."))
	}
	return rows[0], nil
}

// AllClusters returns every cluster with its latest test, by id. The tests come
// without permissions.
func (db *DB) AllClusters(ctx context.Context) ([]fleet.Status, error) {
	rows, err := db.statuses(ctx, testColumnsBrief, `SELECT `+statusColumns+` FROM clusters c ORDER BY c.id`)
	if err != nil {
		return nil, fmt.Errorf("postgres: clusters: %w", err)
	}
	return rows, nil
}

// MountedFiles returns the mounted kubeconfigs that clusters use, by path.
func (db *DB) MountedFiles(ctx context.Context) ([]fleet.MountedFile, error) {
	files, err := many[fleet.MountedFile](ctx, db.pool, `
		SELECT id AS cluster_id, kubeconfig_path AS path, credential_hash AS hash FROM clusters
		WHERE credential_mode = 'mounted' ORDER BY kubeconfig_path, id`)
	return files, wrap("mounted kubeconfigs", err)
}

// kubeconfigUses is how clusters use certain kubeconfigs.
type kubeconfigUses struct {
	of   string // which
	uses []fleet.KubeconfigUse
}

// KubeconfigUses returns how clusters use the mounted kubeconfigs of these
// paths, and mounted or stored ones of these hashes.
func (db *DB) KubeconfigUses(ctx context.Context, paths, hashes []string) ([]fleet.KubeconfigUse, error) {
	of := fmt.Sprintf("%q %q", paths, hashes)
	count := func(ctx context.Context) (kubeconfigUses, error) {
		uses, err := many[fleet.KubeconfigUse](ctx, db.pool, `
			SELECT DISTINCT kubeconfig_path AS path, credential_hash AS hash, context FROM clusters
			WHERE kubeconfig_path = ANY($1) OR credential_hash = ANY($2)`, orEmpty(paths), orEmpty(hashes))
		return kubeconfigUses{of, uses}, err
	}
	kept, err := db.uses.get(ctx, count)
	if err == nil && kept.of != of { // a file has come, gone or changed
		db.uses.forget()
		kept, err = count(ctx)
	}
	return slices.Clone(kept.uses), wrap("kubeconfig uses", err)
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
	return rows, total, nil
}

// statuses runs a query of statusColumns and adds the latest tests, read with
// columnsOfTest.
func (db *DB) statuses(ctx context.Context, columnsOfTest, sql string, args ...any) ([]fleet.Status, error) {
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
	out := make([]fleet.Status, len(rows))
	for i, r := range rows {
		out[i] = fleet.Status{Cluster: r.cluster(), Test: tests[r.TestID], Running: r.Running}
	}
	return out, nil
}

// expiringSQL is of which clusters a person has to get a new credential. Its end
// is compared with a constant, so that a plan for all values is a good one.
var expiringSQL = fmt.Sprintf(`c.enabled AND c.credential_ends_at < now() + interval '%d seconds'`, int(fleet.ExpiryWarning.Seconds()))

// clusterTextSQL is what a search of the registry looks through.
const clusterTextSQL = `concat_ws(' ', c.id, c.label, c.cluster_name, c.region, c.provider)`

// clusterPattern matches what a search of the registry asks for. A target is
// found by its cluster's id.
func clusterPattern(query string) string {
	return likePattern(strings.TrimPrefix(strings.TrimSpace(query), fleet.TargetPrefix))
}

// clusterListSQL lists clusters: the page is found first and then completed row
// by row, with the latest test of each.
func clusterListSQL(where string, limit int) string {
	return `
	WITH page AS MATERIALIZED (
		SELECT c.*, lower(c.label) AS sort_key FROM clusters c
		WHERE ` + where + ` ORDER BY sort_key, c.id LIMIT ` + strconv.Itoa(limit) + `
	)
	SELECT c.sort_key, c.id, c.label, c.cluster_name, c.provider, c.exposure->>'mode', c.enabled, c.allow_tls_skip, c.allow_proxy,
		c.credential_ends_at, c.credential_hash <> '', (SELECT count(*) FROM workloads w WHERE w.cluster_id = c.id),
		CASE WHEN ` + runningSQL + ` THEN 'running' ELSE c.verdict END,
		coalesce(t.server_version, ''), t.started_at, t.finished_at,
		coalesce(failed.stage, ''), coalesce(failed.message, '')
	FROM page c
	LEFT JOIN connection_tests t ON t.id = c.test_id
	LEFT JOIN LATERAL (
		SELECT k->>'stage' AS stage, k->>'message' AS message
		FROM jsonb_path_query_first(t.checks, '$[*] ? (@.state == "failed")') k WHERE t.state = 'failed'
	) failed ON true
	ORDER BY c.sort_key, c.id`
}

// Clusters returns a page of the registry, by label.
func (db *DB) Clusters(ctx context.Context, f fleet.ClusterFilter) (fleet.Page[fleet.ClusterRow], error) {
	var page fleet.Page[fleet.ClusterRow]
	label, id, err := pairCursor(f.After)
	if err != nil {
		return page, err
	}
	limit := pageLimit(f.Limit)
	args := pgx.NamedArgs{}
	where := []string{"true"}
	if f.Standing != "" {
		where, args["standing"] = append(where, "c.standing = @standing"), f.Standing
	}
	if f.Expiring {
		where = append(where, expiringSQL)
	}
	if pattern := clusterPattern(f.Query); pattern != "" {
		where, args["pattern"] = append(where, clusterTextSQL+" ILIKE @pattern"), pattern
	}
	if id != "" {
		where = append(where, "(lower(c.label), c.id) > (@label, @id)")
		args["label"], args["id"] = label, id
	}
	found, err := db.pool.Query(ctx, clusterListSQL(strings.Join(where, " AND "), limit+1), args)
	if err != nil {
		return page, fmt.Errorf("postgres: clusters: %w", err)
	}
	page.Rows = make([]fleet.ClusterRow, 0, limit+1)
	var r fleet.ClusterRow
	var keys []string
	var key string
	var ends, started, finished *time.Time
	columns := []any{
		&key, &r.ID, &r.Label, &r.ClusterName, &r.Provider, &r.Exposure, &r.Enabled, &r.Allows.TLSSkip, &r.Allows.Proxy,
		&ends, &r.Readable, &r.Workloads, &r.TestState, &r.ServerVersion, &started, &finished, &r.FailedStage, &r.FailedMessage,
	}
	if _, err = pgx.ForEachRow(found, columns, func() error {
		r.CredentialEnds, r.TestedAt = timeOf(ends), timeOf(finished)
		r.TestTook = r.TestedAt.Sub(timeOf(started))
		page.Rows, keys = append(page.Rows, r), append(keys, key)
		return nil
	}); err != nil {
		return page, fmt.Errorf("postgres: clusters: %w", err)
	}
	if len(page.Rows) > limit {
		page.Rows = page.Rows[:limit]
		page.Next = formatPair(keys[limit-1], page.Rows[limit-1].ID)
	}
	return page, nil
}

// ClusterCounts counts the clusters by standing, those whose text matches
// query as that of ClusterFilter does; "" = all.
func (db *DB) ClusterCounts(ctx context.Context, query string) (fleet.ClusterCounts, error) {
	if query != "" {
		return db.countClusters(ctx, query)
	}
	return db.tiles.get(ctx, func(ctx context.Context) (fleet.ClusterCounts, error) { return db.countClusters(ctx, "") })
}

func (db *DB) countClusters(ctx context.Context, query string) (fleet.ClusterCounts, error) {
	args := pgx.NamedArgs{}
	where := "true"
	if pattern := clusterPattern(query); pattern != "" {
		where, args["pattern"] = clusterTextSQL+" ILIKE @pattern", pattern
	}
	counts, err := one[fleet.ClusterCounts](ctx, db.pool, `
		SELECT count(*) AS "all", count(*) FILTER (WHERE c.standing = 'available') AS available,
			count(*) FILTER (WHERE c.standing = 'failed') AS failed,
			count(*) FILTER (WHERE c.standing = 'untested') AS untested,
			count(*) FILTER (WHERE c.standing = 'disabled') AS disabled,
			count(*) FILTER (WHERE `+expiringSQL+`) AS expiring
		FROM clusters c WHERE `+where, args)
	return counts, wrap("cluster counts", err)
}

// clusterNamesShown bounds a choice of clusters. Beyond it, searching for a
// cluster's id does the same.
const clusterNamesShown = 100

// ClusterNames returns the clusters that have workloads, by label, at most 100.
func (db *DB) ClusterNames(ctx context.Context) ([]fleet.ClusterName, error) {
	names, err := db.names.get(ctx, func(ctx context.Context) ([]fleet.ClusterName, error) {
		return many[fleet.ClusterName](ctx, db.pool, `
			SELECT c.id, c.label FROM clusters c WHERE EXISTS (SELECT FROM workloads w WHERE w.cluster_id = c.id)
			ORDER BY lower(c.label), c.id LIMIT $1`, clusterNamesShown)
	})
	return slices.Clone(names), wrap("cluster names", err)
}
