package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
)

const (
	shownOperations = 20
	shownHappenings = 20  // the newest events of the latest operation
	readHappenings  = 200 // of its record, in which they stand among others
)

func (s *Server) showWorkload(w http.ResponseWriter, r *http.Request) error {
	v, err := s.workloadView(r.Context(), chi.URLParam(r, "id"), visitOf(r.Context()).user.Role, &history{})
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, v.Name, func(p views.Page) templ.Component { return views.WorkloadPage(p, v) })
}

// workloadView is the page of a workload as it is now. known is what an open page
// knows already of its releases.
func (s *Server) workloadView(ctx context.Context, id string, role fleet.Role, known *history) (views.Workload, error) {
	state, err := s.Reads.Workload(ctx, id)
	if err != nil {
		return views.Workload{}, err
	}
	situation, err := s.Operator.Situation(ctx, state)
	if err != nil {
		return views.Workload{}, err
	}
	if err := s.readHistory(ctx, known, state); err != nil {
		return views.Workload{}, err
	}
	operations, err := s.Reads.OperationsOf(ctx, id, shownOperations)
	if err != nil {
		return views.Workload{}, err
	}
	wl := &state.Workload
	phase, reason := fleet.PhaseOf(state.Operation, state.Observation, time.Now())
	v := views.Workload{
		ID: wl.ID, Name: wl.Name, Runtime: wl.Runtime, RuntimeLabel: runtimeLabel(wl.Runtime), Target: wl.Target(),
		ClusterLabel: situation.Target.Cluster.Label, Namespace: wl.Namespace, Kind: string(wl.Kind), Release: wl.Release, Wanted: int(wl.Replicas),
		Phase: string(phase), Reason: reason, Since: state.Since, Operations: operationRows(operations),
		Verbs: verbs(situation, role),
	}
	seen := state.Observation
	if phase == fleet.PhaseUnknown {
		seen = nil
	}
	v.Releases = releaseViews(known, seen, situation, role)
	v.Notes = otherRelease(v.Releases, seen, situation)
	if role.Includes(fleet.RoleAdmin) {
		v.ClusterHref = "/admin/clusters/" + wl.ClusterID
	}
	if op := situation.Unfinished; op != nil {
		row := operationRow(op)
		v.Active = &row
	}
	if spec, ok := known.wanted(); ok {
		v.Image, v.Spec = spec.Image, known.spec
	}
	v.Delete = deleteConfirm(wl, known.volumes)
	observed(&v, state.Observation)
	v.Logs = logPane(wl, state.Observation, logChoice{tail: defaultTail})
	if state.Operation != nil {
		events, err := s.Reads.EventsSince(ctx, state.Operation.ID, state.Operation.LastSeq-readHappenings, readHappenings)
		if err != nil {
			return v, err
		}
		v.Events = happenings(events)
	}
	return v, nil
}

// observed fills in what was last seen in the cluster.
func observed(v *views.Workload, o *fleet.Observation) {
	if o == nil {
		return
	}
	v.SeenAt = o.SeenAt
	v.Replicas = views.Replicas{
		Desired: int(o.Desired), Current: int(o.Current), Ready: int(o.Ready), Available: int(o.Available),
		Updated: int(o.Updated), Known: true,
	}
	for _, e := range o.Endpoints {
		v.Endpoints = append(v.Endpoints, views.Endpoint{Name: e.Port, Text: e.Text, URL: e.URL})
	}
	for _, c := range o.Conditions {
		v.Conditions = append(v.Conditions, views.Condition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message, At: c.Since})
	}
	v.PodsOmitted = o.PodsOmitted
	for _, p := range o.Pods {
		reason := join(": ", p.Reason, p.Message)
		if p.Deleting {
			reason = join(", ", "being deleted", reason)
		}
		v.Pods = append(v.Pods, views.Pod{
			Name: p.Name, Phase: p.Phase, Reason: reason, Node: p.Node, Ready: p.Ready, Restarts: int(p.Restarts), At: p.StartedAt,
		})
	}
}

// verbs are the actions that the page offers someone of the role. What is not
// possible now stays in sight and says why.
func verbs(s fleet.Situation, role fleet.Role) []views.Verb {
	if !role.Includes(fleet.RoleOperator) {
		return nil
	}
	first := fleet.VerbStop
	if s.Workload.Stopped {
		first = fleet.VerbStart
	}
	list := []fleet.Verb{first, fleet.VerbRestart, fleet.VerbScale, fleet.VerbRedeploy, fleet.VerbUpdate, fleet.VerbDelete}
	if role.Includes(fleet.VerbForget.Role()) && s.Allows(fleet.VerbForget) == nil {
		list = append(list, fleet.VerbForget)
	}
	var out []views.Verb
	for _, verb := range list {
		v := views.Verb{Name: string(verb)}
		if verb == fleet.VerbUpdate {
			v.Name = "edit"
		}
		if err := s.Allows(verb); err != nil {
			v.Why = why(err)
		}
		out = append(out, v)
	}
	return out
}

// releaseViews are the releases, of which seen, if it is not nil, shows one that
// is in the cluster.
func releaseViews(known *history, seen *fleet.Observation, s fleet.Situation, role fleet.Role) []views.Release {
	w := &s.Workload
	back := role.Includes(fleet.RoleOperator) && s.Allows(fleet.VerbRollback) == nil
	var out []views.Release
	for i, r := range known.rows {
		v := views.Release{
			Number: r.Number, Says: known.says[i], At: r.CreatedAt, By: r.CreatedBy, Image: r.Spec.Image, State: string(r.Latest.State),
			Current: r.Number == w.Release, Rollback: back && r.Succeeded && r.Number != w.Release,
		}
		if busy := r.Latest.State == fleet.OperationQueued || r.Latest.State == fleet.OperationRunning; r.Succeeded && !busy {
			v.State = string(fleet.OperationSucceeded) // by a later redeploy, it may be
			v.Runs = seen != nil && seen.Exists && seen.Desired > 0 && seen.Release == r.Number
		}
		out = append(out, v)
	}
	return out
}

// otherRelease says so when the cluster has another release than the one that is
// wanted, and nothing is being done about it.
func otherRelease(releases []views.Release, seen *fleet.Observation, s fleet.Situation) []string {
	wanted := s.Workload.Release
	if seen == nil || !seen.Exists || seen.Release == 0 || seen.Release == wanted || s.Unfinished != nil {
		return nil
	}
	has, became := "what runs", "is the one that is wanted"
	if seen.Desired == 0 {
		has = "what the cluster has"
	}
	back := ""
	for _, r := range releases {
		switch {
		case r.Number == wanted && r.State == string(fleet.OperationFailed):
			became = "failed"
		case r.Number == wanted && r.State == string(fleet.OperationCancelled):
			became = "was cancelled"
		case r.Number == seen.Release && r.Rollback:
			back = fmt.Sprintf(" To stay with release %d, roll back to it.", r.Number)
		}
	}
	return []string{fmt.Sprintf("Release %d is %s; release %d %s. Redeploy makes release %d.%s", seen.Release, has, wanted, became, wanted, back)}
}

// changed names the settings in which a release differs from the one before. Of
// secrets, facts know the names alone: it claims nothing about their values.
func changed(a, b []views.Fact) string {
	values := map[string]string{}
	for _, f := range a {
		values[f.Name] = f.Value
	}
	var names []string
	for _, f := range b {
		if values[f.Name] != f.Value {
			names = append(names, strings.ToLower(f.Name))
		}
		delete(values, f.Name)
	}
	for _, f := range a {
		if _, gone := values[f.Name]; gone {
			names = append(names, strings.ToLower(f.Name))
		}
	}
	switch {
	case len(names) > 0:
	case slices.ContainsFunc(a, func(f views.Fact) bool { return f.Name == secretFact }):
		return "the same settings; values of secrets are not compared"
	default:
		return "the same settings"
	}
	return "changed: " + strings.Join(names, ", ")
}

// happenings are the events of Kubernetes' objects that the latest operation
// recorded, newest first.
func happenings(events []fleet.Event) []views.Event {
	var out []views.Event
	for _, e := range slices.Backward(events) {
		v := views.Event{At: e.At, Type: "Normal", Reason: e.Reason, Object: e.Object, Says: e.Message, Count: 1}
		switch e.Type {
		case fleet.EventWarning:
			v.Type = "Warning"
		case fleet.EventNormal:
		default:
			continue
		}
		if v.Reason == "" {
			v.Reason = v.Type
		}
		if out = append(out, v); len(out) == shownHappenings {
			break
		}
	}
	return out
}

// deleteConfirm asks before a deletion. It takes away also the volumes that the
// present release does not use.
func deleteConfirm(w *fleet.Workload, volumes []string) views.Confirm {
	c := views.Confirm{
		Title:  "Delete " + w.Name,
		Says:   []string{"This deletes every object of " + w.Name + " in the namespace " + w.Namespace + " on " + w.Target() + "."},
		Action: "/workloads/" + w.ID + "/delete", Word: w.Name, Submit: "Delete workload", Back: "/workloads/" + w.ID, Tells: true,
	}
	for _, volume := range volumes {
		c.Volumes = append(c.Volumes, w.Name+"-"+volume)
	}
	return c
}
