package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is how large the heap grows, in bytes, before garbage is collected at
// all. With few clusters 4 MiB are alive, and pages and connection tests make about
// 10 MiB of garbage a second: collected at twice what is alive, as by default, that
// is more than two collections a second, each of which holds up a page for some
// milliseconds. With the floor it is a third of that.
const heapFloor = 16 << 20

// pacer keeps collections from beginning below heapFloor, and leaves larger heaps
// to Go's default.
type pacer struct {
	percent int // as set; 0 = not yet
	seen    []metrics.Sample
}

// paceCollections looks after each collection how much is alive. A GOGC from
// outside stands.
func paceCollections() {
	if os.Getenv("GOGC") != "" {
		return
	}
	p := &pacer{seen: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}}
	p.adjust()
}

func (p *pacer) adjust() {
	metrics.Read(p.seen)
	percent := percentFor(p.seen[0].Value.Uint64(), p.seen[1].Value.Uint64()+p.seen[2].Value.Uint64())
	// To set it stops everything for a moment.
	if 10*percent < 9*p.percent || 10*percent > 11*p.percent {
		debug.SetGCPercent(percent)
		p.percent = percent
	}
	collected := new([64]byte) // by the next collection
	runtime.AddCleanup(collected, (*pacer).adjust, p)
}

// mostPercent is the GOGC with which Go's own least heap, 4 MiB × GOGC / 100, is
// heapFloor. With more, as at the start, when nothing is known to be alive, that
// least heap would be far beyond it.
const mostPercent = heapFloor / (4 << 20) * 100

// percentFor is the GOGC with which the next collection begins at heapFloor, or at
// Go's default of 100 where that is larger. live and roots are bytes: “A Guide to
// the Go Garbage Collector” gives the target as live + (live + roots) × GOGC / 100.
func percentFor(live, roots uint64) int {
	switch {
	case live+roots == 0:
		return mostPercent
	case live >= heapFloor:
		return 100
	}
	return int(min(mostPercent, max(100, (heapFloor-live)*100/(live+roots))))
}
