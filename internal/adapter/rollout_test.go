package adapter

import (
	"testing"

	"portolan/internal/kube/live"
)

// What a rollout waits for is told by what the cluster has, not by how many pods
// are too many: an old one serves until a new one can.
func TestARolloutSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct{ desired, replicas, updated, available int32 }{
		"0 of 2 available":                          {2, 2, 2, 0},
		"1 of 2 updated":                            {2, 3, 1, 2},
		"0 of 1 new pods available, and 1 old pod":  {1, 2, 1, 1},
		"1 of 3 new pods available, and 3 old pods": {3, 6, 3, 4},
		"1 old pod is ending":                       {1, 2, 1, 2},
		"2 old pods are ending":                     {3, 5, 3, 5},
	} {
		var controller live.Controller
		controller.Spec.Replicas = &c.desired
		controller.Status.Replicas, controller.Status.UpdatedReplicas, controller.Status.AvailableReplicas = c.replicas, c.updated, c.available
		if got := progress(&controller); got != want {
			t.Errorf("of %+v it says %q, want %q", c, got, want)
		}
	}
}
