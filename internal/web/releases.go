package web

import (
	"context"
	"fmt"
	"slices"

	"portolan/internal/fleet"
	"portolan/views"
)

// history is what a page tells of a workload's releases. Fifty of them hold up to
// 45 MiB of files, so an open page reads them again only when there can be
// another one, or another outcome.
type history struct {
	release   int // the wanted one, the latest operation and its state, when they were read
	operation string
	state     fleet.OperationState

	rows    []fleet.ReleaseRow // newest first, their specs without files
	says    []string           // of each, what changed
	spec    []views.Fact       // of the wanted one
	volumes []string           // of any of them
}

// readHistory brings h up to the state of a workload.
func (s *Server) readHistory(ctx context.Context, h *history, state fleet.WorkloadState) error {
	now := history{release: state.Workload.Release}
	if op := state.Operation; op != nil {
		now.operation, now.state = op.ID, op.State
	}
	if len(h.rows) > 0 && h.release == now.release && h.operation == now.operation && h.state == now.state {
		return nil
	}
	var err error
	if now.rows, err = s.Reads.Releases(ctx, state.Workload.ID); err != nil {
		return err
	}
	if now.volumes, err = s.Reads.VolumeNames(ctx, state.Workload.ID); err != nil {
		return err
	}
	var after []views.Fact // of the release before in the list, which is the next one
	now.says = make([]string, len(now.rows))
	for i := range now.rows {
		r := &now.rows[i]
		facts := specFacts(r.Spec)
		r.Spec.Files = nil
		if r.Number == now.release {
			now.spec = facts
		}
		if i > 0 && now.says[i-1] == "" {
			now.says[i-1] = changed(facts, after)
		}
		if r.From > 0 {
			now.says[i] = fmt.Sprintf("repeats release %d", r.From)
		}
		after = facts
	}
	*h = now
	return nil
}

// wanted returns the spec of the wanted release; false when it is not among the
// newest.
func (h *history) wanted() (fleet.Spec, bool) {
	i := slices.IndexFunc(h.rows, func(r fleet.ReleaseRow) bool { return r.Number == h.release })
	if i < 0 {
		return fleet.Spec{}, false
	}
	return h.rows[i].Spec, true
}
