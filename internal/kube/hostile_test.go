package kube_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"portolan/internal/kube/live"
)

// endless sends text again and again until the client goes, or has taken so much
// that there can be no bound, and returns how many bytes it was.
func endless(w io.Writer, text string, most int) (sent int) {
	for sent < most {
		n, err := io.WriteString(w, text)
		if sent += n; err != nil {
			return sent
		}
	}
	return sent
}

// TestAttack13ARefusalWithoutEndIsBrokenOff: what answers in the place of a
// watch or a log is no watch and no log.
func TestAttack13ARefusalWithoutEndIsBrokenOff(t *testing.T) {
	t.Parallel()
	const most = 48 << 20
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	endless(zip, strings.Repeat("x", 1<<20), most)
	_ = zip.Close()
	var sent atomic.Int64
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("labelSelector") == "packed" && r.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(packed.Bytes())
			return
		}
		w.WriteHeader(http.StatusForbidden)
		sent.Add(int64(endless(w, strings.Repeat("x", 64<<10), most)))
	})
	api := clientOf(t, a.url, a.ca).API
	for name, ask := range map[string]func(context.Context) error{
		"a watch": func(ctx context.Context) error {
			return live.Watch(ctx, api, live.Pods, "a", live.Query{}, "1", func(live.Change, *live.Pod) error { return nil })
		},
		"a packed watch": func(ctx context.Context) error {
			return live.Watch(ctx, api, live.Pods, "a", live.Query{Labels: "packed"}, "1", func(live.Change, *live.Pod) error { return nil })
		},
		"a log": func(ctx context.Context) error {
			_, err := live.Logs(api, "a", "b", corev1.PodLogOptions{}).Stream(ctx)
			return err
		},
		"a followed log": func(ctx context.Context) error {
			_, err := live.Logs(api, "a", "b", corev1.PodLogOptions{Follow: true}).Stream(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			if err := ask(t.Context()); err == nil || !strings.Contains(err.Error(), "does not end") {
				t.Errorf("it was read to its end: %.200v", err)
			}
			if n := sent.Load(); n >= most {
				t.Errorf("%d MiB were taken", n>>20)
			}
		})
	}
}
