package live

import (
	"cmp"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"portolan/internal/fleet"
)

// Sight is what is seen of one workload at one time.
type Sight struct {
	Kind       fleet.WorkloadKind
	Controller *Controller // nil = it is not there
	Pods       []Pod
	Service    *Service // nil = it is not there
}

// Observation turns a sight into what is kept of it. The exposure says how
// the endpoints are reached from outside.
func (s *Sight) Observation(workloadID, namespace string, exposure fleet.Exposure, now time.Time) fleet.Observation {
	o := fleet.Observation{
		WorkloadID: workloadID, SeenAt: now, ChangedAt: now,
		Health:     string(status.NotFoundStatus),
		Conditions: []fleet.Condition{}, Pods: []fleet.Pod{}, Endpoints: []fleet.Endpoint{},
	}
	o.Pods, o.PodsOmitted = s.shownPods()
	if s.Service != nil {
		o.Endpoints = Endpoints(s.Service, namespace, exposure)
	}
	c := s.Controller
	if c == nil {
		return o
	}
	o.Exists = true
	o.UID = c.UID
	o.Generation, o.ObservedGeneration = c.Generation, c.Status.ObservedGeneration
	o.Desired, o.Current = c.Desired(), c.Status.Replicas
	o.Ready, o.Available, o.Updated = c.Status.ReadyReplicas, c.Status.AvailableReplicas, c.Status.UpdatedReplicas
	o.Release, _ = strconv.Atoi(c.Annotations.Release)
	for _, condition := range c.Status.Conditions {
		o.Conditions = append(o.Conditions, fleet.Condition{
			Type: condition.Type, Status: condition.Status, Reason: condition.Reason,
			Message: condition.Message, Since: condition.LastTransitionTime,
		})
	}
	o.Conditions = within(o.Conditions, maxConditions)
	health, message := s.health()
	o.Health = string(health)
	if health == status.CurrentStatus {
		return o
	}
	o.Message = message
	if trouble := s.Trouble(nil); trouble != nil {
		o.Reason, o.Message = trouble.Reason, trouble.Message
	}
	return o
}

// endedPodsShown is how many pods that have ended are told of, the newest: enough
// to see why. A cluster keeps 12,500 of them by default (“Garbage collection of
// Pods” in “Pod Lifecycle”), evicted ones of a single workload too.
const endedPodsShown = 10

// The bounds in bytes on what is told of a workload. It is stored and sent to
// every open page with each change, so it must stay far smaller than what may be
// kept of a cluster's answers. A thousand pods that all say why they do not start
// take half of it, the conditions that there are a hundredth.
const (
	maxShownPods  = 2 << 20
	maxConditions = 128 << 10
)

// within returns the first items that together take no more than so many bytes.
func within[T any](items []T, most int) []T {
	for i := range items {
		v := reflect.ValueOf(&items[i]).Elem()
		if most -= int(v.Type().Size()) + clip(v); most < 0 {
			return items[:i]
		}
	}
	return items
}

// shownPods returns the pods that have not ended, by name, then the newest that
// have, as many as may be told of, and how many more there are.
func (s *Sight) shownPods() (pods []fleet.Pod, omitted int) {
	ended := []fleet.Pod{}
	pods = []fleet.Pod{}
	for i := range s.Pods {
		if p := podOf(&s.Pods[i]); p.Over() {
			ended = append(ended, p)
		} else {
			pods = append(pods, p)
		}
	}
	slices.SortFunc(ended, func(a, b fleet.Pod) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(pods, func(a, b fleet.Pod) int { return strings.Compare(a.Name, b.Name) })
	pods = within(append(pods, ended[:min(len(ended), endedPodsShown)]...), maxShownPods)
	return pods, len(s.Pods) - len(pods)
}

// RolledOut reports whether the controller has what it wants: it has seen its
// present spec, all its pods are of it and available, and no other is left.
func (c *Controller) RolledOut() bool {
	desired := c.Desired()
	return !c.Deleting() && c.Status.ObservedGeneration >= c.Generation &&
		c.Status.UpdatedReplicas == desired && c.Status.AvailableReplicas == desired && c.Status.Replicas == desired
}

// health asks kstatus, whose rules for these kinds are the field's standard.
func (s *Sight) health() (status.Status, string) {
	c := s.Controller
	conditions := []any{}
	for _, condition := range c.Status.Conditions {
		conditions = append(conditions, map[string]any{
			"type": condition.Type, "status": condition.Status, "reason": condition.Reason, "message": condition.Message,
		})
	}
	metadata := map[string]any{"name": c.Name, "generation": c.Generation}
	if c.Deleting() {
		metadata["deletionTimestamp"] = c.DeletionTimestamp.Format(time.RFC3339)
	}
	spec := map[string]any{"replicas": int64(c.Desired())}
	if c.Spec.ProgressDeadlineSeconds != nil {
		spec["progressDeadlineSeconds"] = int64(*c.Spec.ProgressDeadlineSeconds)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": string(s.Kind), "metadata": metadata, "spec": spec,
		"status": map[string]any{
			"observedGeneration": c.Status.ObservedGeneration,
			"replicas":           int64(c.Status.Replicas), "readyReplicas": int64(c.Status.ReadyReplicas),
			"availableReplicas": int64(c.Status.AvailableReplicas), "updatedReplicas": int64(c.Status.UpdatedReplicas),
			"currentReplicas": int64(c.Status.UpdatedReplicas),
			"currentRevision": c.Status.CurrentRevision, "updateRevision": c.Status.UpdateRevision,
			"conditions": conditions,
		},
	}})
	if err != nil {
		return status.UnknownStatus, err.Error()
	}
	return result.Status, result.Message
}

func podOf(p *Pod) fleet.Pod {
	out := fleet.Pod{
		Name: p.Name, UID: p.UID, Phase: p.Status.Phase, Ready: p.Ready(),
		Node: p.Spec.NodeName, Deleting: p.Deleting(), StartedAt: p.Status.StartTime,
	}
	for _, c := range p.Status.ContainerStatuses {
		state := fleet.PodContainer{Name: c.Name, Ready: c.Ready, Restarts: c.RestartCount}
		switch {
		case c.State.Running != nil:
			state.State = "running"
		case c.State.Terminated != nil:
			state.State, state.Reason = "terminated", c.State.Terminated.Reason
		default:
			state.State = "waiting"
			if c.State.Waiting != nil {
				state.Reason = c.State.Waiting.Reason
			}
		}
		out.Restarts += c.RestartCount
		out.Containers = append(out.Containers, state)
	}
	if len(out.Containers) == 0 {
		for _, c := range p.Spec.Containers {
			out.Containers = append(out.Containers, fleet.PodContainer{Name: c.Name, State: "waiting"})
		}
	}
	if out.Deleting {
		out.Reason = "Terminating"
	} else if t := troubleOf(p); t != nil {
		out.Reason, out.Message = t.Reason, t.Message
	}
	return out
}

// Endpoints lists the ways to reach the ports of a Service.
func Endpoints(s *Service, namespace string, exposure fleet.Exposure) []fleet.Endpoint {
	out := []fleet.Endpoint{}
	for _, port := range s.Spec.Ports {
		e := fleet.Endpoint{Port: port.Name}
		switch s.Spec.Type {
		case "NodePort":
			e.Text = fmt.Sprintf("node port %d", port.NodePort)
			if exposure.RuntimeHost != "" {
				e.Text, e.URL = outside(exposure.RuntimeHost, port, port.NodePort)
			}
		case "LoadBalancer":
			address := s.Address()
			if address == "" {
				continue // none yet
			}
			e.Text, e.URL = outside(address, port, port.Port)
		default:
			e.Text = net.JoinHostPort(s.Name+"."+namespace+".svc", strconv.Itoa(int(port.Port)))
		}
		out = append(out, e)
	}
	return out
}

func outside(host string, port ServicePort, number int32) (text, url string) {
	text = net.JoinHostPort(host, strconv.Itoa(int(number)))
	scheme := "http"
	if port.Port == 443 || port.Port == 8443 || strings.HasPrefix(port.Name, "https") {
		scheme = "https"
	}
	return text, scheme + "://" + text
}
