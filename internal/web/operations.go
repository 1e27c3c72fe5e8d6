package web

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/views"
)

var operationStates = []fleet.OperationState{
	fleet.OperationQueued, fleet.OperationRunning, fleet.OperationSucceeded, fleet.OperationFailed, fleet.OperationCancelled,
}

func (s *Server) listOperations(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter := fleet.OperationFilter{State: fleet.OperationState(q.Get("state")), After: q.Get("after")}
	if !slices.Contains(operationStates, filter.State) {
		filter.State = ""
	}
	page, err := s.Reads.Operations(r.Context(), filter)
	if err != nil {
		return err
	}
	v := views.Operations{State: string(filter.State), Rows: operationRows(page.Rows)}
	if page.Next != "" {
		v.Next = address("/operations", "state", v.State, "after", page.Next)
	}
	if filter.After != "" {
		v.First = address("/operations", "state", v.State)
	}
	return s.render(w, r, http.StatusOK, "Operations", func(p views.Page) templ.Component { return views.OperationsPage(p, v) })
}

func operationRows(ops []fleet.Operation) []views.OperationRow {
	var out []views.OperationRow
	for i := range ops {
		out = append(out, operationRow(&ops[i]))
	}
	return out
}

func operationRow(op *fleet.Operation) views.OperationRow {
	return views.OperationRow{
		ID: op.ID, Title: operationTitle(op), State: string(op.State), Note: operationNote(op), Workload: op.WorkloadName,
		Target: fleet.TargetPrefix + op.ClusterID, By: op.Actor, At: op.CreatedAt, Took: took(op, time.Now()),
	}
}

var verbTitles = map[fleet.Verb]string{
	fleet.VerbDeploy: "Deploy", fleet.VerbUpdate: "Update", fleet.VerbStop: "Stop", fleet.VerbStart: "Start",
	fleet.VerbRestart: "Restart", fleet.VerbScale: "Scale", fleet.VerbRollback: "Roll back", fleet.VerbRedeploy: "Redeploy",
	fleet.VerbDelete: "Delete", fleet.VerbForget: "Forget",
}

func operationTitle(op *fleet.Operation) string {
	title := verbTitles[op.Verb] + " " + op.WorkloadName
	switch op.Verb {
	case fleet.VerbScale:
		title += fmt.Sprintf(" to %d", op.Params.Replicas)
	case fleet.VerbRollback:
		title += fmt.Sprintf(" to release %d", op.Params.FromRelease)
	}
	return title
}

// operationNote is the present step of an unfinished operation, where its steps
// are known, and the cause of a failed one.
func operationNote(op *fleet.Operation) string {
	switch {
	case op.Failure != nil:
		return op.Failure.Message
	case op.State.Finished():
		return ""
	case op.CancelRequested:
		return "a cancel was asked for"
	}
	if step := op.NextStep(); step != nil {
		if step.Message != "" {
			return string(step.Name) + ": " + step.Message
		}
		return string(step.Name)
	}
	return ""
}

func took(op *fleet.Operation, now time.Time) time.Duration {
	if op.FinishedAt.IsZero() {
		return now.Sub(op.CreatedAt)
	}
	return op.FinishedAt.Sub(op.CreatedAt)
}
