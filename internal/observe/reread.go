package observe

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"portolan/internal/kube"
	"portolan/internal/kube/live"
)

// A watch may be late by any time, and nothing that it sees tells by how much.
// The last step of an operation looks at the cluster itself; what a watch tells
// thereafter counts only when the workload was read anew since. Which is the
// later is told by the numbers of operations, not by clocks, of which observer,
// workers and database each have one.

// reading is one workload read by lists, not by changes.
type reading struct {
	ended             int64  // what fleet.Watched said before it began
	controllers, pods string // the versions of the lists
}

// read reads the controllers and pods that a query selects, which are those of
// some of n.workloads, and returns the versions to watch from.
func (n *namespace) read(ctx context.Context, client *kube.Client, of live.Query, ids iter.Seq[string]) (map[live.Resource]string, error) {
	for id := range ids {
		delete(n.readings, id) // else what is the same as there would be taken for known
		delete(n.controllers, id)
		delete(n.pods, id)
		delete(n.saved, id) // a step may have stored something else since
	}
	versions := map[live.Resource]string{}
	for _, r := range n.kinds() {
		list, version, err := live.List[live.Controller](ctx, client.API, r, n.name, of)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", r.Plural, err)
		}
		versions[r] = version
		for i := range list {
			n.see(event{change: live.Added, controller: &list[i]})
		}
	}
	pods, version, err := live.List[live.Pod](ctx, client.API, live.Pods, n.name, of)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	versions[live.Pods] = version
	for i := range pods {
		n.see(event{change: live.Added, pod: &pods[i]})
	}
	for id := range ids {
		w := n.workloads[id]
		n.readings[id] = reading{w.Ended, versions[kindOf(w.Workload)], version}
	}
	return versions, nil
}

// readEnded reads those workloads anew on which an operation has ended since
// they were read.
func (n *namespace) readEnded(ctx context.Context, client *kube.Client) error {
	const atOnce = 100 // their ids make a selector of 4 kB
	var ended []string
	for id, w := range n.workloads {
		if w.Ended > n.readings[id].ended {
			ended = append(ended, id)
		}
	}
	for ids := range slices.Chunk(ended, atOnce) {
		limited, cancel := context.WithTimeout(ctx, n.opts.ProbeTime)
		_, err := n.read(limited, client, live.Query{Labels: live.SelectWorkloads(n.opts.Installation, ids)}, slices.Values(ids))
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// known reports whether a change is from before its workload was read.
func (n *namespace) known(e event) bool {
	if e.controller != nil {
		return upTo(e.controller.ResourceVersion, n.readings[e.controller.Labels.Workload].controllers)
	}
	return upTo(e.pod.ResourceVersion, n.readings[e.pod.Labels.Workload].pods)
}

// upTo reports whether one version of a resource is not later than another.
// That they are numbers which grow is promised by Kubernetes
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions);
// of others nothing is said.
func upTo(version, last string) bool {
	order, err := resourceversion.CompareResourceVersion(version, last)
	return err == nil && order <= 0
}
