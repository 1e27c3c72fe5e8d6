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
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
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

// many is a list of so many empty items.
func many(n int) string { return `{"items":[` + strings.Repeat(`{},`, n) + `{}]}` }

// TestAttack13SmallItemsDoNotBecomeLargeOnes: three bytes of a list may take
// hundreds once they are decoded.
func TestAttack13SmallItemsDoNotBecomeLargeOnes(t *testing.T) {
	t.Parallel()
	const pod = `{"metadata":{"name":"web"},"status":{"conditions":[`
	parts := pod + strings.Repeat(`{},`, 300_000) + `{}]}}`
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		query := r.URL.Query()
		switch {
		case query.Has("watch"):
			_, _ = io.WriteString(w, `{"type":"ADDED","object":`+parts+`}`)
		case strings.HasSuffix(r.URL.Path, "/web"):
			_, _ = io.WriteString(w, parts)
		case query.Get("labelSelector") == "parts":
			_, _ = io.WriteString(w, `{"items":[`+parts+`]}`)
		case query.Get("labelSelector") == "envelope":
			_, _ = io.WriteString(w, `{"kind":[`+strings.Repeat(`{},`, 300_000)+`{}],"items":[]}`)
		default:
			_, _ = io.WriteString(w, many(200_000))
		}
	})
	api := clientOf(t, a.url, a.ca).API
	list := func(q live.Query) func(context.Context) error {
		return func(ctx context.Context) error {
			items, _, err := live.List[live.Pod](ctx, api, live.Pods, "a", q)
			if q.Limit != 0 && len(items) != q.Limit {
				t.Errorf("%d items of a list that was to have %d", len(items), q.Limit)
			}
			return err
		}
	}
	for name, test := range map[string]struct {
		ask  func(context.Context) error
		says string
	}{
		"items":             {list(live.Query{}), "list is too long"},
		"limited items":     {list(live.Query{Limit: 200}), ""},
		"parts of an item":  {list(live.Query{Labels: "parts"}), "too many parts"},
		"parts of the list": {list(live.Query{Labels: "envelope"}), "too many parts"},
		"parts of an event": {func(ctx context.Context) error {
			return live.Watch(ctx, api, live.Pods, "a", live.Query{}, "1", func(live.Change, *live.Pod) error { return nil })
		}, "too many parts"},
		"parts of an object": {func(ctx context.Context) error { return live.Get(ctx, api, live.Pods, "a", "web", &live.Pod{}) }, "too many parts"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.ask(t.Context())
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%.200v", err)
			}
		})
	}
}

func TestAListOfTenThousandPodsIsRead(t *testing.T) {
	t.Parallel()
	const container = `{"name":"%d, \\\"web\\\"","ready":true,"restartCount":3,"state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}},` +
		`"lastState":{"terminated":{"exitCode":1,"reason":"Error","message":"it ended"}},"image":"registry.example/web:1","started":true}`
	const condition = `{"type":"Ready","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-01-01T00:00:00Z","message":"all is well"}`
	pod := `{"metadata":{"name":"web-0123456789-abcde","uid":"5a1b9b4e-0000-0000-0000-000000000000","managedFields":[{"fieldsV1":{` +
		strings.Repeat(`"f:name":{},`, 20) + `"f:status":{}}}]},"status":{"phase":"Running","conditions":[` +
		strings.Repeat(condition+",", 4) + condition + `],"containerStatuses":[` + container + "," + container + `]}}`
	const pods = 10_000
	a := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":[`)
		for range pods - 1 {
			_, _ = io.WriteString(w, pod+",")
		}
		_, _ = io.WriteString(w, pod+`],"other":[1,{"a":2}]}`)
	})
	items, version, err := live.List[live.Pod](t.Context(), clientOf(t, a.url, a.ca).API, live.Pods, "a", live.Query{})
	if err != nil || len(items) != pods || version != "7" {
		t.Fatalf("%d pods, version %q, %v", len(items), version, err)
	}
	if c := items[pods-1].Status.ContainerStatuses; len(c) != 2 || c[1].LastState.Terminated.Message != "it ended" {
		t.Errorf("the last pod has %+v", c)
	}
}

// TestAttack13TheConnectionTestReadsLittle: what only names a feature is not
// decoded at any length.
func TestAttack13TheConnectionTestReadsLittle(t *testing.T) {
	t.Parallel()
	bomb := many(260_000)
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := agreed(r)
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/nodes"), strings.HasSuffix(path, "/storageclasses"), strings.HasSuffix(path, "/daemonsets"):
			answer = bomb
		}
		_, _ = io.WriteString(w, answer)
	})
	test := ran(t, opts, kubeconfigFor(a.url, "    certificate-authority-data: "+b64(a.ca.pem)+"\n", tokenUser), fleet.Allowances{})
	check(t, test, fleet.StageVersion, fleet.CheckOK, "v1.36.0")
	check(t, test, fleet.StageStorage, fleet.CheckWarning, "could not be read")
	check(t, test, fleet.StageNetwork, fleet.CheckWarning, "may not see")
}

// TestAttack13WhatAClusterSaysIsClipped: it is shown on pages and kept.
func TestAttack13WhatAClusterSaysIsClipped(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 400<<10)
	pod := `{"metadata":{"name":"web"},"status":{"message":"` + long + `","conditions":[` + strings.Repeat(`{"message":"a"},`, 1000) +
		`{}],"containerStatuses":[{"name":"web","state":{"waiting":{"message":"` + long + `"}}}]}}`
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		query := r.URL.Query()
		switch {
		case query.Get("labelSelector") == "refused":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"`+long+`"}`)
		case query.Get("labelSelector") == "number":
			_, _ = io.WriteString(w, `{"items":[{"metadata":{"name":`+strings.Repeat("7", 400<<10)+`}}]}`)
		case query.Get("labelSelector") == "header":
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		case query.Has("watch"):
			_, _ = io.WriteString(w, `{"type":"ADDED","object":`+pod+`}`)
		case strings.HasSuffix(r.URL.Path, "/web"):
			_, _ = io.WriteString(w, pod)
		default:
			_, _ = io.WriteString(w, `{"items":[`+pod+`]}`)
		}
	})
	api := clientOf(t, a.url, a.ca).API
	const most = 4_200 // with what stands before it
	seen := func(how string, p *live.Pod) {
		t.Helper()
		for _, text := range []string{p.Status.Message, p.Status.ContainerStatuses[0].State.Waiting.Message} {
			if len(text) > most || !utf8.ValidString(text) || !strings.HasSuffix(text, "é … (cut)") {
				t.Errorf("%s has a message of %d bytes that ends with %q", how, len(text), text[len(text)-20:])
			}
		}
		if n := len(p.Status.Conditions); n > 200 {
			t.Errorf("%s has %d conditions", how, n)
		}
	}
	list := func(labels string) ([]live.Pod, error) {
		items, _, err := live.List[live.Pod](t.Context(), api, live.Pods, "a", live.Query{Labels: labels})
		return items, err
	}
	if items, err := list(""); err != nil {
		t.Error(err)
	} else {
		seen("a list", &items[0])
	}
	var p live.Pod
	if err := live.Get(t.Context(), api, live.Pods, "a", "web", &p); err != nil {
		t.Error(err)
	} else {
		seen("an object", &p)
	}
	if err := live.Watch(t.Context(), api, live.Pods, "a", live.Query{}, "1", func(_ live.Change, p *live.Pod) error {
		seen("an event", p)
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, err := list("refused"); !apierrors.IsForbidden(err) || len(err.Error()) > most || !strings.HasPrefix(err.Error(), "ééé") {
		t.Errorf("a refusal: %.300v", err)
	}
	for _, labels := range []string{"number", "header"} {
		if _, err := list(labels); err == nil || len(err.Error()) > most {
			t.Errorf("%s: %.300v", labels, err)
		}
	}
}
