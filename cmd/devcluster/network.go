package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// A containerd node is joined to its host by a pair of network devices. Link N
// of the range set apart for benchmarks (RFC 2544), which no real network uses:
//
//	198.18.N.1      the host's end
//	198.18.N.2      the node
//	198.19.N.0/25   its pods
//	198.19.N.128/25 addresses of its load balancers
//
// The host has a route to the last two by way of the node, and nothing else of
// its network is changed; devices and route go when the node's namespace goes.

// Addresses inside every cluster.
const (
	serviceCIDR    = "10.96.0.0/16"
	firstServiceIP = "10.96.0.1"
	dnsServiceIP   = "10.96.0.10"
)

func (c *cluster) hostIP() string { return fmt.Sprintf("198.18.%d.1", c.Link) }

func (c *cluster) nodeIP() string {
	if !c.real() {
		return "198.18.0.2" // of no device: kwok's nodes have no network
	}
	return fmt.Sprintf("198.18.%d.2", c.Link)
}

func (c *cluster) nodeName() string { return c.Name + "-node" }

func (c *cluster) podCIDR() string { return fmt.Sprintf("198.19.%d.0/25", c.Link) }

// balancerIP is the nth address for load balancers. Those of kwok's nodes answer
// to nobody, and there may be thousands.
func (c *cluster) balancerIP(n int) string {
	if !c.real() {
		return fmt.Sprintf("198.18.%d.%d", 1+n/250, 1+n%250)
	}
	return fmt.Sprintf("198.19.%d.%d", c.Link, 129+n)
}

func (c *cluster) hostDevice() string { return "devc-" + clusterID(c.dir) }

// takeLink finds a link number of which the host has no address.
func (r *reservation) takeLink() (int, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return 0, err
	}
	return r.take("link", 1, 254, func(n int) bool {
		for _, address := range addresses {
			if strings.HasPrefix(address.String(), fmt.Sprintf("198.18.%d.", n)) {
				return false
			}
		}
		return true
	})
}

// joinNode makes the pair of devices between this host and the network
// namespace of process pid.
func (c *cluster) joinNode(pid int) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = c.hostDevice()
	pair := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("adding network device %s: %w", attributes.Name, err)
	}
	link, err := netlink.LinkByName(attributes.Name)
	if err != nil {
		return err
	}
	if err := configureLink(link, c.hostIP()+"/24"); err != nil {
		return err
	}
	return routeVia(link, fmt.Sprintf("198.19.%d.0/24", c.Link), c.nodeIP())
}

func configureLink(link netlink.Link, cidr string) error {
	address, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", link.Attrs().Name, cidr, err)
	}
	return netlink.LinkSetUp(link)
}

func routeVia(link netlink.Link, cidr, gateway string) error {
	_, destination, err := net.ParseCIDR(cidr)
	if err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: destination, Gw: net.ParseIP(gateway)}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("routing %s by %s: %w", cidr, gateway, err)
	}
	return nil
}

// forward copies bytes between every connection that listener accepts and a new
// one to the given address, until listener is closed.
func forward(listener net.Listener, network, address string) {
	for {
		accepted, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = accepted.Close() }()
			dialled, err := net.DialTimeout(network, address, 30*time.Second)
			if err != nil {
				return
			}
			defer func() { _ = dialled.Close() }()
			join(accepted, dialled)
		}()
	}
}

// join copies both ways and passes an end of input on, so that half-closed
// connections work; it returns when both ways have ended.
func join(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		copyHalf(a, b)
		close(done)
	}()
	copyHalf(b, a)
	<-done
}

func copyHalf(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
	_ = from.Close()
}
