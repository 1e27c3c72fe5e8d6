package clustertest

import (
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// FaultProxy is a TCP proxy whose network fails on demand. What it does with
// bytes and new connections can change at any time.
type FaultProxy struct {
	upstream string
	listener net.Listener

	mu      sync.Mutex
	mode    mode
	delay   time.Duration
	left    int           // bytes from the server until it is a black hole; 0 = any number
	changed chan struct{} // closed when mode changes
	conns   map[net.Conn]bool
	closed  bool
}

type mode int

const (
	passing mode = iota
	blackHole
	resetting
)

// Proxy starts a FaultProxy to addr (host:port) that passes everything until
// told otherwise. It ends with the test.
func Proxy(t testing.TB, addr string) *FaultProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &FaultProxy{upstream: addr, listener: listener, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	var accepting sync.WaitGroup
	accepting.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.set(resetting, 0)
		accepting.Wait()
	})
	return p
}

// ThroughProxy starts a FaultProxy to the server of a kubeconfig and returns
// the kubeconfig changed to go through it.
func ThroughProxy(t testing.TB, raw []byte) (*FaultProxy, []byte) {
	t.Helper()
	config, err := clientcmd.Load(raw)
	if err != nil {
		t.Fatal(err)
	}
	cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	server, err := url.Parse(cluster.Server)
	if err != nil {
		t.Fatal(err)
	}
	addr := server.Host
	if server.Port() == "" {
		addr = net.JoinHostPort(server.Hostname(), "443")
	}
	proxy := Proxy(t, addr)
	through := Edit(t, raw, func(config *api.Config) {
		cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
		cluster.Server = "https://" + proxy.Addr() + server.Path
		if cluster.TLSServerName == "" {
			cluster.TLSServerName = server.Hostname()
		}
	})
	return proxy, through
}

// Addr returns the proxy's host:port.
func (p *FaultProxy) Addr() string { return p.listener.Addr().String() }

// Restore passes everything again, at once. Connections that were black-holed
// go on where they stood; those that were reset are gone.
func (p *FaultProxy) Restore() { p.set(passing, 0) }

// RestoreFor passes everything again until n bytes, or a little more, have come
// from the server, and is a black hole from then on.
func (p *FaultProxy) RestoreFor(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change(passing, 0)
	p.left = n
}

// Delay passes everything, each piece d later.
func (p *FaultProxy) Delay(d time.Duration) { p.set(passing, d) }

// BlackHole accepts connections and bytes and lets nothing through either way.
func (p *FaultProxy) BlackHole() { p.set(blackHole, 0) }

// Reset ends every connection, and each new one, with a TCP reset.
func (p *FaultProxy) Reset() { p.set(resetting, 0) }

func (p *FaultProxy) set(m mode, delay time.Duration) {
	p.mu.Lock()
	p.change(m, delay)
	var ending []net.Conn
	if m == resetting {
		for conn := range p.conns {
			ending = append(ending, conn)
		}
	}
	p.mu.Unlock()
	for _, conn := range ending {
		reset(conn)
	}
}

// change sets the mode; p.mu is held.
func (p *FaultProxy) change(m mode, delay time.Duration) {
	p.mode, p.delay, p.left = m, delay, 0
	close(p.changed)
	p.changed = make(chan struct{})
}

// spend counts bytes that have come from the server.
func (p *FaultProxy) spend(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return
	}
	if p.left -= n; p.left <= 0 {
		p.change(blackHole, 0)
	}
}

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func (p *FaultProxy) accept() {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		serving.Go(func() { p.serve(conn) })
	}
}

// keep remembers conn so that Reset finds it; false means it was ended at once.
func (p *FaultProxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == resetting || p.closed {
		reset(conn)
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *FaultProxy) drop(conn net.Conn) {
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	conn.Close()
}

func (p *FaultProxy) serve(down net.Conn) {
	if !p.keep(down) {
		return
	}
	defer p.drop(down)
	if !p.gate() {
		return
	}
	up, err := net.DialTimeout("tcp", p.upstream, 30*time.Second)
	if err != nil {
		reset(down)
		return
	}
	if !p.keep(up) {
		return
	}
	defer p.drop(up)
	var both sync.WaitGroup
	both.Go(func() { p.copy(up, down, func(int) {}) })
	p.copy(down, up, p.spend)
	both.Wait()
}

// copy forwards one direction and tells passed how much; an end of it is passed
// on as one.
func (p *FaultProxy) copy(to, from net.Conn, passed func(int)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.gate() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				reset(from)
				return
			}
			passed(n)
		}
		if err != nil {
			if p.gate() {
				_ = to.(*net.TCPConn).CloseWrite()
			}
			return
		}
	}
}

// gate waits until bytes may pass; false means that they never will.
func (p *FaultProxy) gate() bool {
	for {
		p.mu.Lock()
		m, delay, changed := p.mode, p.delay, p.changed
		p.mu.Unlock()
		switch {
		case m == resetting:
			return false
		case m == passing && delay == 0:
			return true
		case m == passing:
			select {
			case <-time.After(delay):
				return true
			case <-changed:
			}
		default:
			<-changed
		}
	}
}
