package adapter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// address waits until a load balancer has given the Service an address, for as
// long as the cluster allows since the step began, however many processes have
// waited, and a little longer where it was taken up again late. Any other Service has all it needs.
func (j *job) address(ctx context.Context) error {
	for {
		s, _, _, err := sight(ctx, j)
		if err != nil {
			return err
		}
		o := s.Observation(j.Workload.ID, j.Workload.Namespace, j.Cluster.Exposure, j.now())
		j.result.Observation = &o
		if s.Service == nil || s.Service.Spec.Type != "LoadBalancer" || s.Service.Address() != "" {
			j.result.Skipped = s.Service == nil || s.Service.Spec.Type != "LoadBalancer"
			j.done("%s", reachedAt(o.Endpoints))
			return nil
		}
		if err := j.unaddressed(ctx, s.Service); err != nil {
			return err
		}
		j.result.Message = fmt.Sprintf("waiting for the load balancer of %s", named(live.Services, s.Service.Name))
		if err := j.awaitAddress(ctx, s.Service); err != nil {
			return err
		}
		if !j.now().Before(j.until) {
			return nil
		}
	}
}

// unaddressed fails once the cluster's timeout has passed.
func (j *job) unaddressed(ctx context.Context, s *live.Service) error {
	if !j.now().Before(j.addressDeadline()) {
		object := named(live.Services, s.Name)
		failure := &fleet.Failure{
			Reason: reasonAddress, Object: object,
			Message: fmt.Sprintf("%s got no load-balancer address within %s.", object, j.addressTimeout()),
			Remedy:  "Check that the cluster has a load-balancer controller and room in its quota, and the annotations and class of the cluster's exposure.",
		}
		for _, e := range j.eventsOf(ctx, s.UID) {
			failure.Events = append(failure.Events, eventLine(e))
		}
		failure.Events = failure.Events[max(0, len(failure.Events)-evidenceEvents):]
		return failure
	}
	return nil
}

func (j *job) addressTimeout() time.Duration {
	if t := j.Cluster.Exposure.LoadBalancerTimeout; t > 0 {
		return t
	}
	return fleet.DefaultLoadBalancerTimeout
}

func (j *job) addressDeadline() time.Time {
	return later(j.Step.StartedAt.Add(j.addressTimeout()), j.Patience())
}

// awaitAddress returns when the Service has an address or has gone, or the
// slice or the wait for an address is over.
func (j *job) awaitAddress(ctx context.Context, s *live.Service) error {
	end := j.until
	if d := j.addressDeadline(); d.Before(end) {
		end = d
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	err := live.Watch(ctx, j.api, live.Services, j.Workload.Namespace, live.Named(s.Name), s.ResourceVersion,
		func(change live.Change, s *live.Service) error {
			if change == live.Deleted || change != live.Bookmark && s.Address() != "" {
				return errEnough
			}
			return nil
		})
	if err == nil || ctx.Err() != nil || errors.Is(err, errEnough) || errors.Is(err, live.ErrExpired) || apierrors.IsTimeout(err) {
		return nil
	}
	return refusal(err, "watch", named(live.Services, s.Name))
}

func reachedAt(endpoints []fleet.Endpoint) string {
	if len(endpoints) == 0 {
		return "no ports to reach"
	}
	texts := make([]string, len(endpoints))
	for i, e := range endpoints {
		texts[i] = e.Port + " " + e.Text
	}
	return strings.Join(texts, ", ")
}
