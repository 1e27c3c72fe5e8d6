package adapter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// sight reads the workload as it is now.
func sight(ctx context.Context, j *job) (s live.Sight, controllerVersion, podVersion string, err error) {
	s.Kind = j.Workload.Kind
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		list, version, err := live.List[live.Controller](ctx, j.api, j.kind(), j.Workload.Namespace, live.Named(j.Workload.Name))
		if len(list) > 0 {
			s.Controller = &list[0]
		}
		controllerVersion = version
		return refusal(err, "list", j.kind().Plural)
	})
	group.Go(func() (err error) {
		s.Pods, podVersion, err = live.List[live.Pod](ctx, j.api, live.Pods, j.Workload.Namespace, live.Query{Labels: j.selector()})
		return refusal(err, "list", "pods")
	})
	group.Go(func() error {
		var service live.Service
		err := live.Get(ctx, j.api, live.Services, j.Workload.Namespace, j.Workload.Name, &service)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil && service.Ours(j.Installation, j.Workload.ID) {
			s.Service = &service
		}
		return refusal(err, "read", named(live.Services, j.Workload.Name))
	})
	err = group.Wait()
	if s.Controller != nil && !s.Controller.Ours(j.Installation, j.Workload.ID) {
		s.Controller = nil
	}
	return s, controllerVersion, podVersion, err
}

// errEnough ends a watch whose watcher knows all it wanted.
var errEnough = errors.New("seen enough")

// follow shows look every state of the workload until look says that it has
// seen enough, fails, or the slice ends. look is also called each second, for
// judgements that only need time. The last state is kept as the result's
// observation.
func (j *job) follow(ctx context.Context, look func(live.Sight) (enough bool, err error)) error {
	for {
		enough, err := j.followOnce(ctx, look)
		if enough || err != nil || !j.now().Before(j.until) {
			return err
		}
	}
}

type podChange struct {
	change live.Change
	pod    *live.Pod
}

func (j *job) followOnce(ctx context.Context, look func(live.Sight) (bool, error)) (enough bool, err error) {
	s, controllerVersion, podVersion, err := sight(ctx, j)
	if err != nil {
		return false, err
	}
	judge := func() (bool, error) {
		o := s.Observation(j.Workload.ID, j.Workload.Namespace, j.Cluster.Exposure, j.now())
		j.result.Observation = &o
		return look(s)
	}
	if enough, err := judge(); enough || err != nil {
		return enough, err
	}

	watchCtx, cancel := j.wait(ctx)
	defer cancel()
	controllers, pods, ended := make(chan *live.Controller), make(chan podChange), make(chan error, 2)
	go func() {
		ended <- live.Watch(watchCtx, j.api, j.kind(), j.Workload.Namespace, live.Named(j.Workload.Name), controllerVersion,
			func(change live.Change, c *live.Controller) error {
				if change == live.Bookmark {
					return nil
				}
				if change == live.Deleted || !c.Ours(j.Installation, j.Workload.ID) {
					c = nil
				}
				return send(watchCtx, controllers, c)
			})
	}()
	go func() {
		ended <- live.Watch(watchCtx, j.api, live.Pods, j.Workload.Namespace, live.Query{Labels: j.selector()}, podVersion,
			func(change live.Change, p *live.Pod) error {
				if change == live.Bookmark {
					return nil
				}
				return send(watchCtx, pods, podChange{change, p})
			})
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case s.Controller = <-controllers:
		case c := <-pods:
			s.Pods = withPod(s.Pods, c)
		case <-tick.C:
		case err := <-ended:
			switch {
			case watchCtx.Err() != nil && ctx.Err() == nil:
				return false, nil // the slice is over
			case err == nil, errors.Is(err, live.ErrExpired):
				return false, nil // begin with a new list
			default:
				return false, refusal(err, "watch", named(j.kind(), j.Workload.Name))
			}
		}
		if enough, err := judge(); enough || err != nil {
			return enough, err
		}
	}
}

func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// withPod returns pods after a change; the slice given is not changed.
func withPod(pods []live.Pod, c podChange) []live.Pod {
	out := make([]live.Pod, 0, len(pods)+1)
	for _, p := range pods {
		if p.UID != c.pod.UID {
			out = append(out, p)
		}
	}
	if c.change != live.Deleted {
		out = append(out, *c.pod)
	}
	return out
}

// stopped waits until a stopped workload has no pod left but those that are
// over, such as evicted ones: a controller that scales down leaves them.
func (j *job) stopped(ctx context.Context) error {
	return j.follow(ctx, func(s live.Sight) (bool, error) {
		c := s.Controller
		if c == nil {
			_, err := j.controller(ctx)
			return false, err
		}
		if c.Desired() != 0 {
			return false, &fleet.Failure{
				Reason: fleet.ReasonConflict, Object: named(j.kind(), c.Name),
				Message: fmt.Sprintf("%s was scaled to %d while it was being stopped.", named(j.kind(), c.Name), c.Desired()),
				Remedy:  "Find out what scales it, such as an autoscaler or another person, and stop it again.",
			}
		}
		left := 0
		for i := range s.Pods {
			if !s.Pods[i].Over() {
				left++
			}
		}
		if c.Status.ObservedGeneration >= c.Generation && c.Status.Replicas == 0 && c.Status.ReadyReplicas == 0 && left == 0 {
			j.done("no pod is left")
			return true, nil
		}
		j.result.Message = fleet.Counted(max(left, int(c.Status.Replicas)), "pod is ending", "pods are ending")
		return false, nil
	})
}
