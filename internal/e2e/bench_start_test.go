package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"portolan/internal/postgres/postgrestest"
)

// benchStart measures the time from the start of the process until its first
// page has been read, with a database that is there and with its own.
func benchStart(b *testing.B, x *bench) {
	const warmUps, rounds, firsts = 1, 9, 3
	if _, err := program(); err != nil {
		b.Fatal(err)
	}
	outside := installation(b, map[string]string{"PORTOLAN_DATABASE_URL": postgrestest.MigratedURL(b)})
	own := installation(b, nil)
	var withOutside, withOwn, first []time.Duration
	for range firsts {
		first = append(first, firstPage(b, installation(b, nil)))
	}
	for i := range warmUps + rounds {
		a, o := firstPage(b, outside), firstPage(b, own)
		if i >= warmUps {
			withOutside, withOwn = append(withOutside, a), append(withOwn, o)
		}
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
	x.report(b, line{
		what:     "start to the first page, database outside",
		measured: fmt.Sprintf("p50 %s, max %s", seconds(median(withOutside)), seconds(percentile(withOutside, 1))),
		result:   seconds(median(withOutside)), aim: "≤ 0.4 s", met: median(withOutside) <= 400*time.Millisecond,
	}, map[string]float64{"start-s": median(withOutside).Seconds()})
	x.report(b, line{
		what: "start to the first page, its own PostgreSQL",
		measured: fmt.Sprintf("p50 %s, max %s; the very first, which makes the database, %s",
			seconds(median(withOwn)), seconds(percentile(withOwn, 1)), seconds(median(first))),
		result: seconds(median(withOwn)), aim: "≤ 2 s", met: median(withOwn) <= 2*time.Second,
	}, map[string]float64{"start-own-s": median(withOwn).Seconds(), "start-first-s": median(first).Seconds()})
}

// firstPage starts “portolan serve”, reads the sign-in page as soon as there is
// one, and ends it.
func firstPage(b *testing.B, p *portolan) time.Duration {
	b.Helper()
	address := freeAddress(b)
	p.env["PORTOLAN_LISTEN"] = address
	begun := time.Now()
	process, err := launch(p.name, "serve", p.env)
	if err != nil {
		b.Fatal(err)
	}
	defer endProcess(b, process)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for {
		status, _, err := fetch(b.Context(), "http://"+address+"/login")
		if err == nil && status == http.StatusOK {
			return time.Since(begun)
		}
		select {
		case <-ticker.C:
		case <-process.done:
			b.Fatalf("it ended: %v\n%s", process.err, process.tail())
		case <-deadline:
			b.Fatalf("no page within %v: %d %v\n%s", patience, status, err, process.tail())
		}
	}
}
