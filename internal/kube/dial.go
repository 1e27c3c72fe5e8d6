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
// handshake over it: as long as Go's http.DefaultTransport.
const (
	DialTimeout = 5 * time.Second
	TLSTimeout  = 10 * time.Second
)

// AddressPolicy decides which addresses an API server may have. Link-local
// and metadata addresses are refused whatever it says.
type AddressPolicy struct {
	Allow []netip.Prefix // empty = all that Deny leaves
	Deny  []netip.Prefix

	Resolver *net.Resolver // looks names up; nil = as the machine does
}

// errRefusedAddress is what a dial to a refused address fails with.
var errRefusedAddress = errors.New("address refused")

// refusedPrefixes are never connected to: the services that hand out a
// machine's own credentials live there. Sources, as of November 2026:
//   - 169.254.0.0/16 and fe80::/10 are link-local (RFC 3927, RFC 4291). In the
//     first live the metadata services of AWS, Google Cloud, Azure, Oracle,
//     DigitalOcean, Hetzner and OpenStack at .169.254, the credentials of ECS
//     tasks at .170.2 and of EKS pods at .170.23, Tencent's at .0.23.
//   - fd00:ec2::254 and fd00:ec2::23: AWS, “Instance metadata service” and “EKS
//     Pod Identity”; fd20:ce::254: Google Cloud, “About VM metadata”.
//   - 168.63.129.16: Azure, “What is IP address 168.63.129.16?”.
//   - 100.100.100.200: Alibaba Cloud, “Instance metadata”; 192.0.0.192: Oracle
//     Cloud's classic instances.
//   - The rest cannot be the address of a server (RFC 6890, RFC 5771, RFC 4291).
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
// NAT64 (64:ff9b::/96 of RFC 6052, and 64:ff9b:1::/48 of RFC 8215 as it is
// used), 6to4 (2002::/16, RFC 3056), Teredo (2001::/32, RFC 4380) and ISATAP
// (…:0:5efe:a.b.c.d, RFC 5214).
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
	case netip.MustParsePrefix("2001::/32").Contains(addr):
		out = append(out, netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	case b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe:
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
		Timeout:  DialTimeout,
		Resolver: p.Resolver,
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
