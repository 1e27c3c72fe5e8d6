package kube_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// A test that nobody waits for reads from the API server's cache, and takes no
// absence from it: the cache may lag behind. One that a person waits for reads
// what there is.
func TestQuietTestsReadFromTheCache(t *testing.T) {
	t.Parallel()
	var cached, fresh atomic.Int64
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := agreed(r)
		switch path := r.URL.Path; {
		case path == "/version", r.Method != http.MethodGet:
		case r.URL.Query().Get("resourceVersion") != "0":
			fresh.Add(1)
			answer = `{"kind":"Namespace","metadata":{"uid":"of ` + path + `"},"items":[{"metadata":{"name":"fresh"}}]}`
		case strings.HasSuffix(path, "/namespaces/apps"):
			cached.Add(1)
			w.WriteHeader(http.StatusNotFound)
			answer = fmt.Sprintf(status, "namespaces not found", "NotFound", http.StatusNotFound)
		default:
			cached.Add(1)
			answer = `{"kind":"Namespace","metadata":{"uid":"cached"},"items":[{"metadata":{"name":"cached"}}]}`
		}
		_, _ = io.WriteString(w, answer)
	})
	req := kube.TestRequest{
		Cluster: clusterRow("apps"), Deadline: patience,
		Kubeconfig: []byte(kubeconfigFor(a.url, "    certificate-authority-data: "+b64(a.ca.pem)+"\n", tokenUser)),
	}

	test := kube.NewTester(opts).Run(t.Context(), req, nil)
	check(t, test, fleet.StageNamespaces, fleet.CheckOK, "apps is there")
	check(t, test, fleet.StageStorage, fleet.CheckWarning, "there are: fresh")
	if cached.Load() != 0 {
		t.Errorf("%d reads from the cache for a person", cached.Load())
	}

	fresh.Store(0)
	req.Yield = atOnce
	test = kube.NewTester(opts).Run(t.Context(), req, nil)
	check(t, test, fleet.StageNamespaces, fleet.CheckOK, "apps is there")
	check(t, test, fleet.StageStorage, fleet.CheckWarning, "there are: cached")
	if test.ClusterUID != "cached" {
		t.Errorf("recognised by %q", test.ClusterUID)
	}
	if fresh.Load() != 2 { // the namespace that the cache lacks, and the metrics API, which is no object
		t.Errorf("%d reads past the cache", fresh.Load())
	}
}
