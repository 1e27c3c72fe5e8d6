package adapter

import (
	"context"
	"fmt"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// rollout waits until the workload is what its spec says: the newest
// generation observed; updated, available and desired replicas equal; none
// left over; its Service there. It fails as soon as what is in the way cannot
// mend itself, or at its deadline, naming the cause.
func (j *job) rollout(ctx context.Context) error {
	var waits *live.Sight
	err := j.follow(ctx, func(s live.Sight) (bool, error) {
		c := s.Controller
		waits = nil
		if c == nil {
			_, err := j.controller(ctx)
			return false, err
		}
		if c.RolledOut() {
			if len(j.Spec.Ports) > 0 && s.Service == nil {
				return false, &fleet.Failure{
					Reason: reasonNotFound, Object: named(live.Services, j.Workload.Name),
					Message: fmt.Sprintf("%s is missing: its pods run, but nothing leads to them.", named(live.Services, j.Workload.Name)),
					Remedy:  "Redeploy makes the workload's objects anew.",
				}
			}
			if err := j.tidy(ctx); err != nil {
				return false, err
			}
			j.done("%d of %d available", c.Status.AvailableReplicas, c.Desired())
			return true, nil
		}
		waits = &s
		if c.Status.ObservedGeneration < c.Generation {
			return false, j.late(ctx, s)
		}
		if failure := j.cause(ctx, s); failure != nil {
			return false, failure
		}
		return false, j.late(ctx, s)
	})
	if err == nil && waits != nil {
		j.result.Message = j.waiting(ctx, *waits)
	}
	return err
}

// waiting says how far a rollout is, and what is in its way now. That may pass
// by itself, or be what it fails with when it has lasted.
func (j *job) waiting(ctx context.Context, s live.Sight) string {
	text := j.progress(s.Controller)
	// Which pods are of the newest spec is not known before it is observed, and the
	// troubles of the others are what the rollout may be about to cure.
	hinders := func(t *live.Trouble) bool { return t != nil && t.Pod != nil && t.Hinders() }
	if s.Controller.Status.ObservedGeneration < s.Controller.Generation || !hinders(s.Trouble(nil)) {
		return text
	}
	if t := s.Trouble(j.notNewest(ctx, s)); hinders(t) {
		text += ". " + t.Message
	}
	return text
}

// tidy removes what only the release before needed, once no pod of it is left:
// those that serve while the new ones begin may have to start again. What a
// cancel leaves of it is removed by the next update.
func (j *job) tidy(ctx context.Context) error {
	switch j.Operation.Verb {
	case fleet.VerbUpdate, fleet.VerbRollback, fleet.VerbRedeploy:
		return j.prune(ctx, j.blueprint())
	default:
		return nil
	}
}

func (j *job) progress(c *live.Controller) string {
	desired := c.Desired()
	switch {
	case c.Status.ObservedGeneration < c.Generation:
		return "waiting for the cluster to take it up"
	case c.Status.UpdatedReplicas < desired:
		return fmt.Sprintf("%d of %d updated", c.Status.UpdatedReplicas, desired)
	case j.kind() == live.Deployments && c.Status.UpdatedReplicas == desired && c.Status.Replicas > desired && c.Status.AvailableReplicas < c.Status.Replicas:
		// A Deployment keeps old pods until new ones can take their place.
		return fmt.Sprintf("%d of %d pods available, %s", c.Status.AvailableReplicas, c.Status.Replicas,
			fleet.Counted(int(c.Status.Replicas-desired), "old one is still there", "old ones are still there"))
	case c.Status.Replicas > desired:
		return fleet.Counted(int(c.Status.Replicas-desired), "old pod is ending", "old pods are ending")
	default:
		return fmt.Sprintf("%d of %d available", c.Status.AvailableReplicas, desired)
	}
}

// late fails the step when its deadline has passed.
func (j *job) late(ctx context.Context, s live.Sight) error {
	if j.now().Sub(j.Step.StartedAt) < j.opts.RolloutDeadline || j.Resumed(j.now()) {
		return nil
	}
	failure := &fleet.Failure{
		Reason: fleet.ReasonDeadline, Object: named(j.kind(), j.Workload.Name),
		Message: fmt.Sprintf("%s was not rolled out within %s: %s.", named(j.kind(), j.Workload.Name), j.opts.RolloutDeadline, j.progress(s.Controller)),
		Remedy:  "Look at its events and logs, edit the workload, and try again.",
	}
	if t := s.Trouble(j.notNewest(ctx, s)); t != nil {
		failure.Reason = t.Reason
		failure.Message += " " + t.Message
		j.evidence(ctx, failure, t)
	}
	return failure
}
