package registry

import (
	"context"
	"strings"
	"time"

	"portolan/internal/fleet"
)

const (
	// maxTrial bounds the test of a new credential: a person waits for its end.
	maxTrial = 25 * time.Second
	// trialPoll is how often to look whether that one has ended.
	trialPoll = 250 * time.Millisecond
)

// CredentialFields are the fields of a cluster's form that make up its
// credential. Rotating changes these and no others.
var CredentialFields = []string{
	"credential_mode", "kubeconfig_path", "kubeconfig", "context",
	"cloud_credential", "aws_access_key_id", "aws_secret_access_key", "gcp_service_account",
	"azure_tenant_id", "azure_client_id", "azure_client_secret",
	"allow_tls_skip", "allow_proxy",
}

// Rotate tests the credential that the form brings, and takes it in place of
// the present one if it passes and leads to the same cluster. Otherwise the
// present one stays, and the Error says why. The test is returned as far as it
// went; without Checks, none was begun. One that runs is waited for: a cluster
// that hangs is tested for long, and is one to rotate the credential of. It
// returns within a minute.
func (r *Registry) Rotate(ctx context.Context, actor fleet.Actor, id string, form fleet.ClusterForm) (fleet.ConnectionTest, error) {
	test, err := r.rotate(ctx, actor, id, form)
	if err != nil {
		return test, r.refused(ctx, actor, "rotate", id, err)
	}
	return test, nil
}

func (r *Registry) rotate(ctx context.Context, actor fleet.Actor, id string, form fleet.ClusterForm) (fleet.ConnectionTest, error) {
	var test fleet.ConnectionTest
	before, err := r.Store.Cluster(ctx, id)
	if err != nil {
		return test, err
	}
	// Not one part of the present credential is kept: a stored key is never
	// sent to a server that came with another kubeconfig.
	replacing := r.replacing(ctx, before, form)
	c, cred, err := r.read(ctx, replacing, nil)
	if err != nil {
		return test, err
	}
	var cloud fleet.CloudCredential
	if _, typed := replacing.CloudCredential(fleet.CloudIdentity{}, fleet.Problems{}); typed != nil {
		cloud = *typed
	}
	c.Version = before.Version
	raw := []byte(form["kubeconfig"])
	if c.CredentialMode == fleet.CredentialMounted {
		if raw, err = r.Kubeconfigs.Read(c.KubeconfigPath); err != nil {
			return test, atField("kubeconfig_path", err)
		}
		c.CredentialHash = hashOf(raw)
		r.describe(&c, raw)
	}
	deadline := min(r.TestDeadline, maxTrial)
	test = pendingTest(c, fleet.TriggerPerson, actor.Email, deadline)
	test.Trial, test.Watched = true, true
	if err := r.beginTrial(ctx, &test); err != nil {
		return fleet.ConnectionTest{}, err
	}
	defer r.slots.free()
	r.running.Add(1)
	defer r.running.Done()
	// Whoever asked may hang up: what was begun is brought to its end.
	ctx = context.WithoutCancel(ctx)
	known, err := r.Store.KnownIdentity(ctx, id)
	if err != nil {
		r.write(test, func(ctx context.Context) error { return r.Store.DropTest(ctx, test) })
		return fleet.ConnectionTest{}, err
	}
	result := r.try(test, TestRequest{Cluster: c, Kubeconfig: raw, Cloud: cloud, Pinned: known, Deadline: deadline})
	if r.ctx.Err() != nil {
		r.write(test, func(ctx context.Context) error { return r.Store.DropTest(ctx, test) })
		return result, fleet.Unavailable("Portolan is shutting down; the present credential stays.")
	}
	if why := notTaken(result); why != nil {
		result.State = fleet.TestFailed
		r.write(test, func(ctx context.Context) error { return r.Store.SaveTest(ctx, result) })
		return result, why
	}
	entry := r.audit(actor, "rotate", id)
	entry.Diff = difference(before, c)
	if err := r.Store.TakeCredential(ctx, c, cred, result, actor, entry); err != nil {
		r.write(test, func(ctx context.Context) error { return r.Store.DropTest(ctx, test) })
		return result, err
	}
	r.changed(id)
	return result, nil
}

// beginTrial stores a trial as begun and takes a slot for it, once no other test
// of the cluster runs.
func (r *Registry) beginTrial(ctx context.Context, trial *fleet.ConnectionTest) error {
	until := time.NewTimer(r.TrialWait)
	defer until.Stop()
	tick := time.NewTicker(trialPoll)
	defer tick.Stop()
	for {
		if !r.slots.take(true) {
			return fleet.Unavailable("%d tests run already, which is as many as may at a time. Try again in a moment.", r.MaxTests)
		}
		trial.StartedAt = time.Now()
		id, conflict := r.Store.BeginTest(context.WithoutCancel(ctx), *trial)
		if conflict == nil {
			trial.ID = id
			return nil
		}
		r.slots.free()
		if fleet.CodeOf(conflict) != fleet.CodeConflict {
			return conflict
		}
		for running := true; running; {
			select {
			case <-tick.C:
			case <-until.C:
				e := fleet.Conflict("Another test of this cluster has run for longer than %s, so the new credential was not tested, and the present one stays.", r.TrialWait)
				e.Remedy = "Enter it again when that test has ended: the cluster's page shows it."
				return e
			case <-ctx.Done():
				return ctx.Err()
			case <-r.ctx.Done():
				return fleet.Unavailable("Portolan is shutting down; the present credential stays.")
			}
			status, err := r.Store.ClusterStatus(ctx, trial.ClusterID)
			if err != nil {
				return err
			}
			running = status.Running
		}
	}
}

// replacing is the cluster's form with the credential of another one. A mode
// that is not named follows from what was brought; a context that is not named
// stays while the new kubeconfig has it.
func (r *Registry) replacing(ctx context.Context, before fleet.Cluster, typed fleet.ClusterForm) fleet.ClusterForm {
	form := FormOf(before)
	for _, field := range CredentialFields {
		form[field] = typed[field]
	}
	if form["credential_mode"] == "" {
		switch {
		case strings.TrimSpace(form["kubeconfig"]) != "":
			form["credential_mode"] = string(fleet.CredentialEncrypted)
		case form["kubeconfig_path"] != "":
			form["credential_mode"] = string(fleet.CredentialMounted)
		default:
			form["credential_mode"] = string(before.CredentialMode)
		}
	}
	if _, given := typed["context"]; !given && before.Context != "" {
		contexts, err := r.Inspect(ctx, form)
		for _, c := range contexts {
			if err == nil && c.Name == before.Context {
				form["context"] = before.Context
			}
		}
	}
	return form
}

// notTaken says why a tested credential does not take the place of the present
// one, or nil.
func notTaken(t fleet.ConnectionTest) error {
	const stays = "The new credential was not taken, and the present one stays: "
	var e *fleet.Error
	switch check := t.Failed(); {
	case t.State != fleet.TestFailed:
		return nil
	case check != nil:
		e = &fleet.Error{Code: fleet.CodeInvalid, Message: stays + "it failed at " + string(check.Stage) + ". " + check.Message, Remedy: check.Remedy}
	default:
		e = &fleet.Error{Code: fleet.CodeInvalid, Message: stays + "its test failed."}
	}
	e.Problems = fleet.Problems{"credential": strings.TrimPrefix(e.Message, stays)}
	return e
}
