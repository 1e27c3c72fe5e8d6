package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/postgres/postgrestest"
)

// benchMemory measures “portolan serve” with its database outside, while it
// watches clusters that have a workload each: once it has started anew and has
// shown some pages, and once it has registered, tested and deployed them all.
func benchMemory(b *testing.B, x *bench) {
	metrics := freeAddress(b)
	p := installation(b, map[string]string{
		"PORTOLAN_DATABASE_URL":   postgrestest.URL(b),
		"PORTOLAN_METRICS_LISTEN": metrics,
	})
	if err := p.begin("serve"); err != nil {
		b.Fatal(err)
	}
	defer func() { endProcess(b, p.web) }()
	f := &watchedFleet{portolan: p}
	for _, m := range []struct {
		clusters int
		aim      float64 // MiB
	}{{5, 70}, {200, 110}} {
		f.grow(b, m.clusters)
		f.watched(b, m.clusters)
		used := settledMemory(b, p, metrics)
		if err := p.web.stop(); err != nil {
			b.Fatal(err)
		}
		if err := p.begin("serve"); err != nil {
			b.Fatal(err)
		}
		f.watched(b, m.clusters)
		for _, path := range []string{"/", "/admin/clusters", "/workloads", "/deploy", "/operations"} {
			p.read(b, path)
		}
		fresh := settledMemory(b, p, metrics)
		x.report(b, line{
			what: fmt.Sprintf("memory of serve, %d clusters watched", m.clusters),
			measured: fmt.Sprintf("RSS %.0f MiB (of it %.0f not of the program's file), heap %.0f MiB; after registering and deploying them all %.0f MiB",
				fresh.rss, fresh.anonymous, fresh.heap, used.rss),
			result: fmt.Sprintf("%.0f MiB", fresh.rss), aim: fmt.Sprintf("≤ %.0f MiB", m.aim), met: fresh.rss <= m.aim,
		}, map[string]float64{
			fmt.Sprintf("rss%d-MiB", m.clusters):  fresh.rss,
			fmt.Sprintf("heap%d-MiB", m.clusters): fresh.heap,
			fmt.Sprintf("used%d-MiB", m.clusters): used.rss,
		})
	}
}

// watchedFleet is a number of clusters in the registry, each with a kubeconfig,
// a namespace and a workload of its own; behind all of them is one API server.
type watchedFleet struct {
	*portolan
	size int
}

// grow registers, tests and deploys until there are so many.
func (f *watchedFleet) grow(b *testing.B, clusters int) {
	b.Helper()
	places := make(chan *place)
	var deploying sync.WaitGroup
	failures := make(chan error, clusters)
	for range 6 {
		deploying.Go(func() {
			for pl := range places {
				if err := pl.populate(b.Context()); err != nil {
					failures <- fmt.Errorf("%s: %w", pl.id, err)
				}
			}
		})
	}
	for ; f.size < clusters; f.size++ {
		places <- f.stake(b, simulated, simulated.kubeconfig(b), nil)
	}
	close(places)
	deploying.Wait()
	close(failures)
	for err := range failures {
		b.Fatal(err)
	}
}

// populate tests the place and deploys a workload there. It runs apart from
// the test's own goroutine.
func (pl *place) populate(ctx context.Context) error {
	ask := func(method, path string, form fields, want int) (*page, error) {
		answer, err := pl.do(method, path, form)
		if err == nil && answer.status != want {
			err = fmt.Errorf("%s: %d %s", answer.request, answer.status, clipped(answer.text()))
		}
		return answer, err
	}
	poll := func(path string, ended func(*page) (bool, error)) error {
		ticker := time.NewTicker(4 * pollEvery)
		defer ticker.Stop()
		deadline := time.After(3 * patience)
		for {
			p, err := ask("GET", path, nil, 200)
			if err != nil {
				return err
			}
			if ok, err := ended(p); ok || err != nil {
				return err
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return ctx.Err()
			case <-deadline:
				return fmt.Errorf("%s does not end", path)
			}
		}
	}
	outcome := func(p *page, marker, value, state string, good, bad string) (bool, error) {
		switch now := attr(p.one(marker, value), state); now {
		case good:
			return true, nil
		case bad:
			return false, fmt.Errorf("%s: %s: %s", p.request, now, clipped(p.text()))
		}
		return false, nil
	}
	if _, err := ask("POST", pl.path("/test"), nil, 303); err != nil {
		return err
	}
	if err := poll(pl.path(""), func(p *page) (bool, error) {
		return outcome(p, "data-cluster", pl.id, "data-test-state", "ok", "failed")
	}); err != nil {
		return err
	}
	answer, err := ask("POST", "/deploy", pl.draft("demo", probed), 303)
	if err != nil {
		return err
	}
	operation := answer.location()
	return poll(operation, func(p *page) (bool, error) {
		return outcome(p, "data-operation", strings.TrimPrefix(operation, "/operations/"), "data-state", "succeeded", "failed")
	})
}

// watched waits until every namespace has been watched by the present process.
func (f *watchedFleet) watched(b *testing.B, clusters int) {
	b.Helper()
	db, err := pgx.Connect(b.Context(), f.env["PORTOLAN_DATABASE_URL"])
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	var since time.Time
	if err := db.QueryRow(b.Context(), "SELECT now()").Scan(&since); err != nil {
		b.Fatal(err)
	}
	eventually(b, 2*patience, "proofs of life", func() (bool, string) {
		var alive int
		if err := db.QueryRow(b.Context(), "SELECT count(*) FROM observation_sources WHERE alive_at > $1", since).Scan(&alive); err != nil {
			return false, err.Error()
		}
		return alive == clusters, fmt.Sprint(alive)
	})
}

// memory is what a process uses, in MiB.
type memory struct{ rss, anonymous, heap float64 }

// settledMemory watches a process for a while, once it has had time to give
// back what it does not need, and returns the median of each figure.
func settledMemory(b *testing.B, p *portolan, metrics string) memory {
	b.Helper()
	const settle, watch, every = 45 * time.Second, 20 * time.Second, time.Second
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-p.web.done:
			b.Fatalf("it ended: %s", p.web.tail())
		}
	}
	pause(settle)
	var rss, anonymous, heap []float64
	for range int(watch / every) {
		pause(every)
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.web.cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		_, figures, err := fetch(b.Context(), "http://"+metrics+"/metrics")
		if err != nil {
			b.Fatal(err)
		}
		rss = append(rss, number(b, string(text), `VmRSS:\s+(\d+)`)/1024)
		anonymous = append(anonymous, number(b, string(text), `RssAnon:\s+(\d+)`)/1024)
		heap = append(heap, number(b, figures, `(?m)^go_memstats_heap_inuse_bytes (\S+)`)/(1<<20))
	}
	return memory{median(rss), median(anonymous), median(heap)}
}

func number(b *testing.B, text, pattern string) float64 {
	b.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		b.Fatalf("nothing matches %s in %s", pattern, clipped(text))
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// freeAddress is one that nobody listens on.
func freeAddress(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
