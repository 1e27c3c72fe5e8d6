// Package ui holds the primitives that the pages are made of.
package ui

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
