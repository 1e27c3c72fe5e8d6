package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"portolan/internal/fleet"
)

// Update begins an update of the workload to what the form says. The name,
// target, runtime and kind stay; secrets left blank keep their values. A form that
// says what it was made from, and would put back what others have changed since,
// is CodeConflict; its Problems name the fields.
func (o *Operator) Update(ctx context.Context, actor fleet.Actor, id string, form fleet.WorkloadForm) (fleet.Operation, error) {
	op, err := o.update(ctx, actor, id, form)
	if err != nil {
		return op, o.refused(ctx, actor, action(fleet.VerbUpdate), "workload/"+id, err)
	}
	return op, nil
}

func (o *Operator) update(ctx context.Context, actor fleet.Actor, id string, form fleet.WorkloadForm) (fleet.Operation, error) {
	state, err := o.allowed(ctx, id, fleet.VerbUpdate)
	if err != nil {
		return fleet.Operation{}, err
	}
	first, err := o.first(ctx, state)
	if err != nil {
		return fleet.Operation{}, err
	}
	w := state.Workload
	runtime, ok := fleet.RuntimeByID(w.Runtime)
	if !ok {
		return fleet.Operation{}, fleet.Conflict("This Portolan does not know the runtime %s any more.", w.Runtime)
	}
	form["name"] = w.Name
	if form["workload_kind"] == "" {
		form["workload_kind"] = strings.ToLower(string(w.Kind))
	}
	_, spec, typed, err := form.Parse(runtime)
	if err != nil {
		return fleet.Operation{}, err
	}
	if spec.Kind != w.Kind {
		return fleet.Operation{}, fleet.Problems{"workload_kind": "cannot change: deploy a new workload instead"}.Err()
	}
	before, err := o.Store.Release(ctx, w.ID, w.Release)
	if err != nil {
		return fleet.Operation{}, err
	}
	if err := o.outdated(ctx, form, w, before, spec, typed); err != nil {
		return fleet.Operation{}, err
	}
	values, err := o.mergeSecrets(before, spec.SecretEnv, typed)
	if err != nil {
		return fleet.Operation{}, err
	}
	release := draftRelease{Release: fleet.Release{WorkloadID: w.ID, Spec: spec, CreatedBy: actor.Email}}
	if err := o.sealSecrets(&release, values); err != nil {
		return fleet.Operation{}, err
	}
	changes := differ(before.Spec, spec, typed)
	changes.note("replicas", w.Replicas, spec.Replicas) // scaling may have moved it since
	w.Replicas = spec.Replicas
	return o.begin(ctx, actor, w, fleet.VerbUpdate, fleet.Params{FromRelease: before.Number, First: first}, &release, changes)
}

// first reports whether nothing of the workload is in its cluster yet, so that
// what would make it there is a deploy under another name, and needs a target as
// much: an Error says why the cluster is none now.
func (o *Operator) first(ctx context.Context, state fleet.WorkloadState) (bool, error) {
	if state.Observation != nil && state.Observation.Exists {
		return false, nil
	}
	up, err := o.Store.EverUp(ctx, state.Workload.ID)
	if up || err != nil {
		return false, err
	}
	_, err = o.Targets.CheckTarget(ctx, state.Workload.ClusterID)
	if e := (*fleet.Error)(nil); errors.As(err, &e) && len(e.Problems) > 0 {
		// There is no target to choose here.
		return true, &fleet.Error{
			Code: e.Code, Message: e.Message + " Nothing of " + state.Workload.Name + " was made there yet.", Err: err,
			Remedy: "Ask an admin to look at the cluster's connection test, or delete the workload and deploy it elsewhere.",
		}
	}
	return true, err
}

// Act begins any other verb on a workload that exists. The form holds what the
// verb takes: replicas, release, confirm, keep_volumes.
func (o *Operator) Act(ctx context.Context, actor fleet.Actor, id string, verb fleet.Verb, form fleet.WorkloadForm) (fleet.Operation, error) {
	op, err := o.act(ctx, actor, id, verb, form)
	if err != nil {
		return op, o.refused(ctx, actor, action(verb), "workload/"+id, err)
	}
	return op, nil
}

func (o *Operator) act(ctx context.Context, actor fleet.Actor, id string, verb fleet.Verb, form fleet.WorkloadForm) (fleet.Operation, error) {
	state, err := o.allowed(ctx, id, verb)
	if err != nil {
		return fleet.Operation{}, err
	}
	w := state.Workload
	switch verb {
	case fleet.VerbStop, fleet.VerbRestart:
		return o.begin(ctx, actor, w, verb, fleet.Params{}, nil, nil)
	case fleet.VerbRedeploy:
		first, err := o.first(ctx, state)
		if err != nil {
			return fleet.Operation{}, err
		}
		return o.begin(ctx, actor, w, verb, fleet.Params{First: first}, nil, nil)
	case fleet.VerbStart:
		return o.begin(ctx, actor, w, verb, fleet.Params{Replicas: w.Replicas}, nil, nil)
	case fleet.VerbScale:
		n, err := strconv.Atoi(strings.TrimSpace(form["replicas"]))
		if err != nil || n < 1 || n > fleet.MaxReplicas {
			return fleet.Operation{}, fleet.Problems{"replicas": fmt.Sprintf("must be a whole number from 1 to %d; Stop brings it to none", fleet.MaxReplicas)}.Err()
		}
		changes := difference{}
		changes.note("replicas", w.Replicas, int32(n))
		return o.begin(ctx, actor, w, verb, fleet.Params{Replicas: int32(n)}, nil, changes)
	case fleet.VerbRollback:
		return o.rollback(ctx, actor, w, form["release"])
	case fleet.VerbDelete:
		if err := confirmed(w, form); err != nil {
			return fleet.Operation{}, err
		}
		if err := o.unasked(ctx, w, form); err != nil {
			return fleet.Operation{}, err
		}
		return o.begin(ctx, actor, w, verb, fleet.Params{KeepVolumes: form["keep_volumes"] != ""}, nil, nil)
	case fleet.VerbForget:
		if err := confirmed(w, form); err != nil {
			return fleet.Operation{}, err
		}
		return o.forget(ctx, actor, w)
	default:
		return fleet.Operation{}, fleet.NotFound("There is no such action.")
	}
}

// rollback makes a new release from an earlier one that has been up. As with
// kubectl rollout undo, the replica count stays: what has been scaled since then
// was scaled for a reason.
func (o *Operator) rollback(ctx context.Context, actor fleet.Actor, w fleet.Workload, number string) (fleet.Operation, error) {
	n, err := releaseNumber(number)
	if err != nil || n < 1 {
		return fleet.Operation{}, fleet.Problems{"release": "choose the release to go back to"}.Err()
	}
	from, err := o.Store.Release(ctx, w.ID, n)
	if fleet.CodeOf(err) == fleet.CodeNotFound {
		return fleet.Operation{}, fleet.Problems{"release": fmt.Sprintf("there is no release %d", n)}.Err()
	}
	if err != nil {
		return fleet.Operation{}, err
	}
	switch {
	case !from.Succeeded:
		return fleet.Operation{}, fleet.Conflict("Release %d never came up, so %s cannot go back to it.", n, w.Name)
	case n == w.Release:
		return fleet.Operation{}, fleet.Conflict("Release %d is the present one.", n)
	}
	values, err := o.openSecrets(from)
	if err != nil {
		return fleet.Operation{}, err
	}
	spec := from.Spec
	spec.Replicas = w.Replicas
	release := draftRelease{Release: fleet.Release{WorkloadID: w.ID, Spec: spec, From: n, CreatedBy: actor.Email}}
	if err := o.sealSecrets(&release, values); err != nil {
		return fleet.Operation{}, err
	}
	changes := difference{}
	changes.note("release", w.Release, fmt.Sprintf("that of %d again", n))
	return o.begin(ctx, actor, w, fleet.VerbRollback, fleet.Params{FromRelease: n}, &release, changes)
}

// forget removes the workload's row and touches no cluster.
func (o *Operator) forget(ctx context.Context, actor fleet.Actor, w fleet.Workload) (fleet.Operation, error) {
	if !actor.Role.Includes(fleet.VerbForget.Role()) {
		return fleet.Operation{}, &fleet.Error{Code: fleet.CodeForbidden, Message: "Only admins may forget a workload."}
	}
	op := newOperation(actor, w, fleet.VerbForget, fleet.Params{})
	op.State, op.StartedAt, op.FinishedAt = fleet.OperationSucceeded, op.CreatedAt, op.CreatedAt
	return o.Store.Begin(ctx, fleet.Begin{Workload: w, Operation: op, Audit: audit(actor, fleet.VerbForget, w)})
}

// Cancel asks the holder of an operation to end it at the next safe point.
func (o *Operator) Cancel(ctx context.Context, actor fleet.Actor, operationID string) error {
	const action = "operation.cancel"
	target := "operation/" + operationID
	if err := o.Store.RequestCancel(ctx, operationID, fleet.AuditEntry{
		At: time.Now(), Actor: actor.Email, Address: actor.Address, Action: action, Target: target, Outcome: "ok",
	}); err != nil {
		return o.refused(ctx, actor, action, target, err)
	}
	return nil
}

// Situation gathers what decides which verbs the workload's page offers.
func (o *Operator) Situation(ctx context.Context, state fleet.WorkloadState) (fleet.Situation, error) {
	w := state.Workload
	target, err := o.Store.ClusterStatus(ctx, w.ClusterID)
	if err != nil {
		return fleet.Situation{}, err
	}
	unreachable, err := o.Store.Unreachable(ctx, w.ClusterID, w.Namespace)
	if err != nil {
		return fleet.Situation{}, err
	}
	s := fleet.Situation{Target: target, Reachable: !unreachable.At(time.Now()), Workload: w}
	if state.Operation != nil && !state.Operation.State.Finished() {
		s.Unfinished = state.Operation
	}
	return s, nil
}

func (o *Operator) allowed(ctx context.Context, id string, verb fleet.Verb) (fleet.WorkloadState, error) {
	state, err := o.Store.Workload(ctx, id)
	if err != nil {
		return state, err
	}
	situation, err := o.Situation(ctx, state)
	if err != nil {
		return state, err
	}
	return state, situation.Allows(verb)
}

// unasked refuses to delete volumes that the form has not asked about: its page may
// be older than they are. The field volumes says which it has; without it all are
// taken to be meant.
func (o *Operator) unasked(ctx context.Context, w fleet.Workload, form fleet.WorkloadForm) error {
	asked, says := form["volumes"]
	if !says || form["keep_volumes"] != "" {
		return nil
	}
	names, err := o.Store.VolumeNames(ctx, w.ID)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(strings.Fields(asked), w.Name+"-"+name) {
			return fleet.Problems{"keep_volumes": fmt.Sprintf("%s-%s was not among the volumes that you were asked about: say again whether to keep them", w.Name, name)}.Err()
		}
	}
	return nil
}

func confirmed(w fleet.Workload, form fleet.WorkloadForm) error {
	if strings.TrimSpace(form["confirm"]) != w.Name {
		return fleet.Problems{"confirm": fmt.Sprintf("type the name %s to confirm", w.Name)}.Err()
	}
	return nil
}
