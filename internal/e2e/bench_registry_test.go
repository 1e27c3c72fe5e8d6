package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/clustertest"
	"portolan/internal/postgres/postgrestest"
)

// benchRegistry tests a thousand clusters, ten of them black-holed, while people
// read the list of them, and then removes them again. Behind all of them is one
// API server. A fleet's own are on machines of their own, so what counts is the
// pages while this one takes next to no processor time that others want; the pages
// while it takes its full share of this machine's are told beside it.
// Quiet times and tests take turns: how fast such a machine answers drifts by
// more than what is looked for. There are several of them: of one turn's two
// thousand pages, chance alone moves the 99th percentile by some 7 %.
func benchRegistry(b *testing.B, x *bench) {
	const clusters, holes, limit, rounds = 1000, 10, time.Minute, 6
	metrics := freeAddress(b)
	p := installation(b, map[string]string{
		"PORTOLAN_DATABASE_URL": postgrestest.URL(b), "PORTOLAN_METRICS_LISTEN": metrics, "PORTOLAN_TEST_INTERVAL": "1h",
	})
	if err := p.begin("serve"); err != nil {
		b.Fatal(err)
	}
	defer func() { endProcess(b, p.web) }()
	f := &testedFleet{portolan: p, metrics: metrics}
	f.register(b, 50, 0)
	f.testAll(b)
	f.remove(b)
	start := f.figures(b, 0)

	f.register(b, clusters, holes)
	f.testAll(b) // so that the pages before show as much as those meanwhile
	f.readList(b, 40)
	var took time.Duration
	var apart, sharing turns
	before := f.figures(b, 0)
	b.Cleanup(func() { clustertest.SetIdle(b, simulated.name, simulated.nodes, false) })
	turn := func(of *turns) {
		clustertest.SetIdle(b, simulated.name, simulated.nodes, of == &apart)
		of.quiet = append(of.quiet, f.readList(b, 2000)...)
		t, pages := f.readMeanwhile(b)
		took, of.during = max(took, t), append(of.during, pages...)
	}
	for range rounds {
		turn(&apart)
	}
	turn(&sharing)
	after := f.figures(b, before.goroutines)
	x.report(b, line{
		what:     fmt.Sprintf("all of %d clusters tested, %d black-holed, the longest of %d times", clusters, holes, rounds+1),
		measured: fmt.Sprintf("%d passed, %d failed; goroutines %d before, %d after; RSS %.0f and %.0f MiB", f.passed, f.failed, before.goroutines, after.goroutines, before.rss, after.rss),
		result:   fmt.Sprintf("%.1f s", took.Seconds()), aim: "≤ 60 s", met: took <= limit && f.passed == clusters-holes && f.failed == holes,
	}, map[string]float64{"tested-s": took.Seconds()})
	was, is := apart.p99()
	x.report(b, line{
		what:     "page of 50 of the clusters meanwhile",
		measured: apart.String() + "; while their API server also shares the processors: " + sharing.String(),
		result:   fmt.Sprintf("%.2f", float64(is)/float64(was)), aim: "≤ 1.1", met: float64(is) <= 1.1*float64(was),
	}, map[string]float64{"clusters-p99-ms": millis(is), "clusters-quiet-p99-ms": millis(was)})

	f.remove(b)
	end := f.figures(b, start.goroutines)
	x.report(b, line{
		what:     fmt.Sprintf("memory after adding, testing and deleting %d clusters", clusters),
		measured: fmt.Sprintf("goroutines %d, then %d; heap %.0f and %.0f MiB; RSS %.0f and %.0f MiB", start.goroutines, end.goroutines, start.heap, end.heap, start.rss, end.rss),
		result:   fmt.Sprintf("%.2f", end.rss/start.rss), aim: "RSS ≤ 1.2, no goroutine more", met: end.rss <= 1.2*start.rss && end.goroutines <= start.goroutines,
	}, map[string]float64{"rss-ratio": end.rss / start.rss})
}

// turns are how long pages took in quiet times and while all was tested.
type turns struct{ quiet, during []time.Duration }

func (t *turns) p99() (quiet, during time.Duration) {
	return percentile(t.quiet, 0.99), percentile(t.during, 0.99)
}

func (t *turns) String() string {
	quiet, during := t.p99()
	return fmt.Sprintf("p99 %s of %d pages in quiet times, %s of %d meanwhile", ms(quiet), len(t.quiet), ms(during), len(t.during))
}

// testedFleet is a number of clusters in a registry.
type testedFleet struct {
	*portolan
	metrics        string
	ids            []string
	passed, failed int
}

// each does something to every number below n, a few at a time.
func each(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	numbers, failures := make(chan int), make(chan error, n)
	var doing sync.WaitGroup
	for range 4 {
		doing.Go(func() {
			for i := range numbers {
				if err := do(i); err != nil {
					failures <- err
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	doing.Wait()
	close(failures)
	for err := range failures {
		b.Fatal(err)
	}
}

func (f *testedFleet) ask(path string, form fields) error {
	answer, err := f.do(http.MethodPost, path, form)
	if err == nil && answer.status != http.StatusSeeOther {
		err = fmt.Errorf("%s: %d %s", answer.request, answer.status, clipped(answer.text()))
	}
	return err
}

func (f *testedFleet) register(b *testing.B, clusters, holes int) {
	b.Helper()
	raw := simulated.kubeconfig(b)
	namespace := clustertest.Namespace(b, clustertest.Client(b, raw))
	f.mount(b, "whole", raw)
	proxy, through := clustertest.ThroughProxy(b, raw)
	proxy.BlackHole()
	f.mount(b, "hole", through)
	f.ids = nil
	for i := range clusters {
		f.ids = append(f.ids, fmt.Sprintf("many-%04d", i))
	}
	each(b, clusters, func(i int) error {
		path := "whole"
		if i < holes {
			path = "hole"
		}
		return f.ask("/admin/clusters", fields{
			"id": f.ids[i], "label": f.ids[i], "provider": "k3s", "credential_mode": "mounted", "kubeconfig_path": path,
			"namespace": namespace, "exposure_mode": "cluster-ip", "enabled": "true",
		})
	})
}

func (f *testedFleet) remove(b *testing.B) {
	b.Helper()
	each(b, len(f.ids), func(i int) error {
		return f.ask("/admin/clusters/"+f.ids[i]+"/delete", fields{"confirm": f.ids[i]})
	})
}

// testAll tests all and returns how long it took until the last had ended. It
// looks seldom: it must not be what the pages wait for.
func (f *testedFleet) testAll(b *testing.B) time.Duration {
	db, err := pgx.Connect(b.Context(), f.env["PORTOLAN_DATABASE_URL"])
	if err != nil {
		b.Error(err)
		return 0
	}
	defer func() { _ = db.Close(context.Background()) }()
	begun := time.Now()
	if err := f.ask("/admin/clusters/test", fields{}); err != nil {
		b.Error(err)
		return 0
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var last time.Time
	for time.Since(begun) < 5*time.Minute {
		<-ticker.C
		if err := db.QueryRow(b.Context(), `
			SELECT count(*) FILTER (WHERE verdict = 'ok'), count(*) FILTER (WHERE verdict = 'failed'), coalesce(max(tested_at), $1) FROM clusters WHERE tested_at > $1`,
			begun).Scan(&f.passed, &f.failed, &last); err != nil {
			b.Error(err)
			return 0
		}
		if f.passed+f.failed == len(f.ids) {
			return last.Sub(begun)
		}
	}
	b.Errorf("%d of %d tests have ended", f.passed+f.failed, len(f.ids))
	return time.Since(begun)
}

// readMeanwhile reads the list while all are tested.
func (f *testedFleet) readMeanwhile(b *testing.B) (took time.Duration, pages []time.Duration) {
	b.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		took = f.testAll(b)
	}()
	for {
		pages = append(pages, f.readList(b, 20)...)
		select {
		case <-ended:
			return took, pages
		default:
		}
	}
}

// readList reads the first page of the list again and again, as a person with
// a short pause would.
func (f *testedFleet) readList(b *testing.B, rounds int) []time.Duration {
	b.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var took []time.Duration
	for range rounds {
		begun := time.Now()
		if _, err := f.raw("/admin/clusters"); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
		<-ticker.C
	}
	return took
}

// usage is what a process has open and uses; memory in MiB.
type usage struct {
	goroutines int
	heap, rss  float64
}

// figures waits until there are at most so many goroutines, 0 = any number, and
// the heap has been collected twice, and returns the least that is seen for a while.
func (f *testedFleet) figures(b *testing.B, goroutines int) usage {
	b.Helper()
	var best usage
	collected := 0.0
	deadline := time.Now().Add(2 * time.Minute)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for round := 0; time.Now().Before(deadline); round++ {
		<-ticker.C
		_, text, err := fetch(b.Context(), "http://"+f.metrics+"/metrics")
		if err != nil {
			b.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.web.cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		now := usage{
			goroutines: int(number(b, text, `(?m)^go_goroutines (\S+)`)),
			heap:       number(b, text, `(?m)^go_memstats_heap_alloc_bytes (\S+)`) / (1 << 20),
			rss:        number(b, string(status), `VmRSS:\s+(\d+)`) / 1024,
		}
		collections := number(b, text, `(?m)^go_gc_duration_seconds_count (\S+)`)
		if round == 0 {
			best, collected = now, collections
		}
		best = usage{min(best.goroutines, now.goroutines), min(best.heap, now.heap), min(best.rss, now.rss)}
		if round >= 20 && collections >= collected+2 && (goroutines == 0 || best.goroutines <= goroutines) {
			break
		}
	}
	return best
}
