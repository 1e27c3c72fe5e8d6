package adapter

import (
	"context"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// replicas sets spec.replicas and nothing else: to 0 for a stop, which keeps
// the count in an annotation; back to that count for a start; to what was
// asked for, for a scale.
func (j *job) replicas(ctx context.Context) error {
	for range 10 {
		c, err := j.controller(ctx)
		if err != nil {
			return err
		}
		switch j.Operation.Verb {
		case fleet.VerbStop:
			err = j.stop(ctx, c)
		case fleet.VerbStart:
			err = j.start(ctx, c)
		default:
			err = j.scale(ctx, c)
		}
		if !apierrors.IsConflict(err) {
			return refusal(err, "patch", named(j.kind(), c.Name))
		}
	}
	return fmt.Errorf("patch %s: %w", named(j.kind(), j.Workload.Name), errMoved)
}

// controller reads the workload's Deployment or StatefulSet; it must be there
// and be ours.
func (j *job) controller(ctx context.Context) (*live.Controller, error) {
	var c live.Controller
	object := named(j.kind(), j.Workload.Name)
	err := live.Get(ctx, j.api, j.kind(), j.Workload.Namespace, j.Workload.Name, &c)
	switch {
	case apierrors.IsNotFound(err):
		return nil, &fleet.Failure{
			Reason: reasonNotFound, Object: object,
			Message: fmt.Sprintf("%s is not in namespace %s.", object, j.Workload.Namespace),
			Remedy:  "Redeploy makes the workload's objects anew.",
		}
	case err != nil:
		return nil, refusal(err, "read", object)
	case !c.Ours(j.Installation, j.Workload.ID):
		return nil, conflict(object, j.Workload.Namespace)
	}
	return &c, nil
}

// stop sets 0 and notes the count it found in one change. Done again after a
// crash it finds 0 and the note, and changes nothing.
func (j *job) stop(ctx context.Context, c *live.Controller) error {
	before := j.countBeforeStop(c)
	if found := c.Desired(); found > 0 {
		before = found
		err := j.patchReplicas(ctx, c, 0, strconv.Itoa(int(found)))
		if err != nil {
			return err
		}
		j.event(fleet.EventNormal, "", named(j.kind(), c.Name), "%s scaled from %d to 0", named(j.kind(), c.Name), found)
	}
	j.result.Replicas = &before
	j.done("scaled to 0; start will restore %d", before)
	return nil
}

// start sets the count that the operation names, which an edit during the stop
// may have changed, or else the one from before the stop.
func (j *job) start(ctx context.Context, c *live.Controller) error {
	want := j.Operation.Params.Replicas
	if want < 1 {
		want = j.countBeforeStop(c)
	}
	if c.Desired() > 0 {
		j.done("already at %d", c.Desired()) // started by hand, or by this step before a crash
		return nil
	}
	if err := j.patchReplicas(ctx, c, want, nil); err != nil {
		return err
	}
	j.event(fleet.EventNormal, "", named(j.kind(), c.Name), "%s scaled from 0 to %d", named(j.kind(), c.Name), want)
	j.done("scaled to %d", want)
	return nil
}

// countBeforeStop is the count that the cluster notes, else the one known of
// the workload.
func (j *job) countBeforeStop(c *live.Controller) int32 {
	if n, err := strconv.ParseInt(c.Annotations.ReplicasBeforeStop, 10, 32); err == nil && n > 0 {
		return int32(n)
	}
	return max(1, j.Workload.Replicas)
}

func (j *job) scale(ctx context.Context, c *live.Controller) error {
	want := j.Operation.Params.Replicas
	owner, err := j.autoscaler(ctx)
	if err != nil {
		return err
	}
	if owner != "" {
		j.event(fleet.EventWarning, "Autoscaled", owner, "%s owns the replica count; it stays at %d", owner, c.Desired())
		j.result.Skipped = true
		j.done("left at %d: %s decides", c.Desired(), owner)
		return nil
	}
	if found := c.Desired(); found != want {
		if err := j.patchReplicas(ctx, c, want, nil); err != nil {
			return err
		}
		j.event(fleet.EventNormal, "", named(j.kind(), c.Name), "%s scaled from %d to %d", named(j.kind(), c.Name), found, want)
	}
	j.warnOfSharing(want)
	j.done("scaled to %d", want)
	return nil
}

// patchReplicas sets the count and the note of the count before a stop; nil
// removes the note.
func (j *job) patchReplicas(ctx context.Context, c *live.Controller, replicas int32, note any) error {
	return j.mergePatch(ctx, j.kind(), c.Name, &c.Meta, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{live.AnnotationReplicasBeforeStop: note}},
		"spec":     map[string]any{"replicas": replicas},
	})
}

// autoscaler returns the Kind/name of the HorizontalPodAutoscaler that owns
// the workload's replica count, or "".
func (j *job) autoscaler(ctx context.Context) (string, error) {
	type autoscaler struct {
		live.Meta `json:"metadata"`
		Spec      struct {
			Target struct {
				Kind string `json:"kind"`
				Name string `json:"name"`
			} `json:"scaleTargetRef"`
		} `json:"spec"`
	}
	list, _, err := live.List[autoscaler](ctx, j.api, live.Autoscalers, j.Workload.Namespace, live.Query{})
	if err != nil {
		return "", refusal(err, "list", "HorizontalPodAutoscalers")
	}
	for _, h := range list {
		if h.Spec.Target.Kind == string(j.Workload.Kind) && h.Spec.Target.Name == j.Workload.Name {
			return named(live.Autoscalers, h.Name), nil
		}
	}
	return "", nil
}
