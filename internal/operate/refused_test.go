package operate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/operate"
)

// refusals are the failures by which an API server that has just started may
// answer.
var refusals = []*fleet.Failure{
	{Reason: fleet.ReasonForbidden, Message: "The cluster's credential may not patch Deployment/web."},
	{Reason: fleet.ReasonUnauthorized, Message: "The API server does not accept the cluster's credential."},
}

func (b *bundle) refusedFor(d time.Duration) {
	b.Operator = b.another(func(o *operate.Options) { o.RefusedFor = d })
}

func TestARefusalOfTheCredentialMayPass(t *testing.T) {
	t.Parallel()
	for _, refusal := range refusals {
		b := setup(t)
		b.refusedFor(patience)
		told := fleet.Event{Type: fleet.EventWarning, Reason: "Kept", Message: "Service/web is left alone"}
		var meanwhile string
		b.adapter.script(fleet.StepObjects, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
			told.At = time.Now()
			switch len(b.adapter.requests(fleet.StepObjects)) {
			case 1:
				return fleet.StepResult{Events: []fleet.Event{told}}, refusal
			default:
				meanwhile = b.operation(r.Operation.ID).Steps[1].Message
				result, err := succeeds(ctx, r)
				result.Events = []fleet.Event{told}
				return result, err
			}
		})
		b.deploy("web")
		op := b.ends(fleet.OperationSucceeded)
		if meanwhile != "Waiting for the cluster: "+refusal.Message {
			t.Errorf("%s: meanwhile the page said %q", refusal.Reason, meanwhile)
		}
		events, err := b.db.EventsSince(t.Context(), op.ID, 0, 100)
		b.must(err)
		n := 0
		for _, e := range events {
			if e.Message == told.Message {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: the same was told %d times", refusal.Reason, n)
		}
	}
}

func TestARefusalOfTheCredentialThatLastsIsTheEnd(t *testing.T) {
	t.Parallel()
	for _, refusal := range refusals {
		b := setup(t)
		b.refusedFor(time.Second)
		b.adapter.script(fleet.StepObjects, fails(refusal))
		b.deploy("web")
		op := b.ends(fleet.OperationFailed)
		if op.Failure.Reason != refusal.Reason || op.Failure.Message != refusal.Message || op.Steps[1].State != fleet.StepFailed {
			t.Errorf("failure %+v", op.Failure)
		}
		if asked := len(b.adapter.requests(fleet.StepObjects)); asked < 2 {
			t.Errorf("%s: asked %d times", refusal.Reason, asked)
		}
	}
}

// A step that only waits answers that it is not done when it has no time to ask.
func TestARefusalThatOutlastsASliceIsTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Operator = b.another(func(o *operate.Options) { o.RefusedFor, o.Slice = 2*time.Second, 100*time.Millisecond })
	b.adapter.script(fleet.StepRollout, fails(refusals[0]))
	op := b.deploy("web")
	for begun := time.Now(); !op.State.Finished() && time.Since(begun) < patience; op = b.operation(op.ID) {
		_, err := b.work() // a busy machine may need a slice for the steps before
		b.must(err)
	}
	if op.State != fleet.OperationFailed || op.Failure.Reason != fleet.ReasonForbidden {
		t.Errorf("%s, failure %+v", op.State, op.Failure)
	}
}

func TestB25CancelEndsTheWaitForARight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.refusedFor(2 * patience)
	asked := make(chan struct{}, 1000)
	b.adapter.script(fleet.StepObjects, func(context.Context, fleet.StepRequest) (fleet.StepResult, error) {
		asked <- struct{}{}
		return fleet.StepResult{}, refusals[0]
	})
	op := b.deploy("web")
	ended := b.background(t.Context(), b.Operator)
	wait(t, "the objects", asked)
	b.must(b.Cancel(t.Context(), operator, op.ID))
	b.must(wait(t, "the end of the work", ended))
	if got := b.operation(op.ID); got.State != fleet.OperationCancelled || !strings.HasPrefix(states(got), "namespace succeeded, objects skipped") {
		t.Fatalf("%s: %s", got.State, states(got))
	}
}
