package e2e

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/postgres/postgrestest"
)

// benchList measures the pages of 50 of the list of workloads, as eight people
// read one after the other.
func benchList(b *testing.B, x *bench) {
	for _, workloads := range []int{1_000, 10_000} {
		const limit = 20 * time.Millisecond
		took, size := listPages(b, workloads)
		p99 := percentile(took, 0.99)
		x.report(b, line{
			what: fmt.Sprintf("page of 50 of %d workloads, 8 readers", workloads),
			measured: fmt.Sprintf("%d pages: p50 %s, p99 %s, max %s; %.0f KB each",
				len(took), ms(median(took)), ms(p99), ms(percentile(took, 1)), float64(size)/1000),
			result: ms(p99), aim: "p99 ≤ 20 ms", met: p99 <= limit,
		}, map[string]float64{
			fmt.Sprintf("list%d-p50-ms", workloads): millis(median(took)),
			fmt.Sprintf("list%d-p99-ms", workloads): millis(p99),
			fmt.Sprintf("list%d-bytes", workloads):  float64(size),
		})
	}
}

var nextPage = regexp.MustCompile(`rel="next" href="([^"]+)"`)

// listPages returns how long each page took, and the median of their bytes.
func listPages(b *testing.B, workloads int) (took []time.Duration, size int) {
	const readers, warmUps, rounds = 8, 40, 250
	p := installation(b, map[string]string{"PORTOLAN_DATABASE_URL": postgrestest.MigratedURL(b)})
	manyWorkloads(b, p.env["PORTOLAN_DATABASE_URL"], 20, workloads)
	if err := p.begin("web"); err != nil {
		b.Fatal(err)
	}
	defer endProcess(b, p.web)

	var mu sync.Mutex
	var sizes []int
	var failure error
	var reading sync.WaitGroup
	for range readers {
		person := p.person(b, adminEmail, adminPassword)
		reading.Go(func() {
			path := "/workloads"
			for i := range warmUps + rounds {
				begun := time.Now()
				text, err := person.raw(path)
				d := time.Since(begun)
				mu.Lock()
				if err != nil {
					failure = err
				} else if i >= warmUps {
					took, sizes = append(took, d), append(sizes, len(text))
				}
				mu.Unlock()
				if err != nil {
					return
				}
				// On to the next page, and from the last one back to the first.
				if path = "/workloads"; i%20 != 19 {
					if m := nextPage.FindSubmatch(text); m != nil {
						path = html.UnescapeString(string(m[1]))
					}
				}
			}
		})
	}
	reading.Wait()
	if failure != nil {
		b.Fatal(failure)
	}
	return took, median(sizes)
}

// raw reads a page without looking into it.
func (c *client) raw(path string) ([]byte, error) {
	answer, err := c.http.Get(c.base + path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %d", path, answer.StatusCode)
	}
	return text, err
}

// manyWorkloads fills a database as a large installation has it: workloads of
// every runtime in many clusters, most running, each with a few operations.
func manyWorkloads(b *testing.B, url string, clusters, workloads int) {
	b.Helper()
	db, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	for _, sql := range []string{
		`INSERT INTO clusters (id, label, provider, cluster_name, credential_mode, kubeconfig_path, context, credential_hash, namespace,
			runtime_namespaces, exposure, image_pull_secrets, labels, region, enabled, fingerprint, test_state, test_fingerprint, tested_at)
		SELECT 'many-' || i, 'Cluster ' || i, 'k3s', 'k3s-' || i, 'mounted', 'many-' || i, '', 'h', 'apps', '{}', '{"mode":"node-port"}', '{}', '{}',
			'eu-' || i % 3, true, 'f', 'ok', 'f', now()
		FROM generate_series(1, $1) i WHERE $2 > 0`,
		`INSERT INTO workloads (id, name, cluster_id, namespace, runtime, kind, release, replicas, stopped, created_by, image, phase, observed_at)
		SELECT md5('w' || i)::uuid, 'workload-' || lpad(i::text, 5, '0'), 'many-' || 1 + i % $1, 'apps', (ARRAY['openclaw', 'hermes', 'container'])[1 + i % 3],
			'Deployment', 1, 1, i % 10 = 5, 'someone', 'registry.example/team/app-' || i % 50 || ':1.' || i % 7,
			CASE WHEN i % 100 = 3 THEN 'failed' WHEN i % 50 = 4 THEN 'degraded' WHEN i % 10 = 5 THEN 'stopped' ELSE 'running' END, now()
		FROM generate_series(1, $2) i`,
		`INSERT INTO observations (workload_id, seen_at, changed_at, present, uid, generation, observed_generation, desired, current, ready, available,
			updated, release, health, message, reason, conditions, pods, endpoints)
		SELECT id, now(), now(), true, 'u', 1, 1, 1, 1, 1, 1, 1, 1, 'Current', '', '', '[{"type":"Available","status":"True"},{"type":"Progressing","status":"True"}]',
			'[{"name":"pod-1","uid":"u","phase":"Running","ready":true}]', '[{"port":"http","url":"http://127.0.0.1:30080","text":"127.0.0.1:30080"}]'
		FROM workloads WHERE $1 > 0 AND $2 > 0`,
		`INSERT INTO operations (id, workload_id, workload_name, cluster_id, namespace, runtime, verb, state, release, params, actor, finished_at)
		SELECT md5(w.id::text || n)::uuid, w.id, w.name, w.cluster_id, w.namespace, w.runtime, (ARRAY['deploy', 'restart', 'update'])[n], 'succeeded', 1, '{}', 'someone', now()
		FROM workloads w, generate_series(1, 3) n WHERE $1 > 0 AND $2 > 0 ORDER BY n, w.id`,
		`INSERT INTO observation_sources (cluster_id, namespace, alive_at) SELECT id, 'apps', now() + interval '1 hour' FROM clusters WHERE $1 > 0 AND $2 > 0`,
	} {
		if _, err := db.Exec(b.Context(), sql, clusters, workloads); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := db.Exec(b.Context(), "VACUUM (ANALYZE)"); err != nil {
		b.Fatal(err)
	}
}
