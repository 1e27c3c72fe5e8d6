package observe

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// Clients makes the client of a cluster; *kube.Clients does.
type Clients interface {
	Get(ctx context.Context, cluster *fleet.Cluster) (*kube.Client, error)
}

// Options are what an Observer works with; a zero time takes its default.
type Options struct {
	Holder       string // names this process in the leases
	Installation string // whose objects are watched
	Logger       *slog.Logger

	LeaseTime  time.Duration // how long a lease lasts without being renewed; 15 s
	LeaseEvery time.Duration // how often leases are renewed and new namespaces are looked for; 1 s
	ProbeEvery time.Duration // how often a quiet watch is asked for a proof of life; 8 s
	ProbeTime  time.Duration // how long the proof may take; 5 s
	Coalesce   time.Duration // how long changes of one workload are collected; 15 ms
	MaxBackoff time.Duration // the longest wait before a broken watch is tried again; 10 s

	// Wake, when not nil, makes it look for new namespaces at once.
	Wake <-chan struct{}
}

// Observer watches the clusters whose leases it gets.
type Observer struct {
	store   Store
	clients Clients
	opts    Options
}

// New returns an Observer.
func New(store Store, clients Clients, o Options) *Observer {
	set := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
	}
	set(&o.LeaseTime, 15*time.Second)
	set(&o.LeaseEvery, time.Second)
	set(&o.ProbeEvery, 8*time.Second)
	set(&o.ProbeTime, 5*time.Second)
	set(&o.Coalesce, 15*time.Millisecond)
	set(&o.MaxBackoff, 10*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Observer{store: patient{store}, clients: clients, opts: o}
}

// place is one namespace of one cluster.
type place struct{ cluster, namespace string }

// watcher is a running watch of one place.
type watcher struct {
	fingerprint string // of the cluster's configuration that it runs with
	stop        context.CancelFunc
}

// Run holds leases and watches their clusters until ctx ends.
func (o *Observer) Run(ctx context.Context) error {
	var running sync.WaitGroup
	watchers := map[place]watcher{}
	defer func() {
		for _, w := range watchers {
			w.stop()
		}
		running.Wait()
		// At once free for another process, rather than when they expire.
		free, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if err := o.store.ReleaseLeases(free, o.opts.Holder); err != nil {
			o.opts.Logger.WarnContext(ctx, "give leases back", "err", err)
		}
	}()

	ticker := time.NewTicker(o.opts.LeaseEvery)
	defer ticker.Stop()
	heldUntil := time.Now()
	for {
		asked := time.Now()
		assignments, err := o.lease(ctx)
		switch {
		case err == nil:
			heldUntil = asked.Add(o.opts.LeaseTime)
		case ctx.Err() != nil:
			return nil
		default:
			o.opts.Logger.WarnContext(ctx, "renew leases", "err", err)
		}
		if err == nil || time.Now().After(heldUntil) {
			o.adjust(ctx, &running, watchers, assignments)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-o.opts.Wake:
		}
	}
}

// lease returns before the leases that are held end, also when the database is
// silent: another connection may reach it, or another process have them.
func (o *Observer) lease(ctx context.Context) ([]fleet.Assignment, error) {
	ctx, cancel := context.WithTimeout(ctx, o.opts.LeaseTime/2)
	defer cancel()
	return o.store.Lease(ctx, o.opts.Holder, o.opts.LeaseTime)
}

// adjust starts and stops watchers until they are those of the assignments. A
// cluster whose configuration has changed gets new ones.
func (o *Observer) adjust(ctx context.Context, running *sync.WaitGroup, watchers map[place]watcher, assignments []fleet.Assignment) {
	wanted := map[place]fleet.Cluster{}
	for _, a := range assignments {
		for _, namespace := range a.Namespaces {
			wanted[place{a.Cluster.ID, namespace}] = a.Cluster
		}
	}
	for p, w := range watchers {
		if c, ok := wanted[p]; !ok || c.Fingerprint() != w.fingerprint {
			w.stop()
			delete(watchers, p)
		}
	}
	for p, cluster := range wanted {
		if _, ok := watchers[p]; ok {
			continue
		}
		watchCtx, stop := context.WithCancel(ctx)
		watchers[p] = watcher{cluster.Fingerprint(), stop}
		running.Go(func() {
			n := &namespace{Observer: o, cluster: cluster, name: p.namespace}
			n.run(watchCtx)
		})
	}
}

// sameState reports whether two observations tell the same, whenever they were
// made.
func sameState(a, b *fleet.Observation) bool {
	return a.Exists == b.Exists && a.UID == b.UID && a.Generation == b.Generation && a.ObservedGeneration == b.ObservedGeneration &&
		a.Desired == b.Desired && a.Current == b.Current && a.Ready == b.Ready && a.Available == b.Available && a.Updated == b.Updated &&
		a.Release == b.Release && a.Health == b.Health && a.Message == b.Message && a.Reason == b.Reason &&
		a.PodsOmitted == b.PodsOmitted && slices.Equal(a.Conditions, b.Conditions) && slices.Equal(a.Endpoints, b.Endpoints) &&
		slices.EqualFunc(a.Pods, b.Pods, samePod)
}

func samePod(a, b fleet.Pod) bool {
	return a.Name == b.Name && a.UID == b.UID && a.Phase == b.Phase && a.Ready == b.Ready && a.Restarts == b.Restarts &&
		a.Reason == b.Reason && a.Message == b.Message && a.Node == b.Node && a.Deleting == b.Deleting &&
		a.StartedAt.Equal(b.StartedAt) && slices.Equal(a.Containers, b.Containers)
}
