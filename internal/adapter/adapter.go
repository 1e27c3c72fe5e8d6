// Package adapter is the one piece of code that turns a workload into
// Kubernetes objects and drives them. It is the same for every provider: where
// clusters differ, their configuration says so.
//
// Every step can be done again after a crash at any instruction and ends in
// the same state. Objects that are not this workload's are never changed,
// whatever they are called.
package adapter

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/live"
)

// Clients makes the client of a cluster; *kube.Clients does.
type Clients interface {
	Get(ctx context.Context, cluster *fleet.Cluster) (*kube.Client, error)
}

// Options are the bounds of the waits; a zero field takes its default.
type Options struct {
	RolloutDeadline      time.Duration // from the rollout step's start; 10 min
	UnschedulableAfter   time.Duration // how long no node may take a pod, as an autoscaler may bring one; 3 min
	ImagePullAfter       time.Duration // how long an image may fail to be pulled; 25 s
	BlockedAfter         time.Duration // how long a container may be refused by its node for its configuration; 15 s
	CrashLoopRestarts    int32         // after how many restarts a crash loop is one; 3
	LogQueueBytes        int           // what a slow viewer of logs may be behind, where there are not many; 16 MiB
	LogHistoryBytes      int           // what a viewer's earlier lines may take while they are put in order, where not many ask at once; 32 MiB
	LogReconnectInterval time.Duration // the longest wait before a broken log is read again; 3 s
	LogRotationInterval  time.Duration // how often to look whether a followed log was rotated; 10 s, as kubelets do
	// Present returns a cluster as it is now, for logs that outlive the
	// credential they were opened with; nil: they keep to that one.
	Present func(ctx context.Context, clusterID string) (fleet.Cluster, error)
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
	}
	set(&o.RolloutDeadline, fleet.RolloutDeadline)
	set(&o.UnschedulableAfter, 3*time.Minute)
	set(&o.ImagePullAfter, 25*time.Second)
	set(&o.BlockedAfter, 15*time.Second)
	set(&o.LogReconnectInterval, 3*time.Second)
	set(&o.LogRotationInterval, 10*time.Second)
	if o.CrashLoopRestarts == 0 {
		o.CrashLoopRestarts = 3
	}
	if o.LogQueueBytes == 0 {
		o.LogQueueBytes = 16 << 20
	}
	if o.LogHistoryBytes == 0 {
		o.LogHistoryBytes = 32 << 20
	}
	return o
}

// Adapter drives workloads on any registered cluster. It is safe for use by
// several goroutines and keeps no state but the logs that are being watched.
type Adapter struct {
	clients Clients
	opts    Options
	now     func() time.Time
	hub     *hub

	queues, histories room // of all viewers of logs together
}

// New returns an Adapter that speaks through clients.
func New(clients Clients, opts Options) *Adapter {
	opts = opts.withDefaults()
	return &Adapter{
		clients: clients, opts: opts, now: time.Now, hub: &hub{feeds: map[feedKey]*feed{}},
		// An earlier line is held for a moment only, unless its viewer is slow.
		queues: room{left: 16 * opts.LogQueueBytes}, histories: room{left: 8 * opts.LogHistoryBytes},
	}
}

// renewal returns what gives the API of the cluster's present credential, or
// nil where that cannot be told.
func (a *Adapter) renewal(clusterID string) func(context.Context) *live.API {
	return func(ctx context.Context) *live.API {
		if a.opts.Present == nil {
			return nil
		}
		cluster, err := a.opts.Present(ctx, clusterID)
		if err != nil {
			return nil
		}
		client, err := a.clients.Get(ctx, &cluster)
		if err != nil {
			return nil
		}
		return client.API
	}
}

// Do works at a step for at most slice, or a little longer where a request is
// under way. An error that is or wraps a *fleet.Failure ends the operation;
// any other is worth a later try.
func (a *Adapter) Do(ctx context.Context, r fleet.StepRequest, slice time.Duration) (fleet.StepResult, error) {
	client, err := a.clients.Get(ctx, &r.Cluster)
	if err != nil {
		return fleet.StepResult{}, err
	}
	j := &job{StepRequest: r, api: client.API, opts: a.opts, now: a.now, later: new(errgroup.Group)}
	if r.Step.StartedAt.IsZero() {
		j.Step.StartedAt = a.now()
	}
	ctx, cancel := context.WithTimeout(ctx, max(slice, time.Second)+requestTime)
	defer cancel()
	j.until = a.now().Add(slice)
	if err := j.recognise(ctx, client); err != nil {
		return j.result, err
	}

	switch r.Step.Name {
	case fleet.StepNamespace:
		err = j.namespace(ctx)
	case fleet.StepObjects:
		err = j.objects(ctx)
	case fleet.StepReplicas:
		err = j.replicas(ctx)
	case fleet.StepRestart:
		err = j.restart(ctx)
	case fleet.StepRemove:
		err = j.remove(ctx)
	case fleet.StepGone:
		err = j.gone(ctx)
	case fleet.StepRollout:
		err = j.rollout(ctx)
	case fleet.StepAddress:
		err = j.address(ctx)
	default:
		err = &fleet.Failure{Reason: fleet.ReasonInternal, Message: fmt.Sprintf("There is no step %q.", r.Step.Name)}
	}
	if late := j.later.Wait(); err == nil {
		err = late
	}
	secrets := conceal(r.Secrets)
	if r.Secrets == nil && len(r.Spec.SecretEnv) > 0 {
		err = withoutLogs(err)
	}
	return secrets.result(j.result), secrets.error(err)
}

// recognise fails when the credential leads to another cluster than the one
// that was tested, or may do so. A deletion there would find nothing and take that
// for done.
func (j *job) recognise(ctx context.Context, client *kube.Client) error {
	object := "Namespace/" + j.Pinned.Namespace
	same, err := client.Is(ctx, j.Pinned)
	if err != nil || same {
		return refusal(err, "read", object)
	}
	return &fleet.Failure{
		Reason: fleet.ReasonAnotherCluster, Object: object,
		Message: "The credential leads to another cluster than before, or to a server where it cannot be recognised by " + object + ". Nothing was done.",
		Remedy:  "Test the cluster: its page says which, and what to do.",
	}
}

// requestTime is how long a request that began within the slice may take
// beyond it.
const requestTime = 30 * time.Second

// job is one slice of one step.
type job struct {
	fleet.StepRequest
	api    *live.API
	opts   Options
	now    func() time.Time
	until  time.Time       // end of the slice
	later  *errgroup.Group // what must be done within the step, but nothing waits for
	result fleet.StepResult
}

// wait returns a context that ends with the slice.
func (j *job) wait(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, j.until)
}

func (j *job) event(kind fleet.EventType, reason, object, format string, args ...any) {
	j.result.Events = append(j.result.Events, fleet.Event{
		At: j.now(), Type: kind, Step: j.Step.Name, Reason: reason, Object: object, Message: fmt.Sprintf(format, args...),
	})
}

// done ends the step well.
func (j *job) done(format string, args ...any) {
	j.result.Done, j.result.Message = true, fmt.Sprintf(format, args...)
}

func (j *job) selector() string { return live.SelectWorkload(j.Installation, j.Workload.ID) }

// kind is the resource that holds the workload's pods.
func (j *job) kind() live.Resource { return kindOf(j.Workload.Kind) }

func kindOf(kind fleet.WorkloadKind) live.Resource {
	if kind == fleet.KindStatefulSet {
		return live.StatefulSets
	}
	return live.Deployments
}

func named(r live.Resource, name string) string { return r.Kind + "/" + name }
