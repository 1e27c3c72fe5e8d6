package operate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/operate"
)

func TestADeployGoesStepByStep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deploy("web", "secret_env", "TOKEN=hunter2")
	op := b.ends(fleet.OperationSucceeded)
	if got := states(op); got != "namespace succeeded, objects succeeded, rollout succeeded, address succeeded" {
		t.Fatal(got)
	}
	w := b.workload(op.WorkloadID)
	if phase, why := fleet.PhaseOf(w.Operation, w.Observation, time.Now()); phase != fleet.PhaseRunning {
		t.Fatalf("the page shows %s: %s", phase, why)
	}
	first, second := b.adapter.requests(fleet.StepNamespace)[0], b.adapter.requests(fleet.StepObjects)[0]
	if first.Pinned != (fleet.ClusterIdentity{Namespace: "kube-system", UID: "uid-1", Destination: "d"}) || second.Pinned.UID != "" {
		t.Fatalf("pinned to %+v, then %+v: once for a hold is wanted", first.Pinned, second.Pinned)
	}
	if second.Secrets["TOKEN"] != "HUNTER2" { // as the test's sealer has it
		t.Fatalf("secrets %v", second.Secrets)
	}
	// An old doorbell does nothing.
	if again, err := b.work(); again != 0 || err != nil || len(b.adapter.requests(fleet.StepNamespace)) != 1 {
		t.Fatalf("worked again: %s, %v", again, err)
	}
}

func TestB1AWorkerLooksAtItsTargetAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deploy("web")
	b.tested(fleet.TestFailed)
	op := b.ends(fleet.OperationFailed)
	if op.Failure.Reason != fleet.ReasonTargetChanged || len(b.adapter.done) != 0 {
		t.Fatalf("failure %+v after %d steps", op.Failure, len(b.adapter.done))
	}
	// Everything but a deploy may go on there.
	b.tested(fleet.TestOK)
	id := b.running("other")
	b.tested(fleet.TestFailed)
	b.act(id, fleet.VerbRestart, nil)
}

// TestB1TryingARefusedDeployAgainIsADeploy: an update or a redeploy of what was
// never made makes its first objects, and that only where a deploy may.
func TestB1TryingARefusedDeployAgainIsADeploy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.deploy("web")
	b.tested(fleet.TestFailed)
	b.ends(fleet.OperationFailed)
	again := map[fleet.Verb]func() error{
		fleet.VerbUpdate: func() error {
			_, err := b.Update(t.Context(), operator, op.WorkloadID, deployForm("web"))
			return err
		},
		fleet.VerbRedeploy: func() error {
			_, err := b.Act(t.Context(), operator, op.WorkloadID, fleet.VerbRedeploy, nil)
			return err
		},
	}
	for verb, try := range again {
		b.tested(fleet.TestFailed)
		if shown := shownAs(t, try(), fleet.CodeConflict); !strings.Contains(shown.Message, "no target") {
			t.Errorf("%s: %s", verb, shown.Message)
		}
		b.wantRefused("workload."+string(verb), "workload/"+op.WorkloadID)
		// It fails the test again between the request and the work.
		b.tested(fleet.TestOK)
		b.must(try())
		b.tested(fleet.TestFailed)
		if ended := b.ends(fleet.OperationFailed); ended.Failure.Reason != fleet.ReasonTargetChanged || !ended.Has(fleet.StepNamespace) {
			t.Errorf("%s: %+v, steps %s", verb, ended.Failure, states(ended))
		}
	}
	if n := len(b.adapter.done); n != 0 {
		t.Fatalf("%d steps were worked at", n)
	}

	b.tested(fleet.TestOK)
	b.must(again[fleet.VerbUpdate]())
	if got := states(b.ends(fleet.OperationSucceeded)); got != "namespace succeeded, objects succeeded, rollout succeeded, address succeeded" {
		t.Error(got)
	}
	// What has been up may be updated wherever it is.
	b.tested(fleet.TestFailed)
	b.exec(`DELETE FROM observations`)
	for _, try := range again {
		b.must(try())
		if ended := b.ends(fleet.OperationSucceeded); ended.Params.First {
			t.Errorf("%s counts as the first", ended.Verb)
		}
	}
}

func TestShutdownHandsTheOperationOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began := make(chan fleet.StepRequest, 1)
	b.adapter.script(fleet.StepRollout, waits(began))
	b.deploy("web")
	ctx, shutDown := context.WithCancel(t.Context())
	ended := b.background(ctx, b.Operator)
	wait(t, "the rollout", began)
	shutDown()
	if err := wait(t, "the end of the work", ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("ended with %v, which the queue would not take for unfinished", err)
	}
	// Another process goes on with the same token at once: no takeover.
	b.adapter.script(fleet.StepRollout, succeeds)
	op := b.ends(fleet.OperationSucceeded)
	if op.Token != 1 || len(b.adapter.requests(fleet.StepObjects)) != 1 {
		t.Fatalf("token %d, objects applied %d times", op.Token, len(b.adapter.requests(fleet.StepObjects)))
	}
}

func TestWhatIsDoneAtAShutdownIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, shutDown := context.WithCancel(t.Context())
	b.adapter.script(fleet.StepObjects, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		shutDown()
		return succeeds(ctx, r)
	})
	began := make(chan fleet.StepRequest, 1)
	b.adapter.script(fleet.StepRollout, waits(began))
	op := b.deploy("web")
	if err := wait(t, "the end of the work", b.background(ctx, b.Operator)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := states(b.operation(op.ID)); got != "namespace succeeded, objects succeeded, rollout running, address pending" {
		t.Fatal(got)
	}
}

func TestB24ASilentHolderIsTakenOverAndRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.deploy("web")
	// One that works on without being heard, as when its process stood still.
	release, began := make(chan struct{}), make(chan fleet.StepRequest, 1)
	b.adapter.script(fleet.StepObjects, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		began <- r
		<-release
		return succeeds(ctx, r)
	})
	deaf := b.another(func(o *operate.Options) { o.Heartbeat = time.Hour })
	ended := b.background(t.Context(), deaf)
	wait(t, "the objects", began)
	b.exec(`UPDATE operations SET heartbeat_at = now() - interval '1 minute'`)
	if n, err := b.db.TakeOver(t.Context(), 10*time.Second); n != 1 || err != nil {
		t.Fatalf("took over %d, %v", n, err)
	}
	b.adapter.script(fleet.StepObjects, succeeds)
	b.ends(fleet.OperationSucceeded)
	close(release)
	b.must(wait(t, "the old holder", ended))
	op = b.operation(op.ID)
	if op.Token != 2 || op.State != fleet.OperationSucceeded {
		t.Fatalf("token %d, %s", op.Token, op.State)
	}
}

func TestAHolderThatHearsOfItsTakeoverStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began := make(chan fleet.StepRequest, 1)
	b.adapter.script(fleet.StepObjects, waits(began)) // ends only with its context
	b.deploy("web")
	ended := b.background(t.Context(), b.Operator)
	wait(t, "the objects", began)
	b.exec(`UPDATE operations SET token = token + 1, heartbeat_at = NULL`)
	b.must(wait(t, "the end of the work", ended))
}

func TestB25CancelEndsAWaitAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began := make(chan fleet.StepRequest, 1)
	b.adapter.script(fleet.StepRollout, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		began <- r
		<-ctx.Done()
		result, _ := succeeds(ctx, r)
		result.Done, result.Observation.Available = false, 0
		return result, ctx.Err()
	})
	op := b.deploy("web")
	ended := b.background(t.Context(), b.Operator)
	wait(t, "the rollout", began)
	b.must(b.Cancel(t.Context(), operator, op.ID))
	b.must(wait(t, "the end of the work", ended))
	op = b.operation(op.ID)
	if got := states(op); op.State != fleet.OperationCancelled || got != "namespace succeeded, objects succeeded, rollout skipped, address skipped" {
		t.Fatalf("%s: %s", op.State, got)
	}
	if op.Steps[2].Message == op.Steps[3].Message {
		t.Fatalf("it does not say what was begun: %q", op.Steps[2].Message)
	}
	if w := b.workload(op.WorkloadID); w.Observation == nil || w.Observation.Available != 0 {
		t.Fatalf("observation %+v", w.Observation)
	}
	wantCode(t, b.Cancel(t.Context(), operator, op.ID), fleet.CodeConflict)
	b.wantRefused("operation.cancel", "operation/"+op.ID)
}

func TestB25CancelLetsAChangeComeToItsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began, release := make(chan fleet.StepRequest, 1), make(chan struct{})
	b.adapter.script(fleet.StepObjects, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		began <- r
		select {
		case <-release:
			return succeeds(ctx, r)
		case <-ctx.Done():
			return fleet.StepResult{}, ctx.Err()
		}
	})
	op := b.deploy("web")
	ended := b.background(t.Context(), b.Operator)
	wait(t, "the objects", began)
	b.must(b.Cancel(t.Context(), operator, op.ID))
	heard := make(chan struct{})
	go func() { // two heartbeats later the holder knows
		defer close(heard)
		var before, now time.Time
		for range 3 {
			for now.Equal(before) {
				if b.db.Pool().QueryRow(t.Context(), `SELECT heartbeat_at FROM operations`).Scan(&now) != nil {
					return
				}
			}
			before = now
		}
	}()
	wait(t, "heartbeats", heard)
	close(release)
	b.must(wait(t, "the end of the work", ended))
	if got := states(b.operation(op.ID)); got != "namespace succeeded, objects succeeded, rollout skipped, address skipped" {
		t.Fatal(got)
	}
}

func TestB25CancelBeforeAnythingWasDone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.deploy("web")
	b.must(b.Cancel(t.Context(), operator, op.ID))
	b.exec(`UPDATE clusters SET enabled = false`) // would fail it otherwise
	op = b.ends(fleet.OperationCancelled)
	if len(b.adapter.done) != 0 || op.Steps[0].Message != "not reached" {
		t.Fatalf("%d steps, %q", len(b.adapter.done), op.Steps[0].Message)
	}
}

func TestAHindranceIsWaitedForUntilTheDeadline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.adapter.script(fleet.StepNamespace, fails(&fleet.Error{
		Code: fleet.CodeUnavailable, Message: "Cluster c1 cannot be reached.", Err: errors.New("inner s3cret"),
	}))
	op := b.deploy("web")
	again, err := b.work()
	b.must(err)
	if got := b.operation(op.ID); again <= 0 || again > 5*time.Second || got.State != fleet.OperationRunning ||
		got.Steps[0].Message != "Waiting for the cluster: Cluster c1 cannot be reached." {
		t.Fatalf("again in %s, %s: %q", again, got.State, got.Steps[0].Message)
	}
	// It is let go, so that waiting is not taken for dying.
	b.exec(`UPDATE operations SET heartbeat_at = heartbeat_at - interval '2 hours'`) // if there is one
	if n, err := b.db.TakeOver(t.Context(), time.Hour); n != 0 || err != nil {
		t.Fatalf("took over %d, %v", n, err)
	}
	b.exec(`UPDATE operations SET wake_at = now()`)
	b.Operator = b.another(func(o *operate.Options) { o.AskedFor = time.Nanosecond })
	op = b.ends(fleet.OperationFailed)
	if op.Failure.Reason != fleet.ReasonUnreachable || strings.Contains(op.Failure.Message, "s3cret") ||
		states(op) != "namespace failed, objects skipped, rollout skipped, address skipped" {
		t.Fatalf("failure %+v, %s", op.Failure, states(op))
	}
}

func TestTheTimeInWhichNobodyAskedIsNoHindrance(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.adapter.script(fleet.StepNamespace, fails(errors.New("connection refused")))
	op := b.deploy("web")
	ago := func(interval string) {
		b.exec(`UPDATE operation_steps SET started_at = now() - $1::interval WHERE name = 'namespace'`, interval)
		b.exec(`UPDATE operations SET wake_at = now()`)
	}
	for _, interval := range []string{"0", "30 minutes"} {
		ago(interval)
		b.Operator = b.another() // the one before has died
		again, err := b.work()
		if b.must(err); again == 0 {
			t.Fatalf("it gave up after one question: %+v", b.operation(op.ID).Failure)
		}
	}
	ago("61 minutes") // a process that begins ever again asks no longer than that
	b.ends(fleet.OperationFailed)
}

func TestB12TheWaitForAnAddressHasTheClustersTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s, err := b.db.ClusterStatus(t.Context(), "c1")
	b.must(err)
	c := s.Cluster
	c.Exposure = fleet.Exposure{Mode: fleet.ExposureLoadBalancer, LoadBalancerTimeout: time.Minute}
	b.must(b.db.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}))
	b.tested(fleet.TestOK)
	b.adapter.script(fleet.StepAddress, fails(errors.New("connection refused")))
	b.deploy("web")
	again, err := b.work()
	if b.must(err); again == 0 {
		t.Fatal("it gave up at once")
	}
	late := func() {
		b.exec(`UPDATE operation_steps SET started_at = now() - interval '2 minutes' WHERE name = 'address'`)
		b.exec(`UPDATE operations SET wake_at = now()`)
	}
	late()
	b.Operator = b.another(func(o *operate.Options) { o.AskedFor = time.Nanosecond })
	b.ends(fleet.OperationFailed)

	// Another process takes up the same wait where it was, and asks for a while
	// itself: the machine of the cluster may have been down with it.
	b.deploy("other")
	if again, err := b.work(); again == 0 || err != nil {
		t.Fatalf("it gave up at once (%v)", err)
	}
	began := b.adapter.requests(fleet.StepAddress)
	late()
	b.Operator = b.another()
	if again, err := b.work(); again == 0 || err != nil {
		t.Fatalf("another process gave up at once (%v): %+v", err, b.operation(b.bell().operation).Failure)
	}
	taken := b.adapter.requests(fleet.StepAddress)
	if last := taken[len(taken)-1]; len(taken) != len(began)+1 || time.Since(last.Step.StartedAt) < 2*time.Minute ||
		!last.Resumed(time.Now()) || began[len(began)-1].Resumed(time.Now()) {
		t.Errorf("it was taken up as %+v, watched since %s", last.Step, last.Watched)
	}
}

// TestAWaitThatIsTakenUpLateIsLookedAtFirst: after a machine was down with its
// cluster, what waits there is not over before it could begin again.
func TestAWaitThatIsTakenUpLateIsLookedAtFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer := fails(errors.New("connection refused"))
	b.adapter.script(fleet.StepRollout, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) { return answer(ctx, r) })
	op := b.deploy("web")
	hours := func() {
		t.Helper()
		b.exec(`UPDATE operation_steps SET started_at = now() - interval '8 hours' WHERE name = 'rollout' AND started_at IS NOT NULL`)
		b.exec(`UPDATE operations SET wake_at = now()`)
		if again, err := b.work(); again == 0 || err != nil {
			t.Fatalf("it gave up at once (%v): %+v", err, b.operation(op.ID).Failure)
		}
	}
	hours()
	b.Operator = b.another()
	hours() // the API server does not answer yet
	answer = func(context.Context, fleet.StepRequest) (fleet.StepResult, error) {
		return fleet.StepResult{Message: "0 of 1 available"}, nil
	}
	hours() // the pods do not run yet
	answer = succeeds
	b.exec(`UPDATE operations SET wake_at = now()`)
	b.ends(fleet.OperationSucceeded)
}

func TestAFailureEndsTheOperationAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.adapter.script(fleet.StepRollout, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		result, _ := succeeds(ctx, r)
		result.Done, result.Observation.Available, result.Observation.Health = false, 0, "Failed"
		return result, &fleet.Failure{Reason: "ImagePullBackOff", Message: "The image cannot be pulled."}
	})
	b.deploy("web")
	op := b.ends(fleet.OperationFailed)
	w := b.workload(op.WorkloadID)
	if phase, _ := fleet.PhaseOf(w.Operation, w.Observation, time.Now()); phase != fleet.PhaseFailed || op.Failure.Reason != "ImagePullBackOff" {
		t.Fatalf("phase %s, failure %+v", phase, op.Failure)
	}
}

func TestAPanicInAStepFailsTheOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.adapter.script(fleet.StepObjects, func(context.Context, fleet.StepRequest) (fleet.StepResult, error) { panic("oh") })
	b.deploy("web")
	if op := b.ends(fleet.OperationFailed); op.Failure.Reason != fleet.ReasonInternal {
		t.Fatalf("failure %+v", op.Failure)
	}
}

func TestSecretsThatCannotBeOpenedFailTheOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deploy("web", "secret_env", "TOKEN=hunter2")
	b.Operator = b.another(func(o *operate.Options) { o.Sealer = sealer{locked: true} })
	op := b.ends(fleet.OperationFailed)
	if op.Failure.Reason != fleet.ReasonSecretsUnopened || !strings.Contains(op.Failure.Message, "k1") {
		t.Fatalf("failure %+v", op.Failure)
	}
}
