package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"portolan/internal/fleet"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
)

// seed fills a database with clusters and workloads as a large installation
// has them: spread over clusters and runtimes, most running, some in trouble,
// each with a few operations behind it.
func seed(tb testing.TB, pool *pgxpool.Pool, clusters, workloads int) {
	tb.Helper()
	for _, sql := range []string{
		`INSERT INTO clusters (id, label, provider, cluster_name, credential_mode, kubeconfig_path, context, credential_hash, namespace,
			runtime_namespaces, exposure, image_pull_secrets, labels, region, enabled, fingerprint, test_id, test_state, test_fingerprint, tested_at)
		SELECT 'c-' || i, 'Cluster ' || i, 'k3s', 'kind-' || i, 'mounted', 'c-' || i, '', 'h', 'apps', '{}', '{"mode":"cluster-ip"}', '{}', '{}',
			'eu-' || i % 5, i % 20 <> 0, 'f', i, CASE WHEN i % 10 = 1 THEN 'failed' ELSE 'ok' END, CASE WHEN i % 10 = 2 THEN 'old' ELSE 'f' END, now()
		FROM generate_series(1, $1) i WHERE $2 > 0`,
		`INSERT INTO connection_tests (cluster_id, fingerprint, credential_mode, state, trigger, actor, started_at, finished_at, deadline, checks,
			server_version, identity, cluster_uid, uid_namespace, permissions, credential)
		SELECT 'c-' || i, 'f', 'mounted', CASE WHEN i % 10 = 1 THEN 'failed' ELSE 'ok' END, 'person', 'a', now(), now(), '15 seconds',
			(SELECT jsonb_agg(jsonb_build_object('stage', 'stage' || s, 'state', 'ok', 'duration', 1000, 'message', 'all is well here')) FROM generate_series(1, 13) s),
			'v1.36.3', 'u', '', '', (SELECT jsonb_agg(jsonb_build_object('resource', 'pods', 'verb', 'get', 'namespace', 'apps', 'allowed', true)) FROM generate_series(1, 130)), '{}'
		FROM generate_series(1, $1) i WHERE $2 > 0`,
		`INSERT INTO workloads (id, name, cluster_id, namespace, runtime, kind, release, replicas, stopped, created_by, image, phase, observed_at)
		SELECT md5('w' || i)::uuid, 'workload-' || lpad(i::text, 5, '0'), 'c-' || 1 + i % $1, 'apps', (ARRAY['openclaw', 'hermes', 'container'])[1 + i % 3],
			'Deployment', 1, 1, false, 'op', 'registry.example/app-' || i % 50 || ':1.' || i % 7,
			CASE WHEN i % 100 = 3 THEN 'failed' WHEN i % 50 = 4 THEN 'degraded' WHEN i % 10 = 5 THEN 'stopped' ELSE 'running' END, now()
		FROM generate_series(1, $2) i`,
		`INSERT INTO observations (workload_id, seen_at, changed_at, present, uid, generation, observed_generation, desired, current, ready, available,
			updated, release, health, message, reason, conditions, pods, endpoints)
		SELECT id, now(), now(), true, 'u', 1, 1, 1, 1, 1, 1, 1, 1, 'Current', '', '', '[{"type":"Available","status":"True"},{"type":"Progressing","status":"True"}]',
			'[{"name":"pod-1","uid":"u","phase":"Running","ready":true}]', '[{"port":"http","url":"http://127.0.0.1:30080","text":"127.0.0.1:30080"}]'
		FROM workloads WHERE $1 > 0 AND $2 > 0`,
		`INSERT INTO operations (id, workload_id, workload_name, cluster_id, namespace, runtime, verb, state, release, params, actor, finished_at)
		SELECT md5(w.id::text || n)::uuid, w.id, w.name, w.cluster_id, w.namespace, w.runtime, (ARRAY['deploy', 'restart', 'update'])[n], 'succeeded', 1, '{}', 'op', now()
		FROM workloads w, generate_series(1, 3) n WHERE $1 > 0 AND $2 > 0 ORDER BY n, w.id`,
		`INSERT INTO observation_sources (cluster_id, namespace, alive_at)
		SELECT id, 'apps', CASE WHEN substr(id, 3)::int % 25 = 7 THEN now() - interval '5 minutes' ELSE now() + interval '1 hour' END FROM clusters WHERE $1 > 0 AND $2 > 0`,
	} {
		if _, err := pool.Exec(tb.Context(), sql, clusters, workloads); err != nil {
			tb.Fatal(err)
		}
	}
	// The clusters that are silent have been so for a while.
	if _, err := pool.Exec(tb.Context(), `UPDATE workloads SET observed_at = now() - interval '5 minutes' WHERE substr(cluster_id, 3)::int % 25 = 7`); err != nil {
		tb.Fatal(err)
	}
	if _, err := pool.Exec(tb.Context(), `VACUUM (ANALYZE)`); err != nil {
		tb.Fatal(err)
	}
}

func TestWorkloadsArePagedByKeyUnderEveryFilter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seed(t, b.Pool(), 30, 600)
	all := walk(t, b.DB, fleet.WorkloadFilter{Limit: 200})
	if len(all) != 600 || !slices.IsSortedFunc(all, func(a, b fleet.WorkloadRow) int {
		return slices.Compare([]string{a.Name, a.ID}, []string{b.Name, b.ID})
	}) {
		t.Fatalf("%d workloads", len(all))
	}
	first := all[0]
	if first.ClusterLabel != "Cluster 2" || first.Desired != 1 || first.Ready != 1 || first.SeenAt.IsZero() || first.Image == "" {
		t.Fatalf("row %+v", first)
	}
	filters := map[string]struct {
		filter fleet.WorkloadFilter
		is     func(fleet.WorkloadRow) bool
	}{
		"query": {fleet.WorkloadFilter{Query: "Load-0001"}, func(w fleet.WorkloadRow) bool { return w.Name >= "workload-00010" && w.Name < "workload-00020" }},
		"image": {fleet.WorkloadFilter{Query: "APP-7:"}, func(w fleet.WorkloadRow) bool {
			return w.Image[:len("registry.example/app-7:")] == "registry.example/app-7:"
		}},
		"cluster": {fleet.WorkloadFilter{Cluster: "c-3"}, func(w fleet.WorkloadRow) bool { return w.ClusterID == "c-3" }},
		"runtime": {fleet.WorkloadFilter{Runtime: "hermes"}, func(w fleet.WorkloadRow) bool { return w.Runtime == "hermes" }},
		"phase":   {fleet.WorkloadFilter{Phase: fleet.PhaseStopped}, func(w fleet.WorkloadRow) bool { return w.Phase == fleet.PhaseStopped }},
		"unknown": {fleet.WorkloadFilter{Phase: fleet.PhaseUnknown}, func(w fleet.WorkloadRow) bool { return w.ClusterID == "c-7" }},
		"several": {
			fleet.WorkloadFilter{Phase: fleet.PhaseRunning, Runtime: "hermes", Cluster: "c-2", Query: "workload"},
			func(w fleet.WorkloadRow) bool {
				return w.Phase == fleet.PhaseRunning && w.Runtime == "hermes" && w.ClusterID == "c-2"
			},
		},
		"nothing": {fleet.WorkloadFilter{Query: "%"}, func(fleet.WorkloadRow) bool { return false }},
	}
	for name, f := range filters {
		var want []fleet.WorkloadRow
		for _, w := range all {
			if f.is(w) {
				want = append(want, w)
			}
		}
		f.filter.Limit = 7
		got := walk(t, b.DB, f.filter)
		if names(got) != names(want) || (len(want) == 0) != (name == "nothing") {
			t.Errorf("%s: %d found, want %d", name, len(got), len(want))
		}
		counts, err := b.PhaseCounts(t.Context(), f.filter)
		b.must(err)
		if f.filter.Phase == "" && counts.All() != len(want) || f.filter.Phase != "" && counts[f.filter.Phase] != len(want) {
			t.Errorf("%s: counts %v, want %d", name, counts, len(want))
		}
	}
	for _, cursor := range []string{"!", "AAAA", "eAB5"} {
		_, err := b.ListWorkloads(t.Context(), fleet.WorkloadFilter{After: cursor})
		wantCode(t, err, fleet.CodeInvalid)
	}
}

// walk reads all pages of a list.
func walk(tb testing.TB, db *postgres.DB, f fleet.WorkloadFilter) []fleet.WorkloadRow {
	tb.Helper()
	var all []fleet.WorkloadRow
	for {
		page, err := db.ListWorkloads(tb.Context(), f)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, page.Rows...)
		if page.Next == "" {
			return all
		}
		f.After = page.Next
	}
}

func TestOverviewPointsToWhatNeedsAttention(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seed(t, b.Pool(), 30, 600)
	b.exec(`UPDATE clusters SET credential_ends_at = now() + interval '3 days' WHERE id = 'c-3'`)
	b.exec(`UPDATE clusters SET credential_ends_at = now() - interval '3 days' WHERE id = 'c-4'`)
	b.exec(`UPDATE clusters SET credential_ends_at = now() + interval '90 days' WHERE id = 'c-5'`)
	// Of one that was never tested it is known too.
	soon := aCluster("untested")
	soon.Credential.NotAfter = time.Now().Add(4 * 24 * time.Hour)
	b.must(b.CreateCluster(t.Context(), soon, nil, fleet.AuditEntry{}))
	b.deploy("c-1", "new")
	o, err := b.Overview(t.Context())
	b.must(err)
	if o.Workloads.All() != 601 || o.Workloads[fleet.PhaseDeploying] != 1 || o.Workloads[fleet.PhaseUnknown] != 20 || o.Running != 1 {
		t.Fatalf("workloads %v, running %d", o.Workloads, o.Running)
	}
	if o.Clusters.All != 31 || o.Clusters.Disabled != 1 || o.Clusters.Failed != 3 || len(o.FailedClusters) != 3 {
		t.Fatalf("clusters %+v", o.Clusters)
	}
	if len(o.Expiring) != 3 || o.Expiring[0].Cluster.ID != "c-4" || o.Expiring[0].Test == nil || o.Expiring[2].Cluster.ID != "untested" {
		t.Fatalf("expiring %v", o.Expiring)
	}
	if len(o.Troubled) != 8 || o.Troubled[0].Phase != fleet.PhaseFailed || o.Troubled[7].Phase != fleet.PhaseDegraded {
		t.Fatalf("troubled %s", names(o.Troubled))
	}
	if len(o.Operations) != 8 || o.Operations[0].WorkloadName != "new" {
		t.Fatalf("operations %v", o.Operations)
	}
	n, err := b.NavCounts(t.Context())
	b.must(err)
	if n != (fleet.NavCounts{Workloads: 601, Running: 1, Clusters: 31}) {
		t.Fatalf("%+v", n)
	}
}

func TestKeptCountsSeeOwnChangesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	for i := range 20 {
		b.deploy("c1", fmt.Sprint("w", i))
		counts, err := b.PhaseCounts(t.Context(), fleet.WorkloadFilter{})
		b.must(err)
		nav, err := b.NavCounts(t.Context())
		b.must(err)
		if counts[fleet.PhaseDeploying] != i+1 || nav.Workloads != i+1 || nav.Running != i+1 {
			t.Fatalf("after %d deploys: %v, %+v", i+1, counts, nav)
		}
		counts[fleet.PhaseDeploying] = 99 // the reader's own
	}
}

func TestCountsSeeTheEndOfATestThatIsWatchedAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const clusters = 20
	for i := range clusters {
		b.cluster(fmt.Sprint("c", i))
	}
	b.exec(`UPDATE clusters SET credential = '{}'`) // which says nothing of its end
	for i := range clusters {
		c := b.status(fmt.Sprint("c", i)).Cluster
		test := fleet.ConnectionTest{
			ClusterID: c.ID, Fingerprint: c.Fingerprint(), Trigger: fleet.TriggerPerson, Deadline: time.Hour,
			State: fleet.TestRunning, Watched: true,
		}
		var err error
		test.ID, err = b.BeginTest(t.Context(), test)
		b.must(err)
		_, err = b.ClusterCounts(t.Context(), "") // which is kept
		b.must(err)
		test.State = fleet.TestOK
		b.must(b.SaveTest(t.Context(), test))
		if counts, err := b.ClusterCounts(t.Context(), ""); counts.Available != i+1 || err != nil {
			t.Fatalf("after %d tests: %+v, %v", i+1, counts, err)
		}
		// The verdict stays, and the credential is found to end soon.
		test.State = fleet.TestRunning
		test.ID, err = b.BeginTest(t.Context(), test)
		b.must(err)
		test.State, test.Credential.NotAfter = fleet.TestOK, time.Now().Add(time.Hour)
		b.must(b.SaveTest(t.Context(), test))
		if counts, err := b.ClusterCounts(t.Context(), ""); counts.Expiring != i+1 || err != nil {
			t.Fatalf("after %d tests: %+v, %v", i+1, counts, err)
		}
	}
}

// BenchmarkLists reads what a page of each list needs, at the size of a large
// installation.
func BenchmarkLists(b *testing.B) {
	db := postgrestest.New(b)
	seed(b, db.Pool(), 1000, 10_000)
	ctx := b.Context()
	middle := walkTo(b, db, 100)
	reads := []struct {
		name string
		read func() error
	}{
		{"first", func() error { _, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{}); return err }},
		{"middle", func() error { _, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{After: middle}); return err }},
		{"cluster", func() error { _, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{Cluster: "c-77"}); return err }},
		{"query", func() error { _, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{Query: "app-7"}); return err }},
		{"query-none", func() error { _, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{Query: "absent"}); return err }},
		{"failed", func() error {
			_, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{Phase: fleet.PhaseFailed})
			return err
		}},
		{"unknown", func() error {
			_, err := db.ListWorkloads(ctx, fleet.WorkloadFilter{Phase: fleet.PhaseUnknown})
			return err
		}},
		{"counts", func() error { _, err := db.PhaseCounts(ctx, fleet.WorkloadFilter{}); return err }},
		{"counts-runtime", func() error { _, err := db.PhaseCounts(ctx, fleet.WorkloadFilter{Runtime: "hermes"}); return err }},
		{"counts-query", func() error { _, err := db.PhaseCounts(ctx, fleet.WorkloadFilter{Query: "app-7"}); return err }},
		{"nav", func() error { _, err := db.NavCounts(ctx); return err }},
		{"overview", func() error { _, err := db.Overview(ctx); return err }},
		{"clusters", func() error { _, err := db.Clusters(ctx, fleet.ClusterFilter{}); return err }},
		{"clusters-query", func() error { _, err := db.Clusters(ctx, fleet.ClusterFilter{Query: "kind-99"}); return err }},
		{"cluster-counts", func() error { _, err := db.ClusterCounts(ctx, ""); return err }},
		{"cluster-names", func() error { _, err := db.ClusterNames(ctx); return err }},
		{"targets", func() error { _, _, err := db.Targets(ctx, 50); return err }},
		{"operations", func() error { _, err := db.Operations(ctx, fleet.OperationFilter{}); return err }},
	}
	for _, r := range reads {
		b.Run(r.name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				start := time.Now()
				if err := r.read(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/10].Microseconds()), "p10-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

func walkTo(tb testing.TB, db *postgres.DB, pages int) (cursor string) {
	tb.Helper()
	for range pages {
		page, err := db.ListWorkloads(tb.Context(), fleet.WorkloadFilter{After: cursor})
		if err != nil {
			tb.Fatal(err)
		}
		if page.Next == "" {
			tb.Fatal(fmt.Errorf("the list has ended"))
		}
		cursor = page.Next
	}
	return cursor
}
