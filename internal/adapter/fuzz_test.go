package adapter

import "testing"

// FuzzPosition reads what a browser sends back as the place where it was in a
// log, and whoever pretends to be one.
func FuzzPosition(f *testing.F) {
	for _, seed := range []string{position{logKey("uid", "main"): {1767323045000000001, 3}}.String(), "a-b.c", "a-b,a-b", "-", "a--1", "a-zzzzzzzzzzzzzzzzzz.zzzzzzzzzz", ",,", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := parsePosition(text)
		again := parsePosition(p.String())
		if len(again) != len(p) || again.newest() != p.newest() {
			t.Errorf("%q is %v, and its text %q is %v", text, p, p, again)
		}
		for key, mark := range p {
			if again[key] != mark {
				t.Errorf("%q: %v became %v", text, mark, again[key])
			}
		}
	})
}
