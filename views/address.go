package views

import (
	"maps"
	"net/url"
	"slices"
)

func queryEscape(s string) string { return url.QueryEscape(s) }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
