package adapter

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"portolan/internal/kube/live"
)

const (
	// refusedFor is how long the API server must have refused a controller's
	// pods before that is taken for final: a webhook that restarts refuses for a
	// moment, and the controller tries again by itself, ten times within the
	// first five seconds (client-go's default rate limiter begins at 5 ms and
	// doubles).
	refusedFor = 10 * time.Second
	// unheardFor is how long a refusal is waited for where no event tells of the
	// last try: recorders drop events when there are many of one object.
	unheardFor = time.Minute
	// controllersAfter is how long the cluster's own controllers may take, as busy
	// as they may be, for what pods in a new namespace cannot be without.
	controllersAfter = 2 * time.Minute
	// podGrace is how long a pod of ours may take to end and give back its share
	// of a quota: Kubernetes' default for terminationGracePeriodSeconds.
	podGrace = 30 * time.Second
)

// Reasons of a controller's events about its pods.
const (
	podRefused = "FailedCreate"
	podMade    = "SuccessfulCreate"
	podRemoved = "SuccessfulDelete"
)

// wanting reports whether something is refused only for want of the service
// account of the namespace, or of the first count of a quota there, in the words
// of the API server's admission.
func wanting(refusal string) bool {
	return strings.Contains(refusal, "error looking up service account") || strings.Contains(refusal, "status unknown for quota")
}

// refusedSets reports whether a Deployment's pods are refused for good. The
// condition that tells of it keeps the words and the time of the first refusal
// until a try succeeds, and each try comes twice as late as the one before it:
// only events tell what was refused last, and when. t gets those words.
func (j *job) refusedSets(ctx context.Context, s live.Sight, t *live.Trouble) bool {
	if j.young() {
		return false
	}
	var began time.Time
	for _, c := range s.Controller.Status.Conditions {
		if c.Type == "ReplicaFailure" {
			began = c.LastTransitionTime
		}
	}
	tries := refusals{began: began}
	set, ok := j.newestSet(ctx, s)
	if ok {
		tries.read(j.eventsOf(ctx, set.UID))
	}
	if ok && tries.last == nil && !tries.moved.IsZero() {
		return false // the newest pods are made; the refusal is of those before
	}
	if tries.last == nil {
		return !wanting(t.Message) && j.waited(tries.since(s), unheardFor)
	}
	at := eventTime(*tries.last)
	if wanting(t.Message) && at.Before(j.Step.StartedAt.Truncate(time.Second)) {
		return false // of a rollout before this one
	}
	t.Message = refusedWords(tries.last)
	if j.early(t.Message, at) || !j.lasting(tries, s) {
		return false
	}
	if !strings.Contains(t.Message, "exceeded quota") {
		return true
	}
	tries.moved = later(tries.moved, j.released(ctx, set))
	return j.lasting(tries, s)
}

// refusedOrdinals returns the event that tells that a StatefulSet's pods are
// refused for good, or nil. It has no condition for that.
func (j *job) refusedOrdinals(ctx context.Context, s live.Sight) *corev1.Event {
	if s.Controller.Status.Replicas >= s.Controller.Desired() || j.young() {
		return nil
	}
	var tries refusals
	tries.read(j.eventsOf(ctx, s.Controller.UID))
	if tries.last == nil {
		return nil
	}
	at := eventTime(*tries.last)
	if at.Before(j.Step.StartedAt.Truncate(time.Second)) || j.early(tries.last.Message, at) || !j.lasting(tries, s) {
		return nil
	}
	return tries.last
}

// young reports whether the step is younger than any refusal that counts.
func (j *job) young() bool { return !j.waited(j.Step.StartedAt, refusedFor) }

// waited reports whether so much time has passed since a time, and since the
// step began.
func (j *job) waited(since time.Time, patience time.Duration) bool {
	return j.now().Sub(later(since, j.Step.StartedAt)) >= patience
}

// early reports whether a refusal to make pods at a time may be mended by the
// cluster's own controllers.
func (j *job) early(refusal string, at time.Time) bool {
	return wanting(refusal) && at.Sub(j.Step.StartedAt) < controllersAfter
}

// lasting reports whether tries were refused for long enough. Only times of the
// cluster are compared, so that it does not matter how its clock differs from
// ours, except where there is no newer try.
func (j *job) lasting(tries refusals, s live.Sight) bool {
	since := tries.since(s)
	return eventTime(*tries.last).Sub(since) >= refusedFor || j.waited(since, unheardFor)
}

// released returns the time by which the pods that this rollout has ended have
// given back their share of a quota; zero when it has ended none. The pods that
// are still there tell it themselves. A workload whose name begins with this
// one's may make it later.
func (j *job) released(ctx context.Context, newest replicaSet) time.Time {
	removed, _, err := live.List[corev1.Event](ctx, j.api, live.Events, j.Workload.Namespace, live.Query{
		Fields: fields.Set{"reason": podRemoved, "involvedObject.kind": live.ReplicaSets.Kind}.String(),
	})
	if err != nil {
		return time.Time{}
	}
	var at time.Time
	for _, e := range removed {
		if strings.HasPrefix(e.InvolvedObject.Name, j.Workload.Name+"-") && eventTime(e).After(newest.CreationTimestamp) {
			at = later(at, eventTime(e).Add(podGrace))
		}
	}
	return at
}

// refusals are what a controller's events tell of its tries to make pods.
type refusals struct {
	began time.Time     // of the refusals since the last success
	moved time.Time     // of the last success
	last  *corev1.Event // the newest refusal, if nothing was made after it
}

// read takes in events, oldest first.
func (r *refusals) read(events []corev1.Event) {
	for i := range events {
		e := &events[i]
		switch e.Reason {
		case podMade:
			r.moved, r.last, r.began = eventTime(*e), nil, time.Time{}
		case podRefused:
			if r.last == nil && r.began.IsZero() {
				r.began = firstTime(e)
			}
			r.last = e
		}
	}
}

// since is the time of the last sign that what refuses the pods may pass: their
// first refusal, a pod that was made or one that ends.
func (r *refusals) since(s live.Sight) time.Time {
	at := later(r.began, r.moved)
	for _, p := range s.Pods {
		at = later(at, later(p.CreationTimestamp, p.DeletionTimestamp))
	}
	return at
}

// firstTime is when what an event tells of happened first.
func firstTime(e *corev1.Event) time.Time {
	if !e.FirstTimestamp.IsZero() {
		return e.FirstTimestamp.Time
	}
	if !e.EventTime.IsZero() {
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// refusedWords are the API server's own in an event about a refusal.
func refusedWords(e *corev1.Event) string {
	text := strings.TrimPrefix(e.Message, "(combined from similar events): ")
	return strings.TrimPrefix(text, "Error creating: ")
}

func later(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
