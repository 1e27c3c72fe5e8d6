// Package ui holds the primitives that the pages are made of.
package ui

import (
	"context"
	"io"

	"github.com/a-h/templ"
)

// Tone is the colour and icon of a state.
type Tone string

// The tones. Each has one colour and one icon everywhere.
const (
	OK      Tone = "ok"
	Working Tone = "working"
	Warning Tone = "warning"
	Failed  Tone = "failed"
	Stopped Tone = "stopped"
	Unknown Tone = "unknown"
)

// Status is a state as it is shown: a tone and one word.
type Status struct {
	Tone Tone
	Word string
}

// Phase is the status of a workload's phase.
func Phase(phase string) Status {
	switch phase {
	case "running":
		return Status{OK, phase}
	case "deploying", "stopping", "deleting":
		return Status{Working, phase}
	case "degraded":
		return Status{Warning, phase}
	case "failed":
		return Status{Failed, phase}
	case "stopped":
		return Status{Stopped, phase}
	}
	return Status{Unknown, "unknown"}
}

// TestState is the status of a cluster's latest test.
func TestState(state string) Status {
	switch state {
	case "ok":
		return Status{OK, "ok"}
	case "running":
		return Status{Working, "testing"}
	case "failed":
		return Status{Failed, "failed"}
	}
	return Status{Unknown, "untested"}
}

// Stage is the status of one stage of a test or one step of an operation.
func Stage(state string) Status {
	switch state {
	case "ok", "succeeded":
		return Status{OK, "done"}
	case "running":
		return Status{Working, "running"}
	case "warning":
		return Status{Warning, "warning"}
	case "failed":
		return Status{Failed, "failed"}
	case "skipped":
		return Status{Stopped, "skipped"}
	}
	return Status{Stopped, "waiting"}
}

// Operation is the status of an operation.
func Operation(state string) Status {
	switch state {
	case "succeeded":
		return Status{OK, state}
	case "running":
		return Status{Working, state}
	case "failed":
		return Status{Failed, state}
	case "queued", "cancelled":
		return Status{Stopped, state}
	}
	return Status{Unknown, "unknown"}
}

var toneIcons = map[Tone]string{
	OK:      "circle-check",
	Working: "loader-circle",
	Warning: "triangle-alert",
	Failed:  "circle-x",
	Stopped: "circle-stop",
	Unknown: "circle-dashed",
}

// State shows a status: its icon and its word, in its colour; nothing where
// there is no word. A list has a hundred of them: templ would put the classes of
// each together anew, with two maps.
func State(s Status) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		if s.Word == "" {
			return nil
		}
		for _, part := range [...]string{
			`<span class="state `, string(s.Tone), `">`, drawn[toneIcons[s.Tone]], `<span>`, templ.EscapeString(s.Word), `</span></span>`,
		} {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
		}
		return nil
	})
}
