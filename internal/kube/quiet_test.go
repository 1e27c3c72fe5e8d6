package kube_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// A test that nobody waits for reads from the API server's cache, as long as that
// says nothing bad and etcd answers too: it may be behind. One that a person waits
// for reads everything anew, and by HTTP/2, as clients do.
func TestQuietTestsReadNamesFromTheCache(t *testing.T) {
	t.Parallel()
	var spoken sync.Map // protocols
	a := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		spoken.Store(r.Proto, true)
		w.Header().Set("Content-Type", "application/json")
		answer := agreed(r)
		if r.URL.Path != "/version" && r.Method == http.MethodGet {
			from, phase := "etcd", "Active"
			if r.URL.Query().Get("resourceVersion") == "0" {
				from, phase = "cache", "Terminating"
			}
			answer = fmt.Sprintf(`{"kind":"Namespace","metadata":{"uid":%[1]q},"status":{"phase":%[2]q},"items":[{"metadata":{"name":%[1]q}}]}`, from, phase)
		}
		_, _ = io.WriteString(w, answer)
	})
	protocols := map[string]string{"etcd": "HTTP/2.0", "cache": "HTTP/1.1"}
	for from, yield := range map[string]func(context.Context){"etcd": nil, "cache": atOnce} {
		spoken.Clear()
		test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{
			Cluster: clusterRow("apps"), Deadline: patience, Yield: yield,
			Kubeconfig: []byte(kubeconfigFor(a.url, "    certificate-authority-data: "+b64(a.ca.pem)+"\n", tokenUser)),
		}, nil)
		check(t, test, fleet.StageNamespaces, fleet.CheckOK, "apps is there")
		check(t, test, fleet.StageStorage, fleet.CheckWarning, "there are: "+from)
		spoken.Range(func(protocol, _ any) bool {
			if protocol != protocols[from] {
				t.Errorf("%s: asked by %s, want %s", from, protocol, protocols[from])
			}
			return true
		})
		if test.Pinned.UID != "etcd" {
			t.Errorf("recognised by what the %s says", test.Pinned.UID)
		}
	}
}
