package adapter

import (
	"context"

	"portolan/internal/fleet"
)

// Observe reads a workload as it is now. The installation is the one its
// objects are marked with.
func (a *Adapter) Observe(ctx context.Context, cluster *fleet.Cluster, workload *fleet.Workload, installation string) (*fleet.Observation, error) {
	client, err := a.clients.Get(ctx, cluster)
	if err != nil {
		return nil, err
	}
	j := &job{
		StepRequest: fleet.StepRequest{Cluster: *cluster, Workload: *workload, Installation: installation},
		api:         client.API, opts: a.opts, now: a.now,
	}
	s, _, _, err := sight(ctx, j)
	if err != nil {
		return nil, err
	}
	o := s.Observation(workload.ID, workload.Namespace, cluster.Exposure, a.now())
	return &o, nil
}
