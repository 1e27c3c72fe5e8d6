package clustertest

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// LateWatches stands before an API server, whose watches it can make late.
// Everything else is answered as ever.
type LateWatches struct {
	mu      sync.Mutex
	changed *sync.Cond
	held    bool
	passing map[string]int // by resource: how many events may still pass
	ended   bool
}

// WithLateWatches starts LateWatches before the server of a kubeconfig, and
// returns the kubeconfig changed to go through it. Nothing is late until Hold.
// It ends with the test.
func WithLateWatches(t testing.TB, raw []byte) (*LateWatches, []byte) {
	t.Helper()
	l := &LateWatches{passing: map[string]int{}}
	l.changed = sync.NewCond(&l.mu)
	config, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	address, authority := standBefore(t, upstream, transport, l.slow)
	t.Cleanup(func() { l.change(func() { l.ended = true }) }) // before the proxy ends
	return l, Edit(t, raw, func(config *api.Config) {
		cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
		cluster.Server, cluster.TLSServerName, cluster.CertificateAuthorityData = address, "", authority
	})
}

// Hold keeps back every event that has not passed yet.
func (l *LateWatches) Hold() { l.change(func() { l.held = true }) }

// Pass lets the next event of a resource pass, and returns when it has.
func (l *LateWatches) Pass(resource string) {
	l.change(func() { l.passing[resource] = 1 })
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.passing[resource] > 0 && !l.ended {
		l.changed.Wait()
	}
}

// Release lets all events of a resource pass, at once.
func (l *LateWatches) Release(resource string) {
	l.change(func() { l.passing[resource] = math.MaxInt })
}

func (l *LateWatches) change(how func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how()
	l.changed.Broadcast()
}

// slow makes the body of a watch one whose events come when they may.
func (l *LateWatches) slow(answer *http.Response) error {
	asked, ok := askedBy(answer.Request)
	if !ok || asked.Verb != "watch" || answer.StatusCode != http.StatusOK {
		return nil
	}
	body := answer.Body
	from, to := io.Pipe()
	answer.Body = from
	go func() {
		defer body.Close()
		events := bufio.NewReader(body)
		for {
			event, err := events.ReadBytes('\n')
			switch {
			case err != nil:
			case bytes.Contains(event, []byte(`"type":"BOOKMARK"`)):
				_, err = to.Write(event)
			default:
				l.await(asked.Resource)
				_, err = to.Write(event)
				l.change(func() { l.passing[asked.Resource] = max(0, l.passing[asked.Resource]-1) })
			}
			if err != nil {
				to.CloseWithError(err)
				return
			}
		}
	}()
	return nil
}

func (l *LateWatches) await(resource string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.held && l.passing[resource] == 0 && !l.ended {
		l.changed.Wait()
	}
}
