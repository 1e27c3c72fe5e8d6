package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// DialTimeout bounds the TCP connection to one address, TLSTimeout the
// handshake over it.
const (
	DialTimeout = 5 * time.Second
	TLSTimeout  = 5 * time.Second
)

// AddressPolicy decides which addresses an API server may have. Link-local
// and metadata addresses are refused whatever it says.
type AddressPolicy struct {
	Allow []netip.Prefix // empty = all that Deny leaves
	Deny  []netip.Prefix
}

// errRefusedAddress is what a dial to a refused address fails with.
var errRefusedAddress = errors.New("address refused")

// refusedPrefixes are never connected to: the services that hand out a
// machine's own credentials live there.
var refusedPrefixes = []struct {
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address, where clouds keep their metadata services"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "a metadata service of AWS"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "the metadata service of Google Cloud"},
	{netip.MustParsePrefix("100.100.100.200/32"), "the metadata service of Alibaba Cloud"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the platform address of Azure"},
	{netip.MustParsePrefix("192.0.0.192/32"), "the metadata service of Oracle Cloud"},
	{netip.MustParsePrefix("0.0.0.0/8"), "not the address of any server"},
	{netip.MustParsePrefix("::/128"), "not the address of any server"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
}

// Check returns why addr may not be connected to, or nil.
func (p AddressPolicy) Check(addr netip.Addr) error {
	forms := embedded(addr.WithZone(""))
	for _, a := range forms {
		for _, refused := range refusedPrefixes {
			if refused.prefix.Contains(a) {
				return fmt.Errorf("%w: %s is %s", errRefusedAddress, a, refused.why)
			}
		}
		for _, deny := range p.Deny {
			if deny.Contains(a) {
				return fmt.Errorf("%w: %s is in %s, which PORTOLAN_DENY_CIDRS excludes", errRefusedAddress, a, deny)
			}
		}
	}
	if len(p.Allow) == 0 {
		return nil
	}
	for _, allow := range p.Allow {
		if allow.Contains(forms[0]) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is in none of the networks of PORTOLAN_ALLOW_CIDRS", errRefusedAddress, forms[0])
}

// embedded returns addr and the IPv4 addresses that its IPv6 form leads to:
// mapped (::ffff:0:0/96), compatible (::/96), translated (::ffff:0:0:0/96),
// NAT64 (64:ff9b::/96, and 64:ff9b:1::/48 as it is used) and 6to4 (2002::/16).
func embedded(addr netip.Addr) []netip.Addr {
	addr = addr.Unmap()
	out := []netip.Addr{addr}
	if addr.Is4() {
		return out
	}
	b := addr.As16()
	last4 := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(addr), netip.MustParsePrefix("64:ff9b:1::/48").Contains(addr),
		netip.MustParsePrefix("::ffff:0:0:0/96").Contains(addr):
		out = append(out, last4)
	case netip.MustParsePrefix("::/96").Contains(addr) && addr != netip.IPv6Loopback() && addr != netip.IPv6Unspecified():
		out = append(out, last4)
	case netip.MustParsePrefix("2002::/16").Contains(addr):
		out = append(out, netip.AddrFrom4([4]byte(b[2:6])))
	}
	return out
}

// dialer returns the dialer of every connection to an API server. The policy
// is asked with the address that is really dialled, after name resolution, so
// that a name cannot lead elsewhere than it did when it was checked.
func (p AddressPolicy) dialer() *net.Dialer {
	return &net.Dialer{
		Timeout: DialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
		},
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			addrPort, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %q is not an IP address", errRefusedAddress, address)
			}
			return p.Check(addrPort.Addr())
		},
	}
}
