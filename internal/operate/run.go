package operate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"portolan/internal/fleet"
)

const (
	// recordTimeout bounds what is written of the work: a database may be slow,
	// but one that is silent must not hold a worker for good.
	recordTimeout = 30 * time.Second
	// lastTimeout bounds a write that must happen although the context of the
	// work has ended. There are two, and a process that shuts down waits a little
	// longer than for both.
	lastTimeout = 4 * time.Second
)

// Run works on the operation for the bearer of token until it ends or has to
// wait for long. again says after what time to call Run with the same token
// once more; 0 = never.
func (o *Operator) Run(ctx context.Context, operationID string, token int64) (again time.Duration, err error) {
	op, err := o.claim(ctx, operationID, token)
	if errors.Is(err, fleet.ErrFenced) {
		return 0, nil // an old doorbell
	}
	if err != nil {
		return 0, err
	}
	r := &run{Operator: o, op: op, token: token}
	again, err = r.work(ctx)
	if errors.Is(err, fleet.ErrFenced) {
		return 0, nil // taken over: the new holder goes on
	}
	if err != nil || again > 0 {
		// Given up also on an error, so that the next try need not wait for a takeover.
		giveUp, cancel := outliving(ctx)
		defer cancel()
		if giveErr := o.Store.GiveUp(giveUp, operationID, token, again); giveErr != nil && !errors.Is(giveErr, fleet.ErrFenced) {
			err = errors.Join(err, giveErr)
		}
	}
	return again, err
}

// run is one hold of one operation.
type run struct {
	*Operator
	op      fleet.Operation
	token   int64
	cluster fleet.Cluster
	// wanted ends when a cancel was asked for.
	wanted context.Context
	unwant context.CancelFunc
	// refused is since when the credential has been refused at the present step;
	// zero = it has not. said are the events told meanwhile.
	refused time.Time
	said    []fleet.Event
}

func (r *run) work(ctx context.Context) (time.Duration, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.wanted, r.unwant = context.WithCancel(context.WithoutCancel(ctx))
	defer r.unwant()
	if r.op.CancelRequested {
		return 0, r.cancel(ctx, fleet.StepResult{})
	}
	go r.beat(ctx, stop)

	until := time.Now().Add(r.Slice)
	request, failure, err := r.prepare(ctx)
	if err != nil {
		return 0, err
	}
	if failure != nil {
		return 0, r.fail(ctx, failure, fleet.StepResult{})
	}
	r.cluster = request.Cluster
	for {
		step := r.op.NextStep()
		if step == nil {
			return 0, r.record(ctx, fleet.Change{Finish: fleet.OperationSucceeded})
		}
		if r.wanted.Err() != nil {
			return 0, r.cancel(ctx, fleet.StepResult{})
		}
		if step.State == fleet.StepPending {
			step.State, step.StartedAt = fleet.StepRunning, time.Now()
			if err := r.record(ctx, fleet.Change{Steps: []fleet.Step{*step}}); err != nil {
				return 0, err
			}
		}
		request.Operation, request.Step = r.op, *step
		request.Watched = r.watching.since(r.op.ID, step.Name)
		result, err := r.do(ctx, request, time.Until(until))
		result.Events = r.unsaid(result.Events)
		done := err == nil && result.Done
		if cause := context.Cause(ctx); cause != nil && !done {
			return 0, cause
		}
		var failed *fleet.Failure
		switch {
		case done:
			if err := r.succeed(ctx, step, result, &request.Workload); err != nil || r.op.State.Finished() {
				return 0, err
			}
			request.Pinned = fleet.ClusterIdentity{} // compared; once for a hold is enough
			r.refused, r.said = time.Time{}, nil
		case errors.As(err, &failed) && ofCredential(failed) && r.replaced(ctx):
			return r.retry(ctx, step, errReplaced, result)
		case errors.As(err, &failed) && r.mayPass(failed):
			if err := r.askAgain(ctx, step, failed, result); err != nil {
				return 0, err
			}
			until = time.Now().Add(r.Slice) // without time to ask, the answer would be that it is not done yet
		case errors.As(err, &failed):
			return 0, r.fail(ctx, failed, result)
		case r.wanted.Err() != nil:
			return 0, r.cancel(ctx, result)
		case err != nil:
			return r.retry(ctx, step, err, result)
		default:
			return r.wait(ctx, step, result)
		}
	}
}

// do works at a step. A cancel ends the steps that only wait at once; those
// that change something come to their end first.
func (r *run) do(ctx context.Context, request fleet.StepRequest, slice time.Duration) (result fleet.StepResult, err error) {
	if waits(request.Step.Name) {
		var end context.CancelFunc
		ctx, end = context.WithCancel(ctx)
		defer end()
		defer context.AfterFunc(r.wanted, end)()
	}
	defer func() {
		// Tried again it would only happen again: the person who waits is told.
		if p := recover(); p != nil {
			r.Logger.ErrorContext(ctx, "panic in a step", "operation", r.op.ID, "step", request.Step.Name, "panic", p, "stack", string(debug.Stack()))
			err = &fleet.Failure{
				Reason: fleet.ReasonInternal, Message: "Portolan itself failed at this step.",
				Remedy: "The log of its worker says where; please report that. What was made so far is kept.",
			}
		}
	}()
	return r.Adapter.Do(ctx, request, slice)
}

// beat shows that the holder lives, hears of a cancel, and ends the work of a
// holder that was taken over, or must be soon because it cannot be heard.
func (r *run) beat(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(r.Heartbeat)
	defer ticker.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		limited, cancel := context.WithTimeout(ctx, r.Silence/3)
		wanted, err := r.Store.Heartbeat(limited, r.op.ID, r.token)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, fleet.ErrFenced):
			stop(err)
			return
		case err != nil && time.Since(heard) > r.Silence:
			stop(fmt.Errorf("no sign of life for %s: %w", time.Since(heard).Round(time.Second), err))
			return
		case err != nil:
			r.Logger.WarnContext(ctx, "heartbeat", "operation", r.op.ID, "err", err)
		default:
			heard = time.Now()
			if wanted {
				r.unwant()
			}
		}
	}
}

// prepare gathers what the steps need. A Failure ends the operation.
func (r *run) prepare(ctx context.Context) (fleet.StepRequest, *fleet.Failure, error) {
	var q fleet.StepRequest
	state, err := r.Store.Workload(ctx, r.op.WorkloadID)
	if err != nil {
		return q, missing(err), unlessMissing(err)
	}
	q.Workload = state.Workload
	if (r.op.Verb == fleet.VerbDeploy || r.op.Params.First) && len(r.op.Steps) > 0 && r.op.Steps[0].State == fleet.StepPending {
		status, err := r.Targets.CheckTarget(ctx, r.op.ClusterID)
		if e := (*fleet.Error)(nil); errors.As(err, &e) {
			return q, &fleet.Failure{
				Reason: fleet.ReasonTargetChanged, Remedy: e.Remedy,
				Message: "It was a target when this was asked for, but is none now. " + e.Message + " Nothing was made there.",
			}, nil
		} else if err != nil {
			return q, nil, err
		}
		q.Cluster = status.Cluster
	} else {
		var err error
		if q.Cluster, err = r.Store.Cluster(ctx, r.op.ClusterID); err != nil {
			return q, nil, err
		}
	}
	release, err := r.Store.Release(ctx, q.Workload.ID, q.Workload.Release)
	if err != nil {
		return q, missing(err), unlessMissing(err)
	}
	q.Spec = release.Spec
	if q.Secrets, err = r.openSecrets(release); err != nil {
		var shown *fleet.Error
		if !errors.As(err, &shown) {
			return q, nil, err
		}
		if r.op.Has(fleet.StepObjects) {
			return q, &fleet.Failure{Reason: fleet.ReasonSecretsUnopened, Message: shown.Message, Remedy: shown.Remedy}, nil
		}
		q.Secrets = nil // it applies none, and must be possible also when the key is lost
	}
	if q.Pinned, err = r.Store.PinnedIdentity(ctx, r.op.ClusterID); err != nil {
		return q, nil, err
	}
	q.Installation, err = r.Store.Installation(ctx)
	return q, nil, err
}

// missing is the Failure of an operation whose rows are not there, which no
// later try finds.
func missing(err error) *fleet.Failure {
	if e := (*fleet.Error)(nil); errors.As(err, &e) && e.Code == fleet.CodeNotFound {
		return &fleet.Failure{Reason: fleet.ReasonInternal, Message: e.Message, Remedy: "Forget the workload and deploy it anew."}
	}
	return nil
}

func unlessMissing(err error) error {
	if missing(err) != nil {
		return nil
	}
	return err
}

// succeed ends a step and, with the last one, the operation.
func (r *run) succeed(ctx context.Context, step *fleet.Step, result fleet.StepResult, w *fleet.Workload) error {
	step.State, step.Message, step.FinishedAt = fleet.StepSucceeded, result.Message, time.Now()
	if result.Skipped {
		step.State = fleet.StepSkipped
	}
	c := fleet.Change{Steps: []fleet.Step{*step}, Events: result.Events, Replicas: result.Replicas}
	if step.Name == fleet.StepReplicas {
		switch r.op.Verb {
		case fleet.VerbStop, fleet.VerbStart:
			stopped := r.op.Verb == fleet.VerbStop
			c.Stopped, w.Stopped = &stopped, stopped
		case fleet.VerbScale:
			if !result.Skipped {
				c.Replicas = &r.op.Params.Replicas
			}
		}
	}
	if c.Replicas != nil {
		w.Replicas = *c.Replicas
	}
	next := r.op.NextStep()
	if next != nil && r.wanted.Err() != nil {
		return r.record(ctx, c)
	}
	if next != nil {
		// The next step begins in the same transaction: one write fewer on the way.
		next.State, next.StartedAt = fleet.StepRunning, step.FinishedAt
		c.Steps = append(c.Steps, *next)
		return r.record(ctx, c)
	}
	c.Finish, c.Observation = fleet.OperationSucceeded, result.Observation
	switch r.op.Verb {
	case fleet.VerbDeploy, fleet.VerbUpdate, fleet.VerbRollback, fleet.VerbRedeploy, fleet.VerbStart:
		// What is stopped has not been up yet, and what an update that failed never
		// applied is not what a start brings up.
		if o := result.Observation; !w.Stopped && o != nil && o.Release == w.Release {
			c.ReleaseSucceeded = w.Release
		}
	case fleet.VerbDelete:
		c.Removed, c.Observation = true, nil
	}
	return r.record(ctx, c)
}

// fail ends the operation: the present step failed, those after it are skipped.
func (r *run) fail(ctx context.Context, failure *fleet.Failure, result fleet.StepResult) error {
	c := fleet.Change{Finish: fleet.OperationFailed, Failure: failure, Events: result.Events, Observation: result.Observation}
	c.Steps = r.close(fleet.StepFailed, failure.Message)
	return r.record(ctx, c)
}

// cancel ends the operation at a point between two slices of work.
func (r *run) cancel(ctx context.Context, result fleet.StepResult) error {
	c := fleet.Change{Finish: fleet.OperationCancelled, Events: result.Events, Observation: result.Observation}
	c.Steps = r.close(fleet.StepSkipped, fleet.MessageCancelled)
	return r.record(ctx, c)
}

// close gives the step at work its last state, and skips those after it.
func (r *run) close(state fleet.StepState, message string) []fleet.Step {
	var changed []fleet.Step
	first := true
	for i := range r.op.Steps {
		s := &r.op.Steps[i]
		if s.State != fleet.StepPending && s.State != fleet.StepRunning {
			continue
		}
		now := time.Now()
		if first && (s.State == fleet.StepRunning || state == fleet.StepFailed) {
			if s.StartedAt.IsZero() {
				s.StartedAt = now
			}
			s.State, s.Message = state, message
		} else {
			s.State, s.Message = fleet.StepSkipped, fleet.MessageNotReached
		}
		s.FinishedAt, first = now, false
		changed = append(changed, *s)
	}
	return changed
}

// recordAny is record, unless there is nothing to write.
func (r *run) recordAny(ctx context.Context, c fleet.Change) error {
	if len(c.Steps) == 0 && len(c.Events) == 0 {
		return nil
	}
	return r.record(ctx, c)
}

// record writes a change even when the process is shutting down: what was done
// in the cluster must not be forgotten.
func (r *run) record(ctx context.Context, c fleet.Change) error {
	ctx, cancel := outliving(ctx)
	defer cancel()
	if err := r.Store.Record(ctx, r.op.ID, r.token, c); err != nil {
		return err
	}
	if c.Finish != "" {
		r.op.State = c.Finish
		r.Logger.InfoContext(ctx, "operation ended", "operation", r.op.ID, "verb", r.op.Verb, "workload", r.op.WorkloadName, "state", c.Finish)
	}
	return nil
}

// claim does not wait for a database that has vanished without a word: another
// connection may reach its successor.
func (o *Operator) claim(ctx context.Context, operationID string, token int64) (fleet.Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	return o.Store.Claim(ctx, operationID, token)
}

// outliving returns a context for a write, that ends after recordTimeout, or
// lastTimeout after ctx does.
func outliving(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(lastTimeout):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() {
		stop()
		cancel()
	}
}
