package kube_test

import (
	"net/netip"
	"testing"

	"portolan/internal/kube"
)

func TestAddressPolicy(t *testing.T) {
	t.Parallel()
	any := kube.AddressPolicy{}
	for _, addr := range []string{"127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd12::1", "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"} {
		if err := any.Check(netip.MustParseAddr(addr)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{
		"169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "::ffff:0:a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1", "2001::5601:5601", "2001:db8::5efe:a9fe:a9fe", "2001:db8::200:5efe:a9fe:a9fe", "fd00:ec2::23", "192.0.0.192",
		"fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
	} {
		if err := any.Check(netip.MustParseAddr(addr)); err == nil {
			t.Errorf("%s is allowed", addr)
		}
	}
	some := kube.AddressPolicy{
		Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Deny:  []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")},
	}
	for addr, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.9.1.1": false, "::ffff:10.9.1.1": false, "11.0.0.1": false, "::1": false} {
		if got := some.Check(netip.MustParseAddr(addr)) == nil; got != want {
			t.Errorf("%s: allowed %t, want %t", addr, got, want)
		}
	}
}
