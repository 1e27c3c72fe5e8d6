package operate_test

import (
	"context"
	"testing"
	"time"

	"portolan/internal/fleet"
)

func TestARefusedCredentialIsNotTheEndIfItWasReplaced(t *testing.T) {
	t.Parallel()
	for _, refusal := range append(refusals, &fleet.Failure{Reason: fleet.ReasonAnotherCluster, Message: "It leads to another cluster."}) {
		t.Run(refusal.Reason, func(t *testing.T) {
			t.Parallel()
			mayBeReplaced(t, refusal)
		})
	}
}

func mayBeReplaced(t *testing.T, refusal *fleet.Failure) {
	b := setup(t)
	b.refusedFor(patience)
	b.adapter.script(fleet.StepRollout, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		if r.Cluster.CredentialHash == "another" {
			return succeeds(ctx, r)
		}
		b.exec(`UPDATE clusters SET credential_hash = 'another' WHERE id = $1`, r.Cluster.ID)
		return fleet.StepResult{}, refusal
	})
	b.deploy("web")
	if again, err := b.work(); again == 0 || err != nil {
		t.Fatalf("it is not tried again: %s, %v", again, err)
	}
	b.ends(fleet.OperationSucceeded)

	b.tested(fleet.TestOK)
	b.refusedFor(time.Nanosecond)
	b.adapter.script(fleet.StepRestart, fails(refusal))
	b.deploy("other")
	w := b.ends(fleet.OperationSucceeded).WorkloadID
	if _, err := b.Act(t.Context(), operator, w, fleet.VerbRestart, nil); err != nil {
		t.Fatal(err)
	}
	if op := b.ends(fleet.OperationFailed); op.Failure.Reason != refusal.Reason {
		t.Errorf("it failed with %+v", op.Failure)
	}
}
