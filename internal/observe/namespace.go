package observe

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/live"
)

// namespace watches our workloads in one namespace of one cluster. It keeps no
// more of the objects than observations need.
type namespace struct {
	*Observer
	cluster fleet.Cluster
	name    string

	workloads   map[string]fleet.Watched // by id
	controllers map[string]*live.Controller
	pods        map[string]map[string]*live.Pod // by workload id, then by UID
	services    map[string]*live.Service
	servicesAt  time.Time                     // when they were last read
	settled     map[string]settledAs          // as they were when their Services were last read
	saved       map[string]*fleet.Observation // as last stored by this watch
	readings    map[string]reading            // the last one of each workload, if there was one
}

// event is one thing that a stream saw.
type event struct {
	change     live.Change
	controller *live.Controller
	pod        *live.Pod
}

// watch lists, stores what it sees, and follows the changes until something
// breaks; errClosed or live.ErrExpired when it only has to begin with a new list.
func (n *namespace) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := n.clients.Get(ctx, &n.cluster)
	if err != nil {
		return err
	}
	if err := n.recognise(ctx, client); err != nil {
		return err
	}
	versions, err := n.list(ctx, client)
	if err != nil {
		return err
	}
	if err := n.saveAll(ctx, client, maps.Keys(n.workloads)); err != nil {
		return err
	}
	if err := n.store.MarkAlive(ctx, n.opts.Holder, n.cluster.ID, n.name, time.Now()); err != nil {
		return err
	}

	events := make(chan event)
	group, streams := errgroup.WithContext(ctx)
	for r, version := range versions {
		group.Go(func() error { return n.stream(streams, client, r, version, events) })
	}
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	return n.follow(ctx, client, events, ended)
}

// recognise fails when the credential leads to another cluster than the one
// that was tested, or may do so: that nothing of ours is there says nothing about
// the workloads.
func (n *namespace) recognise(ctx context.Context, client *kube.Client) error {
	pinned, err := n.store.PinnedIdentity(ctx, n.cluster.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.opts.ProbeTime)
	defer cancel()
	same, err := client.Is(ctx, pinned)
	if err == nil && !same {
		return fleet.Unavailable("Its credential leads to another cluster than before, or to one that cannot be recognised.")
	}
	return err
}

// list reads everything anew and returns the versions to watch from. Only the
// kinds that workloads here have are watched.
func (n *namespace) list(ctx context.Context, client *kube.Client) (map[live.Resource]string, error) {
	n.controllers, n.pods = map[string]*live.Controller{}, map[string]map[string]*live.Pod{}
	n.saved, n.settled, n.readings = map[string]*fleet.Observation{}, map[string]settledAs{}, map[string]reading{}
	if err := n.loadWorkloads(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*n.opts.ProbeTime)
	defer cancel()
	versions, err := n.read(ctx, client, n.ours(), maps.Keys(n.workloads))
	if err != nil {
		return nil, err
	}
	_, err = n.readServices(ctx, client)
	return versions, err
}

func (n *namespace) ours() live.Query {
	return live.Query{Labels: live.SelectAll(n.opts.Installation)}
}

// kinds are those of the workloads that are here.
func (n *namespace) kinds() []live.Resource {
	var out []live.Resource
	for _, w := range n.workloads {
		if kind := kindOf(w.Workload); !slices.Contains(out, kind) {
			out = append(out, kind)
		}
	}
	return out
}

func kindOf(w fleet.Workload) live.Resource {
	if w.Kind == fleet.KindStatefulSet {
		return live.StatefulSets
	}
	return live.Deployments
}

func (n *namespace) loadWorkloads(ctx context.Context) error {
	list, err := n.store.Workloads(ctx, n.cluster.ID, n.name)
	if err != nil {
		return err
	}
	n.workloads = map[string]fleet.Watched{}
	for _, w := range list {
		n.workloads[w.ID] = w
	}
	maps.DeleteFunc(n.readings, func(id string, _ reading) bool {
		_, there := n.workloads[id]
		return !there
	})
	return nil
}

// reloadWorkloads returns errClosed when one is of a kind that is not watched.
func (n *namespace) reloadWorkloads(ctx context.Context) error {
	watched := n.kinds()
	if err := n.loadWorkloads(ctx); err != nil {
		return err
	}
	for _, kind := range n.kinds() {
		if !slices.Contains(watched, kind) {
			return errClosed
		}
	}
	return nil
}

// readServices is also the probe: it shows that the server answers, and it
// brings what no stream is kept open for. It returns the ids of the workloads
// whose Service has changed.
func (n *namespace) readServices(ctx context.Context, client *kube.Client) (changed []string, err error) {
	list, _, err := live.List[live.Service](ctx, client.API, live.Services, n.name, n.ours())
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	n.servicesAt = time.Now()
	before := n.services
	n.services = map[string]*live.Service{}
	for i := range list {
		s := &list[i]
		w, ok := n.workloads[s.Labels.Workload]
		if !ok || s.Name != w.Name {
			continue // such as the headless one of a StatefulSet
		}
		n.services[w.ID] = s
		if old := before[w.ID]; old == nil || old.ResourceVersion != s.ResourceVersion {
			changed = append(changed, w.ID)
		}
	}
	for id := range before {
		if n.services[id] == nil {
			changed = append(changed, id)
		}
	}
	for id, c := range n.controllers {
		if c.Settled() {
			n.settled[id] = settledAs{c.Generation, c.Annotations.Release}
		}
	}
	return changed, nil
}

// settledAs is a state of a controller that was rolled out to the end.
type settledAs struct {
	generation int64
	release    string
}

// servicesDue reports whether the Services should be read again, as one of the
// workloads is being changed. Without it a workload that has just been rolled
// out would be shown without its address until the next probe. One that is on
// its way, or never gets there, costs a request now and then.
func (n *namespace) servicesDue(ids map[string]bool) bool {
	underWay := false
	for id := range ids {
		c := n.controllers[id]
		if _, ok := n.workloads[id]; !ok || c == nil || n.settled[id] == (settledAs{c.Generation, c.Annotations.Release}) {
			continue
		}
		if c.Settled() {
			return true
		}
		underWay = true
	}
	return underWay && time.Since(n.servicesAt) > time.Second
}

// errClosed says that a stream ended in order.
var errClosed = errors.New("observe: the stream was closed")

// stream passes on the changes of one resource.
func (n *namespace) stream(ctx context.Context, client *kube.Client, r live.Resource, version string, events chan<- event) error {
	pass := func(e event) error {
		if e.change == live.Bookmark {
			return nil
		}
		select {
		case events <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	if r == live.Pods {
		err = live.Watch(ctx, client.API, r, n.name, n.ours(), version, func(c live.Change, p *live.Pod) error {
			return pass(event{change: c, pod: p})
		})
	} else {
		err = live.Watch(ctx, client.API, r, n.name, n.ours(), version, func(c live.Change, o *live.Controller) error {
			return pass(event{change: c, controller: o})
		})
	}
	if err == nil {
		err = errClosed
	}
	return err
}

// follow stores what the streams see, and probes the server while they are
// quiet.
func (n *namespace) follow(ctx context.Context, client *kube.Client, events <-chan event, ended <-chan error) error {
	dirty := map[string]bool{}
	flush := time.NewTimer(time.Hour)
	defer flush.Stop()
	probe := time.NewTicker(n.opts.ProbeEvery)
	defer probe.Stop()
	mark := func(ids ...string) {
		for _, id := range ids {
			if id == "" {
				continue
			}
			if len(dirty) == 0 {
				flush.Reset(n.opts.Coalesce)
			}
			dirty[id] = true
		}
	}
	for {
		select {
		case e := <-events:
			mark(n.see(e))
		case <-flush.C:
			if err := n.flush(ctx, client, dirty); err != nil {
				return err
			}
			clear(dirty)
		case <-probe.C:
			changed, err := n.probe(ctx, client)
			if err != nil {
				return err
			}
			mark(changed...)
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// see takes in one change and returns the id of its workload, or "" when it is
// known already.
func (n *namespace) see(e event) string {
	if n.known(e) {
		return ""
	}
	if e.controller != nil {
		id := e.controller.Labels.Workload
		if old := n.controllers[id]; e.change == live.Deleted {
			if old != nil && old.UID == e.controller.UID { // else another kind has taken its place
				delete(n.controllers, id)
			}
		} else {
			n.controllers[id] = e.controller
		}
		return id
	}
	id := e.pod.Labels.Workload
	if e.change == live.Deleted {
		delete(n.pods[id], e.pod.UID)
		if len(n.pods[id]) == 0 {
			delete(n.pods, id)
		}
		return id
	}
	if n.pods[id] == nil {
		n.pods[id] = map[string]*live.Pod{}
	}
	n.pods[id][e.pod.UID] = e.pod
	return id
}

// probe shows that the server answers, looks for workloads that are new, and
// returns those to look at again.
func (n *namespace) probe(ctx context.Context, client *kube.Client) ([]string, error) {
	if err := n.reloadWorkloads(ctx); err != nil {
		return nil, err
	}
	at := time.Now()
	limited, cancel := context.WithTimeout(ctx, n.opts.ProbeTime)
	defer cancel()
	changed, err := n.readServices(limited, client)
	if err != nil {
		return nil, err
	}
	if err := n.store.MarkAlive(ctx, n.opts.Holder, n.cluster.ID, n.name, at); err != nil {
		return nil, err
	}
	if err := n.readEnded(ctx, client); err != nil {
		return nil, err
	}
	for id := range n.workloads {
		if n.saved[id] == nil {
			changed = append(changed, id)
		}
	}
	return changed, nil
}

// flush stores the observations of the workloads that changed.
func (n *namespace) flush(ctx context.Context, client *kube.Client, dirty map[string]bool) error {
	for id := range dirty {
		if _, ok := n.workloads[id]; ok {
			continue
		}
		if err := n.reloadWorkloads(ctx); err != nil {
			return err
		}
		break
	}
	if n.servicesDue(dirty) {
		limited, cancel := context.WithTimeout(ctx, n.opts.ProbeTime)
		defer cancel()
		changed, err := n.readServices(limited, client)
		if err != nil {
			return err
		}
		for _, id := range changed {
			dirty[id] = true
		}
	}
	return n.saveAll(ctx, client, maps.Keys(dirty))
}

// saveAll stores what is seen of some workloads. Where an operation on one has
// ended since it was read, it does at once what the next probe would.
func (n *namespace) saveAll(ctx context.Context, client *kube.Client, ids iter.Seq[string]) error {
	outdated, err := n.saveEach(ctx, ids)
	if err != nil || !outdated {
		return err
	}
	changed, err := n.probe(ctx, client)
	if err != nil {
		return err
	}
	_, err = n.saveEach(ctx, slices.Values(changed)) // what is outdated again is left to that next probe
	return err
}

// saveEach stores what is seen of some workloads, and reports whether some of
// that was outdated.
func (n *namespace) saveEach(ctx context.Context, ids iter.Seq[string]) (outdated bool, err error) {
	for id := range ids {
		w, ok := n.workloads[id]
		if !ok {
			continue
		}
		err := n.save(ctx, w.Workload)
		if errors.Is(err, fleet.ErrOutdated) {
			outdated = true
		} else if err != nil {
			return outdated, err
		}
	}
	return outdated, nil
}

// save stores what is seen of a workload, unless it says nothing new;
// fleet.ErrOutdated.
func (n *namespace) save(ctx context.Context, w fleet.Workload) error {
	sight := live.Sight{Kind: w.Kind, Controller: n.controllers[w.ID], Service: n.services[w.ID]}
	for _, p := range n.pods[w.ID] {
		sight.Pods = append(sight.Pods, *p)
	}
	o := sight.Observation(w.ID, w.Namespace, n.cluster.Exposure, time.Now())
	if old := n.saved[w.ID]; old != nil && sameState(old, &o) {
		return nil
	}
	if err := n.store.SaveObservation(ctx, n.opts.Holder, o, n.readings[w.ID].ended); err != nil {
		return err
	}
	n.saved[w.ID] = &o
	return nil
}
