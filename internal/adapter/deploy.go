package adapter

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// namespace sees to it that the workload's namespace exists.
func (j *job) namespace(ctx context.Context) error {
	name := j.Workload.Namespace
	object := "Namespace/" + name
	var found struct {
		live.Meta `json:"metadata"`
	}
	err := live.Get(ctx, j.api, live.Namespaces, "", name, &found)
	switch {
	case err == nil && found.Deleting():
		return &fleet.Failure{
			Reason: reasonTerminating, Object: object,
			Message: object + " is being deleted, so nothing can be made in it.",
			Remedy:  "Wait until it is gone, then redeploy.",
		}
	case err == nil:
		j.result.Skipped = true
		j.done("%s exists", name)
		return nil
	case !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		return refusal(err, "read", object)
	}
	hidden := apierrors.IsForbidden(err)

	labels := maps.Clone(j.Cluster.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[live.LabelManagedBy], labels[live.LabelInstallation] = live.Manager, j.Installation
	body, err := json.Marshal(coreapply.Namespace(name).WithLabels(labels))
	if err != nil {
		return err
	}
	// Not by an apply, which takes the right to patch namespaces as well.
	err = live.Namespaces.REST(j.api).Post().Resource(live.Namespaces.Plural).
		Param("fieldManager", live.Manager).Body(body).Do(ctx).Error()
	switch {
	case hidden && (apierrors.IsAlreadyExists(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsInvalid(err)):
		// A credential scoped to its namespaces may neither read nor make them;
		// whether this one exists is then told by what is made in it.
		j.result.Skipped = true
		j.done("not allowed to look; going on")
		return nil
	case apierrors.IsAlreadyExists(err): // somebody has just made it
		j.done("%s exists", name)
		return nil
	case err != nil:
		return refusal(err, "create", object)
	}
	j.event(fleet.EventNormal, "", object, "%s %s", object, created)
	j.done("%s created", name)
	return nil
}

// survey is what is there before objects are applied.
type survey struct {
	mu      sync.Mutex
	present map[string]*present // by Kind/name
	other   *present            // of the kind that the workload no longer has
}

func (s *survey) at(r live.Resource, name string) *present { return s.present[named(r, name)] }

// objects applies everything the workload is made of. It looks at every name
// first and changes nothing when one of them is somebody else's.
func (j *job) objects(ctx context.Context) error {
	b := j.blueprint()
	seen, err := j.survey(ctx, b)
	if err != nil {
		return err
	}
	b.secretRelease = b.secretReleaseAfter(seen.at(live.Secrets, b.secret()))
	owned, err := j.chooseReplicas(ctx, b, seen)
	if err != nil {
		return err
	}

	// What pods need goes first: a node that misses it waits long before it
	// looks again. Of that the claims do, which may be refused: then the pods
	// that are there keep their settings.
	if err := j.applyClaims(ctx, b, seen); err != nil {
		return err
	}
	if err := j.applyAll(ctx, seen, b.settings()); err != nil {
		return err
	}
	if err := j.dropOtherKind(ctx, b, seen); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	var events lockedEvents
	run := func(step func(context.Context, *job) error) {
		group.Go(func() error {
			part := *j // events of parallel parts are collected apart
			part.result = fleet.StepResult{}
			err := step(groupCtx, &part)
			events.add(part.result.Events)
			return err
		})
	}
	run(func(ctx context.Context, j *job) error {
		o := b.controller()
		return j.applyAll(ctx, seen, []object{o})
	})
	if len(b.spec.Ports) > 0 {
		run(func(ctx context.Context, j *job) error {
			return j.applyService(ctx, b, seen.at(live.Services, b.name()))
		})
		if b.stateful() {
			run(func(ctx context.Context, j *job) error { return j.applyAll(ctx, seen, []object{b.headlessService()}) })
		}
	}
	err = group.Wait()
	j.result.Events = append(j.result.Events, events.list...)
	if err != nil {
		return err
	}
	j.warnOfSharing(b.replicas)
	if owned != "" {
		j.event(fleet.EventNormal, "", owned, "%s owns the replica count, so it was left as it is", owned)
	}
	count := 1 + len(b.needs())
	if len(b.spec.Ports) > 0 {
		count++
	}
	j.done("%s applied", fleet.Counted(count, "object", "objects"))
	return nil
}

// survey looks at every name that the objects will have.
func (j *job) survey(ctx context.Context, b *blueprint) (*survey, error) {
	s := &survey{present: map[string]*present{}}
	group, ctx := errgroup.WithContext(ctx)
	look := func(r live.Resource, name, accept string) {
		group.Go(func() error {
			p, err := j.guard(ctx, r, name, accept)
			if err != nil {
				return err
			}
			if p != nil {
				s.mu.Lock()
				s.present[named(r, name)] = p
				s.mu.Unlock()
			}
			return nil
		})
	}
	for _, o := range b.needs() {
		accept := metadataOnly
		if o.Resource == live.Secrets || o.Resource == live.Claims {
			accept = "application/json" // a secret's values say whether the pods must roll, a claim has its size
		}
		look(o.Resource, o.name, accept)
	}
	look(j.kind(), b.name(), "application/json")
	if len(b.spec.Ports) > 0 {
		look(live.Services, b.name(), "application/json")
		if b.stateful() {
			look(live.Services, b.headless(), metadataOnly)
		}
	}
	if j.Operation.Verb != fleet.VerbDeploy {
		group.Go(func() error {
			p, err := j.look(ctx, otherKind(j.Workload.Kind), b.name(), metadataOnly)
			if err == nil && p != nil && p.Ours(j.Installation, j.Workload.ID) {
				s.other = p
			}
			return err
		})
	}
	return s, group.Wait()
}

func otherKind(kind fleet.WorkloadKind) live.Resource {
	if kind == fleet.KindStatefulSet {
		return live.Deployments
	}
	return live.StatefulSets
}

// secretReleaseAfter is the release that last changed the secret's values,
// once the blueprint is applied over what is there.
func (b *blueprint) secretReleaseAfter(there *present) string {
	now := strconv.Itoa(b.workload.Release)
	if there == nil || there.Annotations.SecretRelease == "" {
		return now
	}
	var secret struct {
		Data map[string]string `json:"data"`
	}
	if err := json.Unmarshal(there.raw, &secret); err != nil {
		return now
	}
	same := maps.EqualFunc(secret.Data, b.secretData(), func(encoded string, want []byte) bool {
		value, err := base64.StdEncoding.DecodeString(encoded)
		return err == nil && bytes.Equal(value, want)
	})
	if !same {
		return now
	}
	return there.Annotations.SecretRelease
}

// chooseReplicas decides the replica count to apply: none while stopped, the
// present one while an autoscaler owns it (its Kind/name is returned), else
// the workload's.
func (j *job) chooseReplicas(ctx context.Context, b *blueprint, seen *survey) (owner string, err error) {
	b.replicas = j.Workload.Replicas
	if j.Workload.Stopped {
		b.replicas = 0
		return "", nil
	}
	there := seen.at(j.kind(), b.name())
	if there == nil {
		return "", nil
	}
	owner, err = j.autoscaler(ctx)
	if owner == "" || err != nil {
		return "", err
	}
	var c live.Controller
	if err := json.Unmarshal(there.raw, &c); err != nil {
		return "", err
	}
	b.replicas = c.Desired()
	return owner, nil
}

// applyAll applies objects in parallel.
func (j *job) applyAll(ctx context.Context, seen *survey, objects []object) error {
	results := make([]outcome, len(objects))
	group, ctx := errgroup.WithContext(ctx)
	for i, o := range objects {
		group.Go(func() (err error) {
			results[i], err = j.apply(ctx, o, seen.at(o.Resource, o.name))
			return refusal(err, "apply", o.String())
		})
	}
	err := group.Wait()
	for i, result := range results {
		if result != "" {
			j.report(objects[i], result)
		}
	}
	return err
}

// applyService applies the Service. A fixed node port that is taken gives way
// to a free one.
func (j *job) applyService(ctx context.Context, b *blueprint, seen *present) error {
	fixed := b.fixedNodePorts()
	passed := false
	for {
		if !passed && seen != nil && j.classChanges(b, seen) {
			if _, err := j.apply(ctx, b.inner(), seen); err != nil {
				return refusal(err, "apply", named(live.Services, b.name()))
			}
			j.event(fleet.EventNormal, "", named(live.Services, b.name()),
				"%s passed through ClusterIP, because its load balancer class cannot be changed in place", named(live.Services, b.name()))
			var err error
			if seen, err = j.guard(ctx, live.Services, b.name(), metadataOnly); err != nil {
				return err
			}
			passed = true
		}
		o := b.service(fixed)
		result, err := j.apply(ctx, o, seen)
		if err == nil {
			j.report(o, result)
			return nil
		}
		taken := takenNodePort(err, b.spec.Ports, fixed)
		if taken == "" {
			return refusal(err, "apply", o.String())
		}
		j.event(fleet.EventWarning, "NodePortTaken", o.String(),
			"Node port %d for port %s is taken by another Service; a free one is used instead", fixed[taken], taken)
		delete(fixed, taken)
	}
}

// classChanges reports whether the Service has a load balancer class that must
// become another. One that the cluster itself has chosen is left alone.
func (j *job) classChanges(b *blueprint, seen *present) bool {
	var s live.Service
	if err := json.Unmarshal(seen.raw, &s); err != nil || s.Spec.Type != "LoadBalancer" || b.cluster.Exposure.Mode != fleet.ExposureLoadBalancer {
		return false
	}
	want := b.cluster.Exposure.LoadBalancerClass
	return s.Spec.LoadBalancerClass != want && (want != "" || seen.owns("loadBalancerClass"))
}

// takenNodePort returns the name of the port whose fixed node port the API
// server says is in use, or "".
func takenNodePort(err error, ports []fleet.Port, fixed map[string]int32) string {
	text := apiMessage(err)
	if !apierrors.IsInvalid(err) || !strings.Contains(text, "already allocated") {
		return ""
	}
	i := slices.IndexFunc(ports, func(p fleet.Port) bool {
		n := fixed[p.Name]
		return n != 0 && strings.Contains(text, strconv.Itoa(int(n)))
	})
	if i < 0 {
		return ""
	}
	return ports[i].Name
}

// dropOtherKind removes the Deployment of a workload that has become a
// StatefulSet, or the other way round.
func (j *job) dropOtherKind(ctx context.Context, b *blueprint, seen *survey) error {
	if seen.other == nil {
		return nil
	}
	other := otherKind(j.Workload.Kind)
	if err := j.deleteObject(ctx, other, &seen.other.Meta); err != nil {
		return err
	}
	j.event(fleet.EventWarning, "KindChanged", named(other, b.name()), "%s deleted: the workload is a %s now", named(other, b.name()), j.Workload.Kind)
	return nil
}

// lockedEvents collects events of parallel parts.
type lockedEvents struct {
	mu   sync.Mutex
	list []fleet.Event
}

func (l *lockedEvents) add(events []fleet.Event) {
	l.mu.Lock()
	l.list = append(l.list, events...)
	l.mu.Unlock()
}
