package e2e

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// between stands between Portolan and the API server of a kubeconfig, and
// returns the kubeconfig that leads through it. pass is called for each request
// and forwards it when it likes. Users past it have the administrator's rights.
func between(t testing.TB, raw []byte, pass func(w http.ResponseWriter, r *http.Request, forward http.Handler)) []byte {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		FlushInterval: -1,
		Transport:     transport,
		ErrorLog:      log.New(io.Discard, "", 0), // whoever asked has hung up
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization") // the transport has the administrator's
		},
	}
	authority := newAuthority(t)
	addr := https(t, authority.serving(t, time.Now().Add(time.Hour)), func(w http.ResponseWriter, r *http.Request) { pass(w, r, forward) })
	return authority.kubeconfig(t, addr)
}

// gate keeps back those requests to an API server that a test wants it to.
type gate struct {
	kubeconfig []byte

	mu    sync.Mutex
	shuts func(*http.Request) bool
	open  chan struct{} // closed when what is kept back may pass
}

func newGate(t testing.TB, raw []byte) *gate {
	t.Helper()
	g := &gate{}
	g.kubeconfig = between(t, raw, g.pass)
	return g
}

// shut keeps back, from now on, those requests that which returns true for.
func (g *gate) shut(which func(*http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shuts, g.open = which, make(chan struct{})
}

// lift lets everything pass again.
func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shuts = nil
	close(g.open)
}

func (g *gate) pass(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	g.mu.Lock()
	kept, open := g.shuts != nil && g.shuts(r), g.open
	g.mu.Unlock()
	if kept {
		// Only when it was read is the end of the connection noticed.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-open:
		case <-r.Context().Done():
		}
		if r.Context().Err() != nil {
			return // whoever asked is gone, and nobody asks any more
		}
	}
	forward.ServeHTTP(w, r)
}
