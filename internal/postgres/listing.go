package postgres

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

// The phase of a workload's row is true while its observation is fresh. Read,
// it is unknown once the last proof of life is too old, unless an operation is
// at work: what fleet.PhaseOf says of one workload, said in SQL of many. Every
// workload w has a source s, from its first transaction on.
var (
	cutoffSQL  = fmt.Sprintf(`(now() - interval '%d milliseconds')`, fleet.UnknownAfter.Milliseconds())
	seenSQL    = `greatest(w.observed_at, s.alive_at)`
	staleSQL   = `(NOT w.busy AND w.observed_at IS NOT NULL AND ` + seenSQL + ` < ` + cutoffSQL + `)`
	joinSource = ` JOIN observation_sources s ON s.cluster_id = w.cluster_id AND s.namespace = w.namespace`
)

// plannedAnew has a query planned for its present values. The plan that
// PostgreSQL would keep for all values does not know how many rows a filter
// leaves, and reads the whole table.
const plannedAnew = pgx.QueryExecModeCacheDescribe

// workloadListSQL lists workloads: the page is found first, in a query of its
// own that reads nothing but the workloads and their sources, and then
// completed row by row.
func workloadListSQL(where string, limit int) string {
	return `
	WITH page AS MATERIALIZED (
		SELECT w.id, w.name, w.cluster_id, w.namespace, w.runtime, w.image, w.phase, w.phase_reason, w.phase_since,
			` + staleSQL + ` AS stale, CASE WHEN w.observed_at IS NOT NULL THEN ` + seenSQL + ` END AS seen_at
		FROM workloads w` + joinSource + `
		WHERE ` + where + ` ORDER BY w.name, w.id LIMIT ` + strconv.Itoa(limit) + `
	)
	SELECT w.id, w.name, w.cluster_id, w.namespace, w.runtime, c.label, w.image,
		w.phase, w.phase_reason, w.phase_since, w.seen_at, coalesce(o.desired, 0), coalesce(o.ready, 0), w.stale
	FROM page w
	JOIN clusters c ON c.id = w.cluster_id
	LEFT JOIN observations o ON o.workload_id = w.id
	ORDER BY w.name, w.id`
}

// listWorkloads reads at most limit rows. The list is the page that is opened
// most and has the most rows: they are read straight into their places.
func (db *DB) listWorkloads(ctx context.Context, where string, limit int, args ...any) ([]fleet.WorkloadRow, error) {
	found, err := db.pool.Query(ctx, workloadListSQL(where, limit), args...)
	if err != nil {
		return nil, err
	}
	rows := make([]fleet.WorkloadRow, 0, limit)
	var r fleet.WorkloadRow
	var seen *time.Time
	var stale bool
	columns := []any{
		&r.ID, &r.Name, &r.ClusterID, &r.Namespace, &r.Runtime, &r.ClusterLabel, &r.Image,
		&r.Phase, &r.Reason, &r.Since, &seen, &r.Desired, &r.Ready, &stale,
	}
	_, err = pgx.ForEachRow(found, columns, func() error {
		r.SeenAt = timeOf(seen)
		if stale {
			r.Phase, r.Reason = fleet.PhaseOf(nil, &fleet.Observation{SeenAt: r.SeenAt}, r.SeenAt.Add(2*fleet.UnknownAfter))
		}
		rows = append(rows, r)
		return nil
	})
	return rows, err
}

// workloadWhere is the condition of a filter, but for its phase.
func workloadWhere(f fleet.WorkloadFilter, args pgx.NamedArgs) []string {
	where := []string{"true"}
	if pattern := likePattern(f.Query); pattern != "" {
		where, args["pattern"] = append(where, "w.search LIKE @pattern"), strings.ToLower(pattern)
	}
	if f.Cluster != "" {
		where, args["cluster"] = append(where, "w.cluster_id = @cluster"), f.Cluster
	}
	if f.Runtime != "" {
		where, args["runtime"] = append(where, "w.runtime = @runtime"), f.Runtime
	}
	return where
}

// ListWorkloads returns a page of workloads, by name.
func (db *DB) ListWorkloads(ctx context.Context, f fleet.WorkloadFilter) (fleet.Page[fleet.WorkloadRow], error) {
	var page fleet.Page[fleet.WorkloadRow]
	name, id, err := pairCursor(f.After)
	if err != nil {
		return page, err
	}
	limit := pageLimit(f.Limit)
	args := pgx.NamedArgs{}
	where := workloadWhere(f, args)
	// A page of all workloads is found the same way whatever its values.
	plan := plannedAnew
	if len(args) == 0 && f.Phase == "" {
		plan = pgx.QueryExecModeCacheStatement
	}
	switch f.Phase {
	case "":
	case fleet.PhaseUnknown:
		where = append(where, "(w.phase = 'unknown' OR "+staleSQL+")")
	default: // so that the index on phase serves
		where, args["phase"] = append(where, "w.phase = @phase AND NOT "+staleSQL), f.Phase
	}
	if id != "" {
		where = append(where, "(w.name, w.id) > (@name, @id::uuid)")
		args["name"], args["id"] = name, id
	}
	rows, err := db.listWorkloads(ctx, strings.Join(where, " AND "), limit+1, plan, args)
	if violates(err, invalidText) {
		return page, errCursor
	}
	if err != nil {
		return page, fmt.Errorf("postgres: workloads: %w", err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Next = formatPair(rows[limit-1].Name, rows[limit-1].ID)
	}
	page.Rows = rows
	return page, nil
}

// PhaseCounts counts the workloads of a filter by phase, whatever phase and
// page the filter chooses.
func (db *DB) PhaseCounts(ctx context.Context, f fleet.WorkloadFilter) (fleet.PhaseCounts, error) {
	if f.Query != "" || f.Cluster != "" || f.Runtime != "" {
		return db.countPhases(ctx, f)
	}
	counts, err := db.phases.get(ctx, func(ctx context.Context) (fleet.PhaseCounts, error) {
		return db.countPhases(ctx, fleet.WorkloadFilter{})
	})
	return maps.Clone(counts), err
}

func (db *DB) countPhases(ctx context.Context, f fleet.WorkloadFilter) (fleet.PhaseCounts, error) {
	type row struct {
		Phase fleet.Phase
		Count int
	}
	args := pgx.NamedArgs{}
	where := strings.Join(workloadWhere(f, args), " AND ")
	// All are counted as they are stored, which an index alone answers; then
	// those of the few silent sources are moved to unknown.
	rows, err := many[row](ctx, db.pool, `
		SELECT phase, sum(n)::int AS count FROM (
			SELECT w.phase, count(*) AS n FROM workloads w WHERE `+where+` GROUP BY 1
			UNION ALL
			SELECT moved.phase, moved.n FROM (
				SELECT w.phase, count(*) AS n FROM workloads w`+joinSource+`
				WHERE `+where+` AND (s.alive_at IS NULL OR s.alive_at < `+cutoffSQL+`) AND `+staleSQL+` GROUP BY 1
			) stale, LATERAL (VALUES (stale.phase, -stale.n), ('unknown', stale.n)) AS moved (phase, n)
		) counts GROUP BY 1 HAVING sum(n) > 0`, plannedAnew, args)
	if err != nil {
		return nil, fmt.Errorf("postgres: phases: %w", err)
	}
	counts := fleet.PhaseCounts{}
	for _, r := range rows {
		counts[r.Phase] = r.Count
	}
	return counts, nil
}
