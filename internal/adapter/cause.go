package adapter

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// remedies says what to do about the reasons that people meet most.
var remedies = map[string]string{
	"ImagePullBackOff":           "Check the image's name and tag, and the pull secret if its registry is private.",
	"ErrImagePull":               "Check the image's name and tag, and the pull secret if its registry is private.",
	"ErrImageNeverPull":          "The node may not pull this image; put it there or change the image.",
	"InvalidImageName":           "Correct the image's name.",
	"CrashLoopBackOff":           "Its last log lines say why it ends. Correct the command, the settings or the image.",
	"CreateContainerConfigError": "A setting that the container refers to is missing or wrong; edit the workload.",
	"CreateContainerError":       "The node could not make the container; its events say why.",
	"RunContainerError":          "The node could not start the container; check its command.",
	"StartError":                 "The node could not start the container; check its command.",
	"OOMKilled":                  "Give it more memory.",
	"Unschedulable":              "Ask for less CPU or memory, change the node selector, or add a node.",
	"FailedCreate":               "Ask for less, or have the quota or the rule changed that refuses the pods.",
	"NotReady":                   "Its health check does not pass; look at its logs and check the probe's port and path.",
}

// cause returns why the rollout cannot succeed by itself, or nil while it may.
func (j *job) cause(ctx context.Context, s live.Sight) *fleet.Failure {
	t := s.Trouble(nil)
	if t == nil || !j.final(ctx, s, t) {
		return j.stalled(ctx, s)
	}
	// Now it is worth a request to know which pods are of the newest spec: the
	// others' troubles are what the rollout may be about to cure.
	if t = s.Trouble(j.notNewest(ctx, s)); t == nil || !j.final(ctx, s, t) {
		return nil
	}
	failure := &fleet.Failure{Reason: reasonOf(t.Reason, t.Message), Message: t.Message, Object: named(j.kind(), j.Workload.Name)}
	failure.Remedy = cmp.Or(remedies[t.Reason], "Look at its events and logs, edit the workload, and try again.")
	j.evidence(ctx, failure, t)
	return failure
}

// reasonOf is the reason of a refusal in those words, or else the one given.
func reasonOf(reason, message string) string {
	switch {
	case strings.Contains(message, "exceeded quota"):
		return reasonQuota
	case strings.Contains(message, "denied the request"), strings.Contains(message, "violates PodSecurity"):
		return reasonAdmission
	default:
		return reason
	}
}

// final reports whether waiting longer would not help. Each reason has its own
// patience: a registry may hiccup and a node may come. A refusal to make pods gets
// the words in which it was last said.
func (j *job) final(ctx context.Context, s live.Sight, t *live.Trouble) bool {
	if t.Pod == nil {
		return j.refusedSets(ctx, s, t)
	}
	age := j.now().Sub(couldBegin(t.Pod))
	switch t.Reason {
	case "InvalidImageName", "ErrImageNeverPull":
		return true
	case "ImagePullBackOff": // kubelets alternate it with ErrImagePull, which alone is one try
		return age >= j.opts.ImagePullAfter
	case "CrashLoopBackOff":
		return t.Container.RestartCount >= j.opts.CrashLoopRestarts
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return age >= j.opts.BlockedAfter
	case "Unschedulable":
		scheduled := t.Pod.Condition("PodScheduled")
		return scheduled != nil && j.now().Sub(scheduled.LastTransitionTime) >= j.opts.UnschedulableAfter
	default:
		return false
	}
}

// couldBegin is the earliest time at which a pod's containers can have begun: a
// node had taken it, its network was there, and its init containers had ended.
func couldBegin(p *live.Pod) time.Time {
	at := p.CreationTimestamp
	for _, kind := range []string{"PodScheduled", "PodReadyToStartContainers", "Initialized"} {
		if c := p.Condition(kind); c != nil && c.Status == "True" {
			at = later(at, c.LastTransitionTime)
		}
	}
	return at
}

// stalled catches what shows in no pod: a StatefulSet tells of pods that it may
// not make only in its events, a Deployment that it has given up in a condition.
func (j *job) stalled(ctx context.Context, s live.Sight) *fleet.Failure {
	object := named(j.kind(), j.Workload.Name)
	for _, c := range s.Controller.Status.Conditions {
		if c.Type == "Progressing" && c.Status == "False" && c.Reason == "ProgressDeadlineExceeded" &&
			c.LastTransitionTime.After(j.Step.StartedAt) && !j.Resumed(j.now()) {
			failure := &fleet.Failure{Reason: c.Reason, Object: object, Message: c.Message, Remedy: "Look at its events and logs, edit the workload, and try again."}
			if t := s.Trouble(j.notNewest(ctx, s)); t != nil {
				failure.Message = t.Message
				j.evidence(ctx, failure, t)
			}
			return failure
		}
	}
	if j.Workload.Kind == fleet.KindStatefulSet {
		if e := j.refusedOrdinals(ctx, s); e != nil {
			message := refusedWords(e)
			return &fleet.Failure{
				Reason: reasonOf(e.Reason, message), Object: object, Message: message,
				Remedy: remedies[podRefused], Events: []string{eventLine(*e)},
			}
		}
	}
	return nil
}

// notNewest returns a function that recognises pods of an older spec.
func (j *job) notNewest(ctx context.Context, s live.Sight) func(*live.Pod) bool {
	if j.Workload.Kind == fleet.KindStatefulSet {
		newest := s.Controller.Status.UpdateRevision
		return func(p *live.Pod) bool { return newest != "" && p.Labels.ControllerRevisionHash != newest }
	}
	set, ok := j.newestSet(ctx, s)
	if !ok || s.Controller.Status.UpdatedReplicas == 0 {
		// A Deployment that recreates its pods, or whose count changes with its spec,
		// has taken that up before there is a ReplicaSet for it: no pod is of it yet.
		return func(*live.Pod) bool { return true }
	}
	return func(p *live.Pod) bool { return p.Labels.PodTemplateHash != set.Labels.PodTemplateHash }
}

type replicaSet struct {
	live.Meta `json:"metadata"`
}

// newestSet returns the newest ReplicaSet of a Deployment, if it can be had: that
// of its newest spec, once there is one. The controller gives that the highest
// revision before it says anything of it in the Deployment's status, and the
// Deployment itself the same one only later.
func (j *job) newestSet(ctx context.Context, s live.Sight) (set replicaSet, ok bool) {
	sets, _, err := live.List[replicaSet](ctx, j.api, live.ReplicaSets, j.Workload.Namespace, live.Query{Labels: j.selector()})
	if err != nil {
		return set, false
	}
	sets = slices.DeleteFunc(sets, func(r replicaSet) bool {
		return !slices.Contains(r.OwnerReferences, live.Reference{UID: s.Controller.UID})
	})
	if len(sets) == 0 {
		return set, false
	}
	return slices.MaxFunc(sets, func(a, b replicaSet) int { return cmp.Compare(a.revision(), b.revision()) }), true
}

// revision is 0 where the controller has not given one yet.
func (r *replicaSet) revision() int64 {
	n, _ := strconv.ParseInt(r.Annotations.Revision, 10, 64)
	return n
}

// How much evidence a failure carries.
const (
	evidenceEvents = 5
	evidenceLines  = 20
	evidenceTime   = 15 * time.Second
)

// evidence adds the last events and log lines of what is in trouble. What
// cannot be had is left out: the cause is known without it.
func (j *job) evidence(ctx context.Context, failure *fleet.Failure, t *live.Trouble) {
	ctx, cancel := context.WithTimeout(ctx, evidenceTime)
	defer cancel()
	if t.Pod == nil {
		return
	}
	failure.Object = named(live.Pods, t.Pod.Name)
	all := j.eventsOf(ctx, t.Pod.UID)
	for _, e := range all[max(0, len(all)-evidenceEvents):] {
		failure.Events = append(failure.Events, eventLine(e))
	}
	if t.Container == nil || t.Container.State.Waiting != nil && t.Container.LastState.Terminated == nil {
		return // it has never run
	}
	lines, limit := int64(evidenceLines), int64(64<<10)
	body, err := live.Logs(j.api, j.Workload.Namespace, t.Pod.Name, corev1.PodLogOptions{
		Container: t.Container.Name, TailLines: &lines, LimitBytes: &limit,
		Previous: t.Container.State.Waiting != nil,
	}).Stream(ctx)
	if err != nil {
		return
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, limit)) // a server need not heed what it was asked
	if err != nil {
		return
	}
	for line := range bytes.Lines(raw) {
		failure.Logs = append(failure.Logs, strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "�"))
	}
	failure.Logs = failure.Logs[max(0, len(failure.Logs)-evidenceLines):]
}

// eventsOf returns the events about an object, oldest first.
func (j *job) eventsOf(ctx context.Context, uid string) []corev1.Event {
	list, _, err := live.List[corev1.Event](ctx, j.api, live.Events, j.Workload.Namespace, live.Query{
		Fields: fields.OneTermEqualSelector("involvedObject.uid", uid).String(), Limit: 200,
	})
	if err != nil {
		return nil
	}
	slices.SortStableFunc(list, func(a, b corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	return list
}

func eventTime(e corev1.Event) time.Time {
	if e.Series != nil {
		return e.Series.LastObservedTime.Time
	}
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	if !e.EventTime.IsZero() {
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

func eventLine(e corev1.Event) string {
	line := fmt.Sprintf("%s: %s", e.Reason, strings.TrimSpace(e.Message))
	if e.Count > 1 {
		line += fmt.Sprintf(" (%d times)", e.Count)
	}
	return line
}
