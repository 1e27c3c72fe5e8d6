package operate_test

import (
	"context"
	"testing"
	"time"

	"portolan/internal/fleet"
)

func TestARefusedCredentialIsNotTheEndIfItWasReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	unauthorized := &fleet.Failure{Reason: fleet.ReasonUnauthorized, Message: "The API server does not accept the credential."}
	b.adapter.script(fleet.StepRollout, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		if r.Cluster.CredentialHash == "another" {
			return succeeds(ctx, r)
		}
		b.exec(`UPDATE clusters SET credential_hash = 'another' WHERE id = $1`, r.Cluster.ID)
		return fleet.StepResult{}, unauthorized
	})
	b.deploy("web")
	if again, err := b.work(); again == 0 || err != nil {
		t.Fatalf("it is not tried again: %s, %v", again, err)
	}
	b.ends(fleet.OperationSucceeded)

	b.tested(fleet.TestOK)
	b.refusedFor(time.Nanosecond)
	b.adapter.script(fleet.StepRestart, fails(unauthorized))
	b.deploy("other")
	w := b.ends(fleet.OperationSucceeded).WorkloadID
	if _, err := b.Act(t.Context(), operator, w, fleet.VerbRestart, nil); err != nil {
		t.Fatal(err)
	}
	if op := b.ends(fleet.OperationFailed); op.Failure.Reason != fleet.ReasonUnauthorized {
		t.Errorf("it failed with %+v", op.Failure)
	}
}
