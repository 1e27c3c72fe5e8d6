package adapter

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
)

// manyLines are more than the connections on the way to a log's reader can hold,
// and less than a node keeps in one file of it.
const manyLines = 95_000

// logBegins returns the first line of the log's newest file, "" while it has
// none; ok is false while the node is putting it in the place of the one before.
func (w *world) logBegins(pod corev1.Pod) (line string, ok bool) {
	w.t.Helper()
	limit := int64(30)
	raw, err := w.look.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Timestamps: true, LimitBytes: &limit}).DoRaw(w.t.Context())
	if err == nil && len(raw) > 0 && raw[0] != '2' { // no time: the node's own words
		return "", false
	}
	return string(raw), err == nil
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
	// The reader comes back to a log that it has not read to its end, and reads
	// no further until the node has begun another file. When the node has done
	// that already, there is nothing to come back to: once more, in the new file.
	for behind := false; !behind; {
		proxy.Restore()
		r.lines, r.gaps = nil, nil
		w.followed(wl, s, &r)
		proxy.Reset()
		w.print(wl, manyLines)
		proxy.RestoreFor(256 << 10)
		r.until(t, s, func(r *reading) bool {
			behind = len(numbered(r.lines, manyLines)) > 0 && len(r.gaps) == 0
			return behind || len(r.gaps) > 0
		})
	}
	w.emptyLog(wl, pod)
	w.print(wl, 1)
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
	const portion, enough = 10_000, 120_000 // lines; a file of so many is larger than a node keeps
	begins, lines := "", 0                  // of the newest file
	eventually(w.t, "the node rotates the log", func() bool {
		now, ok := w.logBegins(pod)
		switch {
		case !ok:
			return false
		case now == "" && begins != "":
			return true
		case now != begins:
			begins, lines = now, 0
		}
		if lines < enough {
			w.print(wl, portion)
			lines += portion
		}
		return false
	})
}
