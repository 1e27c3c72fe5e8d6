package fleet_test

import (
	"testing"

	"portolan/internal/fleet"
)

func TestNetworkIsWhatOneClientHas(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
		"203.0.113.7": "203.0.113.7", "::ffff:203.0.113.7": "203.0.113.7", "": "", "@": "@", "a socket": "a socket",
	} {
		if got := fleet.Network(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
