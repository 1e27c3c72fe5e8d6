package clustertest

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// standBefore starts a proxy before an API server, which is reached by transport,
// and returns its address and its certificate as PEM. look sees every answer, and
// may change it. The proxy ends with the test.
func standBefore(t testing.TB, upstream *url.URL, transport http.RoundTripper, look func(*http.Response) error) (address string, authority []byte) {
	t.Helper()
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:        func(p *httputil.ProxyRequest) { p.SetURL(upstream) },
		Transport:      transport,
		FlushInterval:  -1, // watches and logs live on
		ModifyResponse: look,
		ErrorLog:       log.New(io.Discard, "", 0), // whoever asked has hung up
	})
	server.EnableHTTP2 = true
	ctx, end := context.WithCancel(context.Background())
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.StartTLS()
	t.Cleanup(func() {
		end() // watches have no end of their own
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
