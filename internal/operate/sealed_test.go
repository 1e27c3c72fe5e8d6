package operate_test

import (
	"strings"
	"testing"

	"portolan/internal/fleet"
	"portolan/internal/operate"
)

// TestSecretsBelongToTheirRelease: the sealed secrets of one release do not open
// as those of another, but those of an earlier time, bound to the workload
// alone, still do.
func TestSecretsBelongToTheirRelease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web", "secret_env", "TOKEN=one")
	_, err := b.Update(t.Context(), operator, id, deployForm("web", "secret_env", "TOKEN=two"))
	b.must(err)
	b.ends(fleet.OperationSucceeded)

	_, err = b.db.Pool().Exec(t.Context(), `
		UPDATE releases SET sealed_secrets = (SELECT sealed_secrets FROM releases WHERE workload_id = $1 AND number = 1)
		WHERE workload_id = $1 AND number = 2`, id)
	b.must(err)
	_, err = b.Update(t.Context(), operator, id, deployForm("web", "secret_env", "TOKEN="))
	if shown := shownAs(t, err, fleet.CodeUnavailable); !strings.Contains(shown.Message, "release 2") || !strings.Contains(shown.Message, "wrong") {
		t.Errorf("message %q", shown.Message)
	}
	_, err = b.Act(t.Context(), operator, id, fleet.VerbRedeploy, nil)
	b.must(err)
	if op := b.ends(fleet.OperationFailed); op.Failure.Reason != fleet.ReasonSecretsUnopened {
		t.Errorf("failure %+v", op.Failure)
	}

	_, err = b.db.Pool().Exec(t.Context(), `UPDATE releases SET sealed_secrets = $2 WHERE workload_id = $1 AND number = 2`,
		id, []byte(fleet.PurposeReleaseSecrets+"/"+id+`:{"TOKEN":"FORMER"}`))
	b.must(err)
	_, err = b.Update(t.Context(), operator, id, deployForm("web", "secret_env", "TOKEN="))
	b.must(err)
	b.ends(fleet.OperationSucceeded)
	last := b.adapter.requests(fleet.StepObjects)
	if r := last[len(last)-1]; r.Secrets["TOKEN"] != "FORMER" {
		t.Errorf("secrets %v", r.Secrets)
	}
}

// TestALostKeyIsNotTheEndOfAWorkload: whatever applies no secret does without
// their values, and an update whose values are all new does without the old ones.
func TestALostKeyIsNotTheEndOfAWorkload(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web", "secret_env", "TOKEN=one\nOTHER=two")
	b.Operator = b.another(func(o *operate.Options) { o.Sealer = sealer{key: "k2"} })
	b.act(id, fleet.VerbScale, fleet.WorkloadForm{"replicas": "2"})
	b.act(id, fleet.VerbRestart, nil)
	if r := b.adapter.requests(fleet.StepRestart)[0]; r.Secrets != nil {
		t.Errorf("secrets that cannot be opened are %v", r.Secrets)
	}
	b.act(id, fleet.VerbStop, nil)
	b.act(id, fleet.VerbStart, nil)
	_, err := b.Act(t.Context(), operator, id, fleet.VerbRedeploy, nil)
	b.must(err)
	if op := b.ends(fleet.OperationFailed); op.Failure.Reason != fleet.ReasonSecretsUnopened {
		t.Errorf("failure %+v", op.Failure)
	}
	_, err = b.Update(t.Context(), operator, id, deployForm("web", "secret_env", "TOKEN=three\nOTHER="))
	wantCode(t, err, fleet.CodeUnavailable)
	_, err = b.Update(t.Context(), operator, id, deployForm("web", "secret_env", "TOKEN=three\nOTHER=four"))
	b.must(err)
	b.ends(fleet.OperationSucceeded)
	_, err = b.db.Pool().Exec(t.Context(), `UPDATE releases SET sealed_key_id = 'k0'`)
	b.must(err)
	b.act(id, fleet.VerbDelete, fleet.WorkloadForm{"confirm": "web"})
}
