package adapter

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
)

// manyLines are more than a node keeps in one file of a log, and than the
// connections on the way to its reader can hold.
const manyLines = 250_000

// logBegins returns the first line of the log's newest file, "" while it has none.
func (w *world) logBegins(pod corev1.Pod) string {
	w.t.Helper()
	limit := int64(30)
	raw, err := w.look.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Timestamps: true, LimitBytes: &limit}).DoRaw(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw)
}

// A follow that the node holds at the end of a rotated file is the one that
// kubelets make when their reader reaches that end only after the rotation.
func TestARotatedLogGoesOnAndSaysThatLinesMayBeMissing(t *testing.T) {
	t.Parallel()
	w, wl, _ := printer(t)
	proxy, raw := clustertest.ThroughProxy(t, w.raw)
	w.use(raw, Options{LogRotationInterval: time.Second})
	s := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 100})
	var r reading
	r.until(t, s, func(r *reading) bool { return r.has("listening on") })

	pod := w.pods(wl)[0]
	before := w.logBegins(pod)
	// The reader comes back to a log that it has not read to its end, and reads
	// no further until the node has begun another file. When the node has done
	// that already, there is nothing to come back to: once more.
	for behind := false; !behind; {
		r.lines, r.gaps = nil, nil
		w.followed(wl, s, &r)
		proxy.Reset()
		w.print(wl, manyLines)
		proxy.Restore()
		r.until(t, s, func(r *reading) bool {
			behind = len(numbered(r.lines, manyLines)) > 0
			return behind || len(r.gaps) > 0
		})
	}
	proxy.BlackHole()
	eventually(t, "the node rotates the log", func() bool {
		w.print(wl, 1)
		now := w.logBegins(pod)
		return now != "" && now != before
	})
	proxy.Restore()
	w.print(wl, 7)
	r.until(t, s, func(r *reading) bool { return len(r.gaps) > 0 && len(numbered(r.lines, 7)) == 7 })
	t.Logf("%d of %d lines came; gaps %q", len(numbered(r.lines, manyLines)), manyLines, r.gaps)
}

func TestALogThatWasRotatedMeanwhileSaysSoBeforeItsNextLine(t *testing.T) {
	t.Parallel()
	w, wl, _ := printer(t)
	proxy, raw := clustertest.ThroughProxy(t, w.raw)
	w.use(raw, Options{LogRotationInterval: time.Second})
	s := w.openLog(fleet.LogQuery{Workload: *wl, Tail: 100})
	var r reading
	r.until(t, s, func(r *reading) bool { return r.has("listening on") })
	w.followed(wl, s, &r)
	pod := w.pods(wl)[0]
	proxy.Reset()
	w.emptyLog(wl, pod)
	proxy.Restore()
	r.until(t, s, func(r *reading) bool { return len(r.gaps) > 0 })
	w.print(wl, 7)
	r.until(t, s, func(r *reading) bool { return len(numbered(r.lines, 7)) == 7 })
	if told := slices.DeleteFunc(r.gaps, func(gap string) bool { return gap != rotationGap }); len(told) != 1 {
		t.Errorf("told of the same lines: %q", told)
	}
}

// followed waits until new lines arrive.
func (w *world) followed(wl *fleet.Workload, s *LogStream, r *reading) {
	w.t.Helper()
	w.print(wl, 3)
	r.until(w.t, s, func(r *reading) bool { return len(numbered(r.lines, 3)) == 3 })
}

// emptyLog prints until the node has begun a new file that nothing is in yet. A
// rotation amid the printing leaves lines in it, and takes another round.
func (w *world) emptyLog(wl *fleet.Workload, pod corev1.Pod) {
	w.t.Helper()
	const nodeLooks = 10 * time.Second // containerLogMonitorInterval
	look, more := time.NewTicker(100*time.Millisecond), time.NewTicker(nodeLooks+2*time.Second)
	defer look.Stop()
	defer more.Stop()
	deadline := time.After(4 * time.Minute)
	for w.print(wl, manyLines); w.logBegins(pod) != ""; {
		select {
		case <-look.C:
		case <-more.C:
			w.print(wl, manyLines/2)
			more.Reset(nodeLooks + 2*time.Second)
		case <-deadline:
			w.t.Fatal("the node never rotated the log")
		}
	}
}
