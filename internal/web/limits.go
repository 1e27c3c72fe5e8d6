package web

import (
	"slices"
	"strings"

	"portolan/internal/fleet"
	"portolan/views/ui"
)

// limitedFields are the fields of a workload's form that a part of the
// connection test has something to say about.
var limitedFields = map[fleet.Stage]string{
	fleet.StageStorage: "volumes", fleet.StagePullSecrets: "pull_secrets", fleet.StageExposure: "ports",
}

// limits are what the tests of clusters found missing or doubtful, beside the
// field that it concerns, once for all clusters that it is true of.
func limits(targets []fleet.Status) map[string][]ui.Note {
	out := map[string][]ui.Note{}
	for i := range targets {
		s := &targets[i]
		if s.Test == nil {
			continue
		}
		for _, c := range s.Test.Checks {
			field := limitedFields[c.Stage]
			if field == "" || c.State != fleet.CheckWarning && c.State != fleet.CheckFailed {
				continue
			}
			text := join(" ", c.Message, c.Remedy)
			at := slices.IndexFunc(out[field], func(n ui.Note) bool { return n.Text == text })
			if at < 0 {
				out[field] = append(out[field], ui.Note{Text: text})
				at = len(out[field]) - 1
			}
			note := &out[field][at]
			note.For, note.Labels = append(note.For, s.Cluster.TargetName()), append(note.Labels, s.Cluster.Label)
		}
	}
	return out
}

// ofOne are the limits of one cluster alone: there is no choice to make, and so
// none to name.
func ofOne(s fleet.Status) map[string][]ui.Note {
	out := limits([]fleet.Status{s})
	for _, notes := range out {
		for i := range notes {
			notes[i].For, notes[i].Labels = nil, nil
		}
	}
	return out
}

// choose marks the notes that are true of the chosen target.
func choose(notes map[string][]ui.Note, target string) {
	for _, list := range notes {
		for i := range list {
			list[i].On = slices.Contains(list[i].For, strings.TrimSpace(target))
		}
	}
}
