package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
)

// shownEvents bounds what an operation's page lists of its record: the newest.
const shownEvents = 300

func (s *Server) showOperation(w http.ResponseWriter, r *http.Request) error {
	v, _, err := s.operationView(r.Context(), chi.URLParam(r, "id"), visitOf(r.Context()).user.Role)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, v.Title, func(p views.Page) templ.Component { return views.OperationPage(p, v) })
}

func (s *Server) cancelOperation(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	if err := s.Operator.Cancel(r.Context(), actor(r), id); err != nil {
		return err
	}
	return s.done(w, r, "/operations/"+id, "It ends at the next safe point.")
}

// operationView is the page of an operation as it is now, and the operation.
func (s *Server) operationView(ctx context.Context, id string, role fleet.Role) (views.Operation, fleet.Operation, error) {
	op, err := s.Reads.Operation(ctx, id)
	if err != nil {
		return views.Operation{}, op, err
	}
	events, err := s.Reads.EventsSince(ctx, id, op.LastSeq-shownEvents, shownEvents)
	if err != nil {
		return views.Operation{}, op, err
	}
	v := views.Operation{
		ID: op.ID, Title: operationTitle(&op), Verb: string(op.Verb), State: string(op.State), By: op.Actor,
		At: op.CreatedAt, EndedAt: op.FinishedAt, Took: took(&op, time.Now()), Target: fleet.TargetPrefix + op.ClusterID,
		Facts: operationFacts(&op), WorkloadName: op.WorkloadName, Outcome: outcome(&op),
		CanCancel: !op.State.Finished() && !op.CancelRequested && role.Includes(fleet.RoleOperator),
	}
	switch _, err := s.Reads.Workload(ctx, op.WorkloadID); {
	case err == nil:
		v.WorkloadID = op.WorkloadID
	case fleet.CodeOf(err) != fleet.CodeNotFound:
		return v, op, err
	}
	if f := op.Failure; f != nil {
		v.Cause = &views.Cause{
			Title: f.Reason, Detail: f.Message, Remedy: f.Remedy, Object: f.Object, Events: f.Events, Log: f.Logs,
		}
		if role.Includes(fleet.RoleOperator) {
			v.Again = again(&op, v.WorkloadID)
		}
	}
	v.EventsRemoved = op.EventsRemoved
	for _, step := range op.Steps {
		v.Steps = append(v.Steps, stepView(step, time.Now()))
	}
	for _, e := range events {
		if says := eventView(e); says.Says != "" {
			v.Events = append(v.Events, says)
		}
	}
	return v, op, nil
}

func stepView(step fleet.Step, now time.Time) views.Step {
	v := views.Step{Name: string(step.Name), State: string(step.State), Message: step.Message, At: step.StartedAt}
	switch {
	case step.StartedAt.IsZero():
	case step.FinishedAt.IsZero():
		v.Took = now.Sub(step.StartedAt)
	default:
		v.Took = step.FinishedAt.Sub(step.StartedAt)
	}
	return v
}

// eventView is one line of the record in words; without any for the beginning of
// a step, which the steps show by themselves.
func eventView(e fleet.Event) views.OperationEvent {
	v := views.OperationEvent{Seq: e.Seq, At: e.At, Type: "Normal", Says: e.Message}
	switch e.Type {
	case fleet.EventWarning:
		v.Type = "Warning"
	case fleet.EventStep:
		v.Says = stepSays(e)
	case fleet.EventOperation:
		v.Says = join(": ", operationWord(e.State), e.Message)
		if e.State == string(fleet.OperationFailed) {
			// The cause stands at the head of the page.
			v.Type, v.Says = "Warning", join(": ", operationWord(e.State), e.Reason)
			return v
		}
	}
	if e.State == string(fleet.StepFailed) {
		v.Type = "Warning"
	}
	if e.Reason != "" && !strings.Contains(v.Says, e.Reason) {
		v.Says = join(": ", e.Reason, v.Says)
	}
	if e.Object != "" && !strings.Contains(v.Says, e.Object) {
		v.Says = join(" ", e.Object, v.Says)
	}
	return v
}

// stepSays words a change of a step, or how far it has come.
func stepSays(e fleet.Event) string {
	step := string(e.Step)
	switch fleet.StepState(e.State) {
	case fleet.StepRunning:
		if e.Message == "" {
			return ""
		}
		return step + ": " + e.Message
	case fleet.StepSucceeded, fleet.StepSkipped:
		if e.Message == "" {
			return step + " " + e.State
		}
		return step + ": " + e.Message
	case fleet.StepPending:
		return join(": ", step+" waits", e.Message)
	}
	return join(": ", step+" "+e.State, e.Message)
}

func operationWord(state string) string {
	switch fleet.OperationState(state) {
	case fleet.OperationQueued:
		return "Accepted, waiting for a worker"
	case fleet.OperationRunning:
		return "Begun"
	case fleet.OperationSucceeded:
		return "Succeeded"
	case fleet.OperationFailed:
		return "Failed"
	case fleet.OperationCancelled:
		return "Cancelled"
	}
	return state
}

func operationFacts(op *fleet.Operation) []views.Fact {
	out := []views.Fact{
		{Name: "Workload", Value: op.WorkloadName, Mono: true},
		{Name: "Namespace", Value: op.Namespace, Mono: true},
		{Name: "Runtime", Value: runtimeLabel(op.Runtime)},
	}
	if op.Release > 0 {
		out = append(out, views.Fact{Name: "Release", Value: fmt.Sprint(op.Release)})
	}
	switch op.Verb {
	case fleet.VerbScale, fleet.VerbStart:
		out = append(out, views.Fact{Name: "Replicas", Value: fmt.Sprint(op.Params.Replicas)})
	case fleet.VerbRollback:
		out = append(out, views.Fact{Name: "Repeats release", Value: fmt.Sprint(op.Params.FromRelease)})
	case fleet.VerbDelete, fleet.VerbForget:
		kept := "deleted as well"
		if op.Params.KeepVolumes || op.Verb == fleet.VerbForget {
			kept = "kept"
		}
		out = append(out, views.Fact{Name: "Volumes", Value: kept})
	}
	return append(out, views.Fact{Name: "Id", Value: op.ID, Mono: true})
}

// outcome is what a success or a cancel leaves behind.
func outcome(op *fleet.Operation) string {
	name, target := op.WorkloadName, fleet.TargetPrefix+op.ClusterID
	switch op.State {
	case fleet.OperationCancelled:
		var done, not []string
		for _, step := range op.Steps {
			if step.Done() {
				done = append(done, string(step.Name))
			} else {
				not = append(not, string(step.Name))
			}
		}
		return fmt.Sprintf("Cancelled. Done: %s. Not done: %s.", orNone(done), orNone(not))
	case fleet.OperationSucceeded:
		switch op.Verb {
		case fleet.VerbStop:
			return name + " is stopped: no pod of it remains on " + target + "."
		case fleet.VerbDelete:
			if op.Params.KeepVolumes {
				return "Every object of " + name + " is gone from " + target + ", except its volumes, which are kept."
			}
			return "Every object of " + name + " is gone from " + target + "."
		case fleet.VerbForget:
			return name + " was forgotten. Nothing was deleted on " + target + ": what ran there may still be there."
		case fleet.VerbScale:
			for _, step := range op.Steps {
				if step.Name == fleet.StepReplicas && step.State == fleet.StepSkipped {
					return name + " was not scaled on " + target + ". It was " + step.Message + "."
				}
			}
			return fmt.Sprintf("%s runs with %s on %s.", name, fleet.Counted(int(op.Params.Replicas), "replica", "replicas"), target)
		default:
			if op.Params.Stopped {
				return name + " is as wanted on " + target + ", but stopped: no pod of it runs before it is started."
			}
			return name + " is up on " + target + "."
		}
	}
	return ""
}

// again is where a failed operation can be tried once more.
func again(op *fleet.Operation, workloadID string) string {
	switch {
	case workloadID == "":
		return "/deploy?target=" + fleet.TargetPrefix + op.ClusterID
	case op.Verb == fleet.VerbDeploy || op.Verb == fleet.VerbUpdate || op.Verb == fleet.VerbRollback:
		return "/workloads/" + workloadID + "/edit"
	}
	return ""
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// join puts a separator between the texts that are not empty.
func join(separator string, texts ...string) string {
	var out []string
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return strings.Join(out, separator)
}

func runtimeLabel(id string) string {
	if r, ok := fleet.RuntimeByID(id); ok {
		return r.Label
	}
	return id
}
