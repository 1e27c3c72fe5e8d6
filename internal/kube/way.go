package kube

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
	"k8s.io/client-go/rest"
)

// way is how connections to an API server are made: straight, or through the
// proxy that its kubeconfig names and the cluster allows. The policy decides
// over the address that is dialled, so over the proxy's where there is one. The
// name of the API server is then looked up by the proxy: of it, only an address
// that is written out can be checked here.
type way struct {
	policy AddressPolicy
	proxy  *url.URL // nil = straight
}

// wayOf is the way that the configuration of a kubeconfig asks for.
func wayOf(cfg *rest.Config, policy AddressPolicy) way {
	w := way{policy: policy}
	if cfg.Proxy != nil {
		w.proxy, _ = cfg.Proxy(nil) // one URL for all requests: no error
	}
	return w
}

// firstHop is the address that is dialled for a server.
func (w way) firstHop(server string) string {
	if w.proxy == nil {
		return server
	}
	port := w.proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080"}[w.proxy.Scheme]
	}
	return net.JoinHostPort(w.proxy.Hostname(), port)
}

// proxyError says what a proxy answered in place of a connection.
type proxyError struct{ says string }

func (e *proxyError) Error() string { return "the proxy " + e.says }

// dial connects to the address of an API server.
func (w way) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if w.proxy == nil {
		return w.policy.dialer().DialContext(ctx, network, address)
	}
	if server, err := netip.ParseAddrPort(address); err == nil {
		if err := w.policy.Check(server.Addr()); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, DialTimeout+TLSTimeout)
	defer cancel()
	if w.proxy.Scheme == "socks5" {
		return w.socks(ctx, address)
	}
	conn, err := w.policy.dialer().DialContext(ctx, "tcp", w.firstHop(""))
	if err != nil {
		return nil, err
	}
	// What follows has no context of its own.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := w.connect(conn, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return tunnel, nil
}

func (w way) socks(ctx context.Context, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if u := w.proxy.User; u != nil {
		password, _ := u.Password()
		auth = &proxy.Auth{User: u.Username(), Password: password}
	}
	dialer, err := proxy.SOCKS5("tcp", w.firstHop(""), auth, w.policy.dialer())
	if err != nil {
		return nil, err
	}
	return dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
}

// connect asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func (w way) connect(conn net.Conn, address string) (net.Conn, error) {
	if w.proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: w.proxy.Hostname(), MinVersion: tls.VersionTLS12})
	}
	request := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n"
	if u := w.proxy.User; u != nil {
		password, _ := u.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, 64<<10))
	answer, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", &proxyError{"did not answer as an HTTP proxy does"}, err)
	}
	answer.Body.Close() // empty for a tunnel; what else there is, the connection is closed with
	if answer.StatusCode != http.StatusOK {
		return nil, &proxyError{"refuses to connect: " + plain(answer.Status, 80)}
	}
	if reader.Buffered() > 0 {
		return nil, &proxyError{"speaks before the API server does"}
	}
	return conn, nil
}
