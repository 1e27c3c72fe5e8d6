package views

import (
	"maps"
	"net/url"
	"slices"

	"portolan/views/ui"
)

func queryEscape(s string) string { return url.QueryEscape(s) }

// toneOf is a tone for a count: with nothing to count there is nothing to
// colour.
func toneOf(n int, t ui.Tone) ui.Tone {
	if n == 0 {
		return ui.Stopped
	}
	return t
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
