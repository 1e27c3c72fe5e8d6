package main

import "testing"

func TestSmallHeapsAreCollectedAtTheFloor(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, test := range []struct {
		live, roots uint64
		want        int
	}{
		{0, 0, 500},
		{0, 2 * mib, 500},
		{5 * mib, 2 * mib, 214},
		{9 * mib, 2 * mib, 100},
		{20 * mib, 2 * mib, 100},
		{500 * mib, 2 * mib, 100},
	} {
		if got := percentFor(test.live, test.roots); got != test.want {
			t.Errorf("%d MiB alive and %d of roots: %d, want %d", test.live/mib, test.roots/mib, got, test.want)
		}
	}
}
