package adapter

import (
	"testing"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// What a rollout waits for is told by what the cluster has, not by how many pods
// are too many: a Deployment's old ones serve until new ones can.
func TestARolloutSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind                                  fleet.WorkloadKind
		desired, replicas, updated, available int32
		want                                  string
	}{
		{fleet.KindDeployment, 2, 2, 2, 0, "0 of 2 available"},
		{fleet.KindDeployment, 2, 3, 1, 2, "1 of 2 updated"},
		{fleet.KindDeployment, 1, 2, 1, 1, "1 of 2 pods available, 1 old one is still there"},
		{fleet.KindDeployment, 3, 6, 3, 4, "4 of 6 pods available, 3 old ones are still there"},
		{fleet.KindDeployment, 1, 2, 1, 2, "1 old pod is ending"},
		{fleet.KindDeployment, 3, 5, 5, 4, "2 old pods are ending"},
		{fleet.KindStatefulSet, 1, 3, 1, 1, "2 old pods are ending"},
	} {
		j := &job{StepRequest: fleet.StepRequest{Workload: fleet.Workload{Kind: c.kind}}}
		var controller live.Controller
		controller.Spec.Replicas = &c.desired
		controller.Status.Replicas, controller.Status.UpdatedReplicas, controller.Status.AvailableReplicas = c.replicas, c.updated, c.available
		if got := j.progress(&controller); got != c.want {
			t.Errorf("of %+v it says %q", c, got)
		}
	}
}
