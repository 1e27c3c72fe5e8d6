package adapter

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

func claim(workload, volume string) string { return workload + "-" + volume }

// claims returns the PersistentVolumeClaims.
func (b *blueprint) claims() []object {
	var out []object
	for _, v := range b.spec.Volumes {
		name := claim(b.name(), v.Name)
		size, keeps := b.keptSizes[name]
		if !keeps {
			size = quantity(v.Size)
		}
		spec := coreapply.PersistentVolumeClaimSpec().WithAccessModes(corev1.ReadWriteOnce).
			WithResources(coreapply.VolumeResourceRequirements().WithRequests(corev1.ResourceList{corev1.ResourceStorage: size}))
		if v.StorageClass != "" {
			spec.WithStorageClassName(v.StorageClass)
		}
		out = append(out, b.object(live.Claims, name, coreapply.PersistentVolumeClaim(name, b.workload.Namespace).
			WithLabels(b.labels()).WithAnnotations(b.release()).WithSpec(spec)))
	}
	return out
}

// leaveClaims lets go of the claims that a delete keeps, when all else is gone:
// until then the workload may go on, and they are its own.
func (j *job) leaveClaims(ctx context.Context) error {
	if j.Operation.Verb != fleet.VerbDelete || !j.keepsClaims() {
		return nil
	}
	claims, err := j.owned(ctx, []live.Resource{live.Claims})
	if err != nil {
		return err
	}
	for _, f := range claims {
		if err := j.keep(ctx, &f.Meta); err != nil {
			return err
		}
	}
	return nil
}

// keep marks a claim whose workload is deleted without it: it is nobody's now, and
// the next workload of that name may take it up.
func (j *job) keep(ctx context.Context, seen *live.Meta) error {
	object := named(live.Claims, seen.Name)
	for range 10 {
		err := j.mergePatch(ctx, live.Claims, seen.Name, seen, map[string]any{"metadata": map[string]any{
			"labels":      map[string]any{live.LabelWorkload: nil},
			"annotations": map[string]any{live.AnnotationKept: j.Workload.Name},
		}})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsConflict(err) {
			return refusal(err, "patch", object)
		}
		there, err := j.look(ctx, live.Claims, seen.Name, metadataOnly)
		if err != nil || there == nil || there.UID != seen.UID || !there.Ours(j.Installation, j.Workload.ID) {
			return err
		}
		seen = &there.Meta
	}
	return fmt.Errorf("patch %s: %w", object, errMoved)
}

// kept reports whether an object is a claim that the deletion of an earlier
// workload of this name left, here and by this installation. The name of the claim
// alone would not tell: app-a with the volume b has the same one as app with a-b.
func (j *job) kept(r live.Resource, m *live.Meta) bool {
	return r == live.Claims && m.Labels.ManagedBy == live.Manager && m.Labels.Installation == j.Installation &&
		m.Labels.Workload == "" && m.Annotations.Kept == j.Workload.Name
}

// takenUp says that a kept claim is used again.
func takenUp(object, workload string) string {
	return fmt.Sprintf("%s was kept when an earlier workload %s was deleted, and is used again with what it holds", object, workload)
}

// warnOfSharing says what several pods with the same volumes mean. It may be
// wanted, where there is one node or they only read.
func (j *job) warnOfSharing(replicas int32) {
	if text := j.Spec.Sharing(replicas); text != "" {
		j.event(fleet.EventWarning, "SharedVolume", named(j.kind(), j.Workload.Name), "%s", text)
	}
}

// applyClaims applies the claims. One that asks for more than the release, as
// after a rollback over a volume that has grown, keeps its size: no volume can
// be made smaller.
func (j *job) applyClaims(ctx context.Context, b *blueprint, seen *survey) error {
	var kept []fleet.Event
	for _, v := range b.spec.Volumes {
		name := claim(b.name(), v.Name)
		there := seen.at(live.Claims, name)
		if there == nil {
			continue
		}
		if object := named(live.Claims, name); j.kept(live.Claims, &there.Meta) {
			kept = append(kept, fleet.Event{
				At: j.now(), Type: fleet.EventWarning, Step: j.Step.Name, Reason: "VolumeUsedAgain", Object: object, Message: takenUp(object, b.name()),
			})
		}
		size, keeps, err := keptSize(there, quantity(v.Size))
		if err != nil {
			return err
		}
		if keeps {
			b.keptSizes[name] = size
			object := named(live.Claims, name)
			kept = append(kept, fleet.Event{
				At: j.now(), Type: fleet.EventWarning, Step: j.Step.Name, Reason: "VolumeKeepsSize", Object: object,
				Message: fmt.Sprintf("%s stays at %s, because a volume cannot be made smaller; this release asks for %s", object, size.String(), v.Size),
			})
		}
	}
	if err := j.applyAll(ctx, seen, b.claims()); err != nil {
		return err
	}
	j.result.Events = append(j.result.Events, kept...)
	return nil
}

// keptSize returns what a claim asks for, if it cannot be asked for less. Down
// to more than the volume has it can, which mends a growth that failed; see
// https://kubernetes.io/docs/concepts/storage/persistent-volumes/#recovering-from-failure-when-expanding-volumes
func keptSize(there *present, wanted resource.Quantity) (size resource.Quantity, keeps bool, err error) {
	var c struct {
		Spec   corev1.PersistentVolumeClaimSpec   `json:"spec"`
		Status corev1.PersistentVolumeClaimStatus `json:"status"`
	}
	if err := json.Unmarshal(there.raw, &c); err != nil {
		return size, false, fmt.Errorf("read a claim: %w", err)
	}
	size = c.Spec.Resources.Requests[corev1.ResourceStorage]
	has, bound := c.Status.Capacity[corev1.ResourceStorage]
	return size, wanted.Cmp(size) < 0 && (!bound || wanted.Cmp(has) <= 0), nil
}
