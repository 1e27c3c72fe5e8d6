package main

import "testing"

func TestSmallHeapsAreCollectedAtTheFloor(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, test := range []struct {
		live, roots uint64
		want        int
	}{
		{0, 0, 400},
		{0, 2 * mib, 400},
		{4 * mib, 2 * mib, 200},
		{8 * mib, 2 * mib, 100},
		{16 * mib, 2 * mib, 100},
		{500 * mib, 2 * mib, 100},
	} {
		if got := percentFor(test.live, test.roots); got != test.want {
			t.Errorf("%d MiB alive and %d of roots: %d, want %d", test.live/mib, test.roots/mib, got, test.want)
		}
	}
}
