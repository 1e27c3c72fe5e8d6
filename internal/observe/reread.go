package observe

import (
	"context"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/live"
)

// A watch may be late by any time, and nothing that it sees tells by how much.
// The last step of an operation looks at the cluster itself; what a watch tells
// thereafter counts only when the workload was read anew since.

// reading is one workload read apart from the others.
type reading struct {
	at                time.Time // when it began
	controllers, pods string    // the versions of the lists
}

// readAt is when the reading of a workload began that its changes were seen
// after.
func (n *namespace) readAt(id string) time.Time {
	if r, ok := n.reread[id]; ok {
		return r.at
	}
	return n.listedAt
}

// read reads one workload anew.
func (n *namespace) read(ctx context.Context, client *kube.Client, w fleet.Workload) error {
	ctx, cancel := context.WithTimeout(ctx, n.opts.ProbeTime)
	defer cancel()
	began := reading{at: time.Now()}
	of := live.Query{Labels: live.SelectWorkload(n.opts.Installation, w.ID)}
	kind := live.Deployments
	if w.Kind == fleet.KindStatefulSet {
		kind = live.StatefulSets
	}
	controllers, version, err := live.List[live.Controller](ctx, client.API, kind, n.name, of)
	if err != nil {
		return fmt.Errorf("list %s: %w", kind.Plural, err)
	}
	began.controllers = version
	pods, version, err := live.List[live.Pod](ctx, client.API, live.Pods, n.name, of)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	began.pods = version
	var service *live.Service
	found := new(live.Service)
	err = live.Get(ctx, client.API, live.Services, n.name, w.Name, found)
	switch {
	case err == nil && found.Ours(n.opts.Installation, w.ID):
		service = found
	case err != nil && !apierrors.IsNotFound(err):
		return fmt.Errorf("read service: %w", err)
	}

	delete(n.controllers, w.ID)
	for i := range controllers {
		n.controllers[w.ID] = &controllers[i]
	}
	delete(n.pods, w.ID)
	for i := range pods {
		if n.pods[w.ID] == nil {
			n.pods[w.ID] = map[string]*live.Pod{}
		}
		n.pods[w.ID][pods[i].UID] = &pods[i]
	}
	delete(n.services, w.ID)
	if service != nil {
		n.services[w.ID] = service
	}
	n.reread[w.ID] = began
	delete(n.saved, w.ID) // a step may have stored something else since
	return nil
}

// known reports whether a change is from before its workload was read anew.
func (n *namespace) known(e event) bool {
	if e.controller != nil {
		return upTo(e.controller.ResourceVersion, n.reread[e.controller.Labels.Workload].controllers)
	}
	return upTo(e.pod.ResourceVersion, n.reread[e.pod.Labels.Workload].pods)
}

// upTo reports whether one version of a resource is not later than another.
// That they are numbers which grow is promised by Kubernetes
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions);
// of others nothing is said.
func upTo(version, last string) bool {
	a, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return false
	}
	b, err := strconv.ParseUint(last, 10, 64)
	return err == nil && a <= b
}

const (
	// endedMargin is for transactions that took long to be committed, and for
	// clocks that differ.
	endedMargin = 30 * time.Second
	// endedAtOnce bounds the workloads that one probe reads anew: the next one
	// takes the rest.
	endedAtOnce = 50
)

// readEnded reads those workloads anew whose operation has ended: what its last
// step stored is as old as its look.
func (n *namespace) readEnded(ctx context.Context, client *kube.Client) error {
	at, left := time.Now(), endedAtOnce
	ended, err := n.store.EndedSince(ctx, n.cluster.ID, n.name, n.lookedAt.Add(-endedMargin))
	if err != nil {
		return err
	}
	for id, end := range ended {
		w, ok := n.workloads[id]
		if !ok || !end.After(n.readAt(id)) {
			continue
		}
		if left--; left < 0 {
			return nil
		}
		if err := n.read(ctx, client, w); err != nil {
			return err
		}
	}
	n.lookedAt = at
	return nil
}
