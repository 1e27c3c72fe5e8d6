package observe

import "testing"

func TestVersionsAreComparedOnlyWhereTheyHaveAnOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version, last string
		want          bool
	}{
		{"9", "10", true},
		{"10", "10", true},
		{"11", "10", false},
		{"10", "9", false},
		{"9", "", false}, // it was not read
		{"", "9", false},
		{"0", "9", false}, // any version
		{"a1", "a2", false},
		{"1", "a2", false},
		{"99999999999999999999", "100000000000000000000", true},
	} {
		if got := upTo(c.version, c.last); got != c.want {
			t.Errorf("%q up to %q: %v", c.version, c.last, got)
		}
	}
}
