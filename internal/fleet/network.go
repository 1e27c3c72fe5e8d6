package fleet

import "net/netip"

// Network is what counts as one place when attempts from an address are
// counted. Whoever has an IPv6 address has all of its /64, the least that is
// given to a site (RFC 6177), so that it is the whole of that; any other
// address stands for itself.
func Network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}
