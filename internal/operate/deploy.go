package operate

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

// Deploy begins a new workload from the deploy form. A target that is none is
// CodeConflict, no target at all CodeUnavailable, wrong fields CodeInvalid.
func (o *Operator) Deploy(ctx context.Context, actor fleet.Actor, form fleet.WorkloadForm) (fleet.Operation, error) {
	r, err := o.draft(ctx, form)
	if err != nil {
		return fleet.Operation{}, o.refused(ctx, actor, action(fleet.VerbDeploy), form["target"], err)
	}
	r.Workload.CreatedBy = actor.Email
	release := draftRelease{Release: fleet.Release{WorkloadID: r.Workload.ID, Spec: r.Spec, CreatedBy: actor.Email}}
	if err := o.sealSecrets(&release, r.Secrets); err != nil {
		return fleet.Operation{}, o.refused(ctx, actor, action(fleet.VerbDeploy), form["target"], err)
	}
	op, err := o.begin(ctx, actor, r.Workload, fleet.VerbDeploy, fleet.Params{}, &release, nil)
	if err != nil {
		return op, o.refused(ctx, actor, action(fleet.VerbDeploy), form["target"], err)
	}
	return op, nil
}

// Preview asks the target's API server, without changing anything, what a
// deploy of the form would make.
func (o *Operator) Preview(ctx context.Context, _ fleet.Actor, form fleet.WorkloadForm) ([]fleet.ObjectPreview, error) {
	r, err := o.draft(ctx, form)
	if err != nil {
		return nil, err
	}
	if r.Installation, err = o.Store.Installation(ctx); err != nil {
		return nil, err
	}
	return o.Adapter.Preview(ctx, r)
}

// draft turns a deploy form into the step request of a new workload.
func (o *Operator) draft(ctx context.Context, form fleet.WorkloadForm) (fleet.StepRequest, error) {
	target, err := o.target(ctx, form["target"])
	if err != nil {
		return fleet.StepRequest{}, err
	}
	runtime, ok := fleet.RuntimeByID(form["runtime"])
	if !ok {
		return fleet.StepRequest{}, fleet.Problems{"runtime": "choose one of the runtimes"}.Err()
	}
	name, spec, secrets, err := form.Parse(runtime)
	if err != nil {
		return fleet.StepRequest{}, err
	}
	cluster := target.Cluster
	w := fleet.Workload{
		ID: newID(), Name: name, ClusterID: cluster.ID, Namespace: cluster.NamespaceFor(runtime.ID),
		Runtime: runtime.ID, Kind: spec.Kind, Release: 1, Replicas: spec.Replicas,
	}
	unreachable, err := o.Store.Unreachable(ctx, w.ClusterID, w.Namespace)
	if err != nil {
		return fleet.StepRequest{}, err
	}
	// A watch that was never heard may wait for what this deploy brings, such as the
	// namespace.
	if !unreachable.Since.IsZero() && unreachable.At(time.Now()) {
		e := fleet.Unavailable("The cluster %s cannot be reached now, and deploy requires Kubernetes. What watches it says: %s", cluster.Label, unreachable.Error)
		e.Remedy = "Choose another target, or try again once it answers: Portolan goes on trying by itself."
		e.Problems = fleet.Problems{"target": "cannot be reached now"}
		return fleet.StepRequest{}, e
	}
	return fleet.StepRequest{Cluster: cluster, Workload: w, Spec: spec, Secrets: secrets}, nil
}

func (o *Operator) target(ctx context.Context, name string) (fleet.Status, error) {
	id, ok := fleet.ParseTarget(name)
	var err error
	if ok {
		var status fleet.Status
		status, err = o.Targets.CheckTarget(ctx, id)
		if err == nil || fleet.CodeOf(err) != fleet.CodeNotFound {
			return status, err
		}
	}
	offered, anyErr := o.Targets.AnyTarget(ctx)
	if anyErr != nil {
		return fleet.Status{}, anyErr
	}
	if !offered {
		e := fleet.Unavailable("There is no execution target: deploy requires Kubernetes.")
		e.Remedy = "An admin registers a cluster; it becomes a target when its connection test has passed."
		return fleet.Status{}, e
	}
	return fleet.Status{}, fleet.Problems{"target": "choose one of the targets"}.Err()
}
