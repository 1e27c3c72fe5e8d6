package adapter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// removable are the kinds that a workload's objects are of.
var removable = []live.Resource{
	live.Deployments, live.StatefulSets, live.Services, live.ConfigMaps, live.Secrets, live.Claims,
}

// found is one object in the cluster.
type found struct {
	live.Resource
	live.Meta
}

func (f found) String() string { return named(f.Resource, f.Name) }

// owned lists the workload's objects of those kinds. Besides its labels an
// object must have a name that the workload could have given it: a label that
// was copied onto something else makes it nobody's.
func (j *job) owned(ctx context.Context, kinds []live.Resource) ([]found, error) {
	type item struct {
		live.Meta `json:"metadata"`
	}
	lists := make([][]item, len(kinds))
	group, ctx := errgroup.WithContext(ctx)
	for i, r := range kinds {
		group.Go(func() (err error) {
			lists[i], _, err = live.List[item](ctx, j.api, r, j.Workload.Namespace, live.Query{Labels: j.selector()})
			return refusal(err, "list", r.Plural)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var out []found
	for i, r := range kinds {
		for _, it := range lists[i] {
			if it.Name == j.Workload.Name || strings.HasPrefix(it.Name, j.Workload.Name+"-") {
				out = append(out, found{r, it.Meta})
			}
		}
	}
	return out, nil
}

// keepsClaims reports whether the operation leaves the volumes.
func (j *job) keepsClaims() bool {
	return j.Operation.Verb == fleet.VerbRedeploy || j.Operation.Params.KeepVolumes
}

func (j *job) removedKinds() []live.Resource {
	if j.keepsClaims() {
		return slices.DeleteFunc(slices.Clone(removable), func(r live.Resource) bool { return r == live.Claims })
	}
	return removable
}

// remove asks for the deletion of every object of the workload. What has one
// of its names but is not its own is left alone and told of.
func (j *job) remove(ctx context.Context) error {
	all, err := j.owned(ctx, removable)
	if err != nil {
		return err
	}
	foreign, err := j.foreign(ctx, all)
	if err != nil {
		return err
	}
	for _, f := range foreign {
		j.event(fleet.EventWarning, fleet.ReasonConflict, f, "%s was not made by this workload and is left alone", f)
		if j.Operation.Verb == fleet.VerbRedeploy {
			return conflict(f, j.Workload.Namespace) // it would be in the way of what is made anew
		}
	}
	removed := make([]bool, len(all))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, f := range all {
		if f.Resource == live.Claims && j.keepsClaims() {
			continue
		}
		group.Go(func() error {
			removed[i] = true
			return j.deleteObject(groupCtx, f.Resource, &f.Meta)
		})
	}
	err = group.Wait()
	count := 0
	for i, f := range all {
		switch {
		case removed[i] && err == nil:
			count++
			j.event(fleet.EventNormal, "", f.String(), "%s deleted", f)
		case !removed[i]:
			j.event(fleet.EventNormal, "", f.String(), "%s kept", f)
		}
	}
	if err != nil {
		return err
	}
	if count == 0 {
		j.done("nothing was left to delete")
		return nil
	}
	j.done("deletion of %s asked for", fleet.Counted(count, "object", "objects"))
	return nil
}

// deleteObject deletes exactly the object that was seen; one that has gone, or
// another of its name since, is none of ours.
func (j *job) deleteObject(ctx context.Context, r live.Resource, seen *live.Meta) error {
	uid := types.UID(seen.UID)
	background := metav1.DeletePropagationBackground
	err := r.REST(j.api).Delete().Namespace(j.Workload.Namespace).Resource(r.Plural).Name(seen.Name).
		Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background}).
		Do(ctx).Error()
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return refusal(err, "delete", named(r, seen.Name))
}

// foreign lists the objects that have one of the workload's names without
// being its own.
func (j *job) foreign(ctx context.Context, ours []found) ([]string, error) {
	b := &blueprint{workload: j.Workload, spec: j.Spec}
	var mu sync.Mutex
	var out []string
	group, ctx := errgroup.WithContext(ctx)
	for r, names := range b.names() {
		for _, name := range names {
			if slices.ContainsFunc(ours, func(f found) bool { return f.Resource == r && f.Name == name }) {
				continue
			}
			group.Go(func() error {
				p, err := j.look(ctx, r, name, metadataOnly)
				if err == nil && p != nil && !p.Ours(j.Installation, j.Workload.ID) && !j.kept(r, &p.Meta) {
					mu.Lock()
					out = append(out, named(r, name))
					mu.Unlock()
				}
				return err
			})
		}
	}
	err := group.Wait()
	slices.Sort(out)
	return out, err
}

// gone waits until nothing is left of what the operation takes away: the pods
// for a stop, the objects with their pods for a removal.
func (j *job) gone(ctx context.Context) error {
	if j.Operation.Verb == fleet.VerbStop {
		return j.stopped(ctx)
	}
	kinds := append(j.removedKinds(), live.ReplicaSets, live.Pods)
	ctx, cancel := j.wait(ctx)
	defer cancel()
	asked := kinds
	return j.repeat(ctx, func() (bool, error) {
		left, err := j.owned(ctx, asked)
		if err == nil && len(left) == 0 && len(asked) < len(kinds) {
			left, err = j.owned(ctx, kinds) // all together, to be sure
		}
		if err != nil {
			return false, err
		}
		if len(left) == 0 {
			if err := j.leaveClaims(ctx); err != nil {
				return false, err
			}
			j.done("nothing is left")
			return true, nil
		}
		asked = kindsOf(left)
		j.result.Message = "waiting for " + listed(left)
		return false, nil
	})
}

func kindsOf(all []found) []live.Resource {
	var kinds []live.Resource
	for _, f := range all {
		if !slices.Contains(kinds, f.Resource) {
			kinds = append(kinds, f.Resource)
		}
	}
	return kinds
}

// The first and the longest pause of repeat. Many workloads may be removed at a
// time, and what asks for them shares a budget of requests with the watches of
// their cluster.
const (
	firstPause   = 150 * time.Millisecond
	longestPause = 2 * time.Second
)

// repeat asks again and again, ever more rarely, until the answer is yes or the
// slice ends. It is for what cannot be watched as a whole.
func (j *job) repeat(ctx context.Context, ask func() (bool, error)) error {
	for pause := firstPause; ; pause = min(longestPause, pause*5/4) {
		yes, err := ask()
		if yes || err != nil && !(ctx.Err() != nil && errors.Is(err, ctx.Err())) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func listed(all []found) string {
	names := make([]string, 0, 3)
	for _, f := range all[:min(3, len(all))] {
		names = append(names, f.String())
	}
	text := strings.Join(names, ", ")
	if more := len(all) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// prune removes what an earlier release needed and this one does not. Volumes
// stay: what they hold cannot be made again.
func (j *job) prune(ctx context.Context, b *blueprint) error {
	all, err := j.owned(ctx, []live.Resource{live.Services, live.ConfigMaps, live.Secrets, live.Claims})
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, o := range b.needs() {
		wanted[o.String()] = true
	}
	if len(b.spec.Ports) > 0 {
		wanted[named(live.Services, b.name())] = true
		wanted[named(live.Services, b.headless())] = b.stateful()
	}
	for _, f := range all {
		switch {
		case wanted[f.String()] || f.Deleting():
		case f.Resource == live.Claims:
			j.event(fleet.EventNormal, "", f.String(), "%s is no longer used and is kept with what it holds", f)
		default:
			if err := j.deleteObject(ctx, f.Resource, &f.Meta); err != nil {
				return err
			}
			j.event(fleet.EventNormal, "", f.String(), "%s deleted: this release does not use it", f)
		}
	}
	return nil
}
