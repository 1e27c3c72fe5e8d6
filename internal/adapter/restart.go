package adapter

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// restart sets the pod template's restart annotation, as kubectl does, and
// touches nothing else. The value is the time at which the restart was asked
// for, so that doing it again after a crash restarts nothing twice.
func (j *job) restart(ctx context.Context) error {
	object := named(j.kind(), j.Workload.Name)
	for range 10 {
		c, err := j.controller(ctx)
		if err != nil {
			return err
		}
		err = j.mergePatch(ctx, j.kind(), c.Name, &c.Meta, map[string]any{"spec": map[string]any{"template": map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{
				live.AnnotationRestartedAt: j.Operation.CreatedAt.UTC().Format(time.RFC3339Nano),
			}},
		}}})
		if apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			return refusal(err, "patch", object)
		}
		j.event(fleet.EventNormal, "", object, "%s asked to replace its pods", object)
		j.done("pods are being replaced")
		return nil
	}
	return fmt.Errorf("patch %s: %w", object, errMoved)
}
