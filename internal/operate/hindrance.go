package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"portolan/internal/fleet"
)

const (
	// askedAtMost bounds the steps that only ask the API server for something,
	// also where no process lives long enough to ask for as long as it should.
	askedAtMost = time.Hour
	// waitGrace lets the adapter, which knows more of the cause, be the first
	// to end a long wait.
	waitGrace = 15 * time.Second
	// maxSnooze keeps within what the job queue wakes up on time for.
	maxSnooze = 5 * time.Second
)

// errReplaced is why a credential that was refused is not the end.
var errReplaced = errors.New("its credential was replaced meanwhile")

// ofCredential reports whether a failure is one that another credential may not
// meet.
func ofCredential(failure *fleet.Failure) bool {
	switch failure.Reason {
	case fleet.ReasonUnauthorized, fleet.ReasonForbidden, fleet.ReasonAnotherCluster:
		return true
	}
	return false
}

// replaced reports whether the cluster has another credential than the one that
// the work began with.
func (r *run) replaced(ctx context.Context) bool {
	// A mounted file may have changed a moment ago; whether it makes a target
	// does not matter here.
	_, _ = r.Targets.CheckTarget(ctx, r.op.ClusterID)
	c, err := r.Store.Cluster(ctx, r.op.ClusterID)
	if err != nil {
		return false
	}
	then := &r.cluster
	return c.CredentialHash != then.CredentialHash || c.CredentialMode != then.CredentialMode ||
		c.KubeconfigPath != then.KubeconfigPath || c.Context != then.Context || c.Cloud != then.Cloud || c.Allows != then.Allows
}

// asking remembers since when this process has asked for what operations are to do
// next: the time in which nobody asked, because the machine was down or
// the process that did has ended, says nothing about the cluster.
type asking struct {
	mu    sync.Mutex
	began map[string]asked // by operation
	last  time.Time        // of all questions
}

func newAsking() *asking { return &asking{began: map[string]asked{}} }

type asked struct {
	step        fleet.StepName
	first, last time.Time
}

// askedNoMore is how long after the last question the asking is over. A question
// may take half a minute to fail, and the next one comes a snooze later. Where the
// workers have more operations than they get through in that time, it is what a
// longer pause between the questions for one of them counts.
const askedNoMore = time.Minute

// since returns when the asking for a step began, which is now if it had not, or
// was over.
func (a *asking) since(operation string, step fleet.StepName) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if paused(a.last, now) > askedNoMore {
		clear(a.began)
	}
	a.last = now
	maps.DeleteFunc(a.began, func(_ string, before asked) bool { return paused(before.last, now) > askedAtMost })
	question, ok := a.began[operation]
	if !ok || question.step != step {
		question = asked{step: step, first: now}
	} else if pause := now.Sub(question.last); pause > askedNoMore {
		question.first = question.first.Add(pause - askedNoMore)
	}
	question.last = now
	a.began[operation] = question
	return question.first
}

// paused is the time from one question to the next by the time of day, which goes
// on while a machine sleeps.
func paused(before, now time.Time) time.Duration { return now.Round(0).Sub(before.Round(0)) }

// hindered returns for how long a step has been hindered, and whether that is the
// end of it. One that waits for the cluster has all of its deadline, and still
// ends only when this process has asked in vain itself.
func (r *run) hindered(step *fleet.Step) (hindered time.Duration, over bool) {
	began := time.Since(step.StartedAt)
	asked := min(began, time.Since(r.asking.since(r.op.ID, step.Name)))
	switch {
	case waits(step.Name):
		return asked, asked > r.AskedFor && began > r.deadline(step.Name)
	case began > askedAtMost:
		return began, true
	default:
		return asked, asked > r.AskedFor
	}
}

// waits reports whether a step only waits for the cluster.
func waits(name fleet.StepName) bool {
	return name == fleet.StepRollout || name == fleet.StepGone || name == fleet.StepAddress
}

// retry notes a hindrance that may pass, and ends the operation when it has
// lasted for the step's deadline.
func (r *run) retry(ctx context.Context, step *fleet.Step, cause error, result fleet.StepResult) (time.Duration, error) {
	waited, over := r.hindered(step)
	if over {
		return 0, r.fail(ctx, &fleet.Failure{
			Reason:  fleet.ReasonUnreachable,
			Message: fmt.Sprintf("The cluster gave no usable answer for %s: %s", waited.Round(time.Second), words(cause)),
			Remedy:  "Look at the cluster's page: its test says what is wrong. Then try again; what was made so far is kept.",
		}, result)
	}
	if err := r.hinder(ctx, step, words(cause), result.Events); err != nil {
		return 0, err
	}
	return min(maxSnooze, max(500*time.Millisecond, waited/4)), nil
}

// mayPass reports whether a failure is a refusal of the credential that has not
// lasted yet.
func (r *run) mayPass(failure *fleet.Failure) bool {
	if failure.Reason != fleet.ReasonForbidden && failure.Reason != fleet.ReasonUnauthorized {
		return false
	}
	if r.refused.IsZero() {
		r.refused = time.Now()
	}
	return time.Since(r.refused) < r.RefusedFor
}

// askAgain notes a refusal that may pass, and returns when it is time for the
// next try. The hold is kept, because it is not for long.
func (r *run) askAgain(ctx context.Context, step *fleet.Step, failure *fleet.Failure, result fleet.StepResult) error {
	if err := r.hinder(ctx, step, failure.Message, result.Events); err != nil {
		return err
	}
	r.said = append(r.said, result.Events...)
	lasted := time.Since(r.refused)
	pause := time.NewTimer(min(max(500*time.Millisecond, lasted/4), max(r.RefusedFor-lasted, 0)))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-r.wanted.Done():
	case <-ctx.Done():
	}
	return nil
}

// unsaid returns the events that were not told by a try just before.
func (r *run) unsaid(events []fleet.Event) []fleet.Event {
	if len(r.said) == 0 {
		return events
	}
	return slices.DeleteFunc(events, func(e fleet.Event) bool {
		return slices.ContainsFunc(r.said, func(before fleet.Event) bool {
			before.At = e.At
			return before == e
		})
	})
}

// hinder writes what a step waits for, and what has happened meanwhile.
func (r *run) hinder(ctx context.Context, step *fleet.Step, hindrance string, events []fleet.Event) error {
	c := fleet.Change{Events: events}
	if message := "Waiting for the cluster: " + hindrance; step.Message != message {
		step.Message = message
		c.Steps = []fleet.Step{*step}
	}
	return r.recordAny(ctx, c)
}

// words are what a person may read of a hindrance.
func words(err error) string {
	if e := (*fleet.Error)(nil); errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// wait notes how far a long wait is, when that is new.
func (r *run) wait(ctx context.Context, step *fleet.Step, result fleet.StepResult) (time.Duration, error) {
	limit := r.deadline(step.Name)
	watched := fleet.StepRequest{Step: *step, Watched: r.watching.since(r.op.ID, step.Name)}
	if time.Since(step.StartedAt) > limit && time.Since(watched.Patience()) > waitGrace {
		return 0, r.fail(ctx, &fleet.Failure{
			Reason:  fleet.ReasonDeadline,
			Message: fmt.Sprintf("%s was not done within %s: %s", step.Name, limit.Round(time.Second), result.Message),
			Remedy:  "Look at the events and the logs of its pods, then try again.",
		}, result)
	}
	c := fleet.Change{Events: result.Events}
	if result.Message != "" && step.Message != result.Message {
		step.Message = result.Message
		c.Steps = []fleet.Step{*step}
	}
	// Long waits come back rarely, young ones soon.
	return min(maxSnooze, max(200*time.Millisecond, time.Since(step.StartedAt)/20)), r.recordAny(ctx, c)
}

// deadline is the longest that a step may take, all its slices together.
func (r *run) deadline(name fleet.StepName) time.Duration {
	switch name {
	case fleet.StepRollout:
		return fleet.RolloutDeadline + waitGrace
	case fleet.StepGone:
		return fleet.GoneDeadline + waitGrace
	case fleet.StepAddress:
		return cmp.Or(r.cluster.Exposure.LoadBalancerTimeout, fleet.DefaultLoadBalancerTimeout) + waitGrace
	default:
		return r.AskedFor
	}
}
