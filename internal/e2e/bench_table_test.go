package e2e

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// BenchmarkAims measures what Portolan promises to be quick at, beside what a
// person would use instead, and prints one table of it all. Each measurement
// repeats itself and warms up by itself, so it wants -benchtime 1x.
func BenchmarkAims(b *testing.B) {
	x := &bench{all: b}
	before := loadAverage()
	for _, m := range []struct {
		name string
		run  func(*testing.B, *bench)
	}{
		{"list", benchList}, // needs no cluster: before there is one beside it that takes the processors
		{"deploy", benchDeploy},
		{"phase", benchPhase},
		{"logs", benchLogs},
		{"registry", benchRegistry},
		{"memory", benchMemory},
		{"start", benchStart},
	} {
		b.Run(m.name, func(b *testing.B) {
			m.run(b, x)
			b.ReportMetric(0, "ns/op") // says nothing: it is the time of the whole measurement
		})
	}
	if len(x.lines) > 0 {
		fmt.Printf("\n%d CPUs; load average %s before, %s after\n%s\n", runtime.NumCPU(), before, loadAverage(), x)
	}
}

// bench is one run of the measurements: its table, and the installation that
// several of them share.
type bench struct {
	all   *testing.B // ends after every measurement
	lines []line
	serve *portolan
}

// line is one line of the table.
type line struct {
	what, measured string
	result         string // the ratio or the figure that is compared with the aim
	aim            string
	met            bool
}

// report puts a line into the table, and its figures among Go's own.
func (x *bench) report(b *testing.B, l line, figures map[string]float64) {
	x.lines = append(x.lines, l)
	for unit, v := range figures {
		b.ReportMetric(v, unit)
	}
}

func (x *bench) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEASURED\tRESULT\tAIM\t")
	for _, l := range x.lines {
		verdict := "met"
		if !l.met {
			verdict = "missed"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.what, l.measured, l.result, l.aim, verdict)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return text.String()
}

// portolan returns “portolan serve” with its own PostgreSQL and otherwise the
// settings that an installation has.
func (x *bench) portolan(b *testing.B) *portolan {
	b.Helper()
	if x.serve == nil {
		p := installation(b, nil)
		p.dir = x.all.TempDir()
		p.env["PORTOLAN_DATA_DIR"], p.env["PORTOLAN_KUBECONFIGS_DIR"] = p.dir+"/data", p.dir+"/kubeconfigs"
		if err := p.begin("serve"); err != nil {
			b.Fatal(err)
		}
		x.all.Cleanup(func() { endProcess(x.all, p.web) })
		x.serve = p
	}
	return x.serve
}

// installation returns one that has not begun. Unlike those of the tests it
// logs no more, and waits no shorter, than one that people use.
func installation(b *testing.B, change map[string]string) *portolan {
	b.Helper()
	dir := b.TempDir()
	p := &portolan{name: b.Name(), dir: dir, env: settings(dir)}
	p.env["PORTOLAN_LOG_LEVEL"] = "info"
	delete(p.env, "PORTOLAN_TAKEOVER_AFTER")
	for key, value := range change {
		p.env[key] = value
	}
	return p
}

// loadAverage says how busy the machine is, whoever makes it so.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// percentile returns the value that the share p of the sorted or unsorted
// values does not exceed; 0.5 is the median.
func percentile[T int | int64 | float64 | time.Duration](values []T, p float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}

func median[T int | int64 | float64 | time.Duration](values []T) T { return percentile(values, 0.5) }

// ms writes a duration in milliseconds.
func ms(d time.Duration) string {
	v := millis(d)
	if v < 10 {
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// times collects when things were first seen, for whoever waits for them.
type times struct {
	mu   sync.Mutex
	seen map[string]time.Time
	ring chan struct{} // closed, and made anew, at each addition
}

func newTimes() *times { return &times{seen: map[string]time.Time{}, ring: make(chan struct{})} }

func (s *times) add(key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.seen[key]; !ok {
		s.seen[key] = at
		close(s.ring)
		s.ring = make(chan struct{})
	}
}

// await returns when the last of the keys was seen.
func (s *times) await(t testing.TB, keys ...string) time.Time {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		var last time.Time
		missing := ""
		for _, key := range keys {
			if at, ok := s.seen[key]; !ok {
				missing = key
			} else if at.After(last) {
				last = at
			}
		}
		ring := s.ring
		s.mu.Unlock()
		if missing == "" {
			return last
		}
		select {
		case <-ring:
		case <-deadline:
			t.Fatalf("%s: not seen within %v", missing, patience)
		}
	}
}
