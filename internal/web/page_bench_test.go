package web

import (
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// BenchmarkWorkloadsPage measures a page of 50 of 1,000 workloads with eight
// readers at a time.
func BenchmarkWorkloadsPage(b *testing.B) {
	bu := setup(b)
	admin := bu.user(fleet.RoleAdmin)
	bu.target(admin, "one")
	workload, _ := bu.deployed(admin, "one", "first")
	_, err := bu.db.Pool().Exec(b.Context(), `
		INSERT INTO workloads (id, name, cluster_id, namespace, runtime, kind, release, replicas, stopped, created_by, image, phase, observed_at)
		SELECT gen_random_uuid(), 'load-' || lpad(n::text, 5, '0'), 'one', 'apps', 'container', 'Deployment', 1, 1, false, 'x', 'demo:1', 'running', now()
		FROM generate_series(1, 999) AS n`)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := bu.db.Pool().Exec(b.Context(), `
		INSERT INTO observations SELECT id, now(), now(), true, 'u', 1, 1, 1, 1, 1, 1, 1, 1, 'Current', '', '', '[]', '[]', '[]'
		FROM workloads WHERE id <> $1`, workload); err != nil {
		b.Fatal(err)
	}
	if _, err := bu.db.Pool().Exec(b.Context(), "ANALYZE"); err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	var all []time.Duration
	var bytes int64
	b.ResetTimer()
	var wg sync.WaitGroup
	work := make(chan struct{}, b.N)
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	for range 8 {
		wg.Go(func() {
			for range work {
				begun := time.Now()
				res, err := admin.http.Get(bu.base + "/workloads")
				if err != nil {
					b.Error(err)
					return
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != 200 {
					b.Errorf("%d %v", res.StatusCode, err)
					return
				}
				mu.Lock()
				all, bytes = append(all, time.Since(begun)), n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(bytes)/1024, "KiB")
}

// BenchmarkWorkloadState measures what an open page of a workload costs each time
// that it looks, with fifty releases of 800 KiB of files: the first time, and then.
func BenchmarkWorkloadState(b *testing.B) {
	bu := setup(b)
	admin := bu.user(fleet.RoleAdmin)
	bu.target(admin, "one")
	workload, _ := bu.deployed(admin, "one", "web")
	if _, err := bu.db.Pool().Exec(b.Context(), `
		INSERT INTO releases (workload_id, number, spec, sealed_secrets, sealed_key_id, from_release, created_by)
		SELECT workload_id, n, jsonb_set(spec, '{files}', jsonb_build_array(jsonb_build_object('path', '/f', 'content',
			(SELECT string_agg(md5((n * 30000 + i)::text), '') FROM generate_series(1, 25600) i)))), '', '', 0, 'x'
		FROM releases, generate_series(2, 50) n WHERE workload_id = $1`, workload); err != nil {
		b.Fatal(err)
	}
	for name, fresh := range map[string]bool{"first": true, "then": false} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var known history
			look := func() {
				if _, err := bu.server.workloadView(b.Context(), workload, fleet.RoleAdmin, &known); err != nil {
					b.Fatal(err)
				}
			}
			look()
			for b.Loop() {
				if fresh {
					known = history{}
				}
				look()
			}
		})
	}
}
