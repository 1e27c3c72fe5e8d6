package adapter

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// TestAttack13EvidenceIsBounded: a server need not heed how much of a log it was
// asked for.
func TestAttack13EvidenceIsBounded(t *testing.T) {
	t.Parallel()
	const most = 64 << 20
	sent := make(chan int, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/log") {
			_, _ = io.WriteString(w, `{"metadata":{},"items":[]}`)
			return
		}
		text, total := strings.Repeat("what it said last\n", 4<<10), 0
		for total < most {
			n, err := io.WriteString(w, text)
			if total += n; err != nil {
				break
			}
		}
		sent <- total
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	api, err := live.NewAPI(&rest.Config{Host: server.URL, QPS: 50, Burst: 100}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	pod := &live.Pod{}
	pod.Name = "web"
	trouble := &live.Trouble{Reason: "Error", Pod: pod, Container: &live.ContainerStatus{Name: "web"}}
	var failure fleet.Failure
	(&job{api: api}).evidence(t.Context(), &failure, trouble)
	if n := len(failure.Logs); n != evidenceLines || failure.Logs[0] != "what it said last" {
		t.Errorf("%d lines, beginning with %.100q", n, failure.Logs[:min(n, 1)])
	}
	if n := <-sent; n >= most {
		t.Errorf("%d MiB were taken", n>>20)
	}
}
