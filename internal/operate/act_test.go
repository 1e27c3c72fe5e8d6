package operate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
	"portolan/internal/operate"
)

func TestB1ADeployToNoTargetIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	refused := func(target string, code fleet.Code) {
		t.Helper()
		_, err := b.Deploy(t.Context(), operator, deployForm("web", "target", target))
		wantCode(t, err, code)
		b.wantRefused("workload.deploy", target)
	}
	refused("k8s:none", fleet.CodeInvalid)
	refused("", fleet.CodeInvalid)
	b.tested(fleet.TestFailed)
	refused("k8s:c1", fleet.CodeConflict)      // it is registered: the reason is told
	refused("k8s:none", fleet.CodeUnavailable) // B9
	if len(b.jobs) != 0 {
		t.Fatalf("jobs %v", b.jobs)
	}
}

func TestB14ScaleIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web")
	b.act(id, fleet.VerbScale, fleet.WorkloadForm{"replicas": "4"})
	if n := b.workload(id).Workload.Replicas; n != 4 {
		t.Fatalf("%d replicas are wanted", n)
	}
	form, _, err := b.Form(t.Context(), id)
	if b.must(err); form["replicas"] != "4" {
		t.Fatalf("the form says %s", form["replicas"])
	}
	// An autoscaler owns the count.
	b.adapter.script(fleet.StepReplicas, skips)
	b.act(id, fleet.VerbScale, fleet.WorkloadForm{"replicas": "2"})
	if n := b.workload(id).Workload.Replicas; n != 4 {
		t.Fatalf("%d replicas are wanted", n)
	}
	for _, n := range []string{"", "0", "-1", "x", "1001"} {
		_, err := b.Act(t.Context(), operator, id, fleet.VerbScale, fleet.WorkloadForm{"replicas": n})
		if shown := shownAs(t, err, fleet.CodeInvalid); shown.Problems["replicas"] == "" {
			t.Fatalf("problems %v", shown.Problems)
		}
	}
}

func TestWhichVerbWhenStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web")
	b.adapter.script(fleet.StepReplicas, stopsAt(3))
	b.act(id, fleet.VerbStop, nil)
	w := b.workload(id)
	if phase, _ := fleet.PhaseOf(w.Operation, w.Observation, time.Now()); !w.Workload.Stopped || w.Workload.Replicas != 3 || phase != fleet.PhaseStopped {
		t.Fatalf("stopped %t, %d replicas, %s", w.Workload.Stopped, w.Workload.Replicas, phase)
	}
	for _, verb := range []fleet.Verb{fleet.VerbRestart, fleet.VerbScale} {
		_, err := b.Act(t.Context(), operator, id, verb, fleet.WorkloadForm{"replicas": "2"})
		if shown := shownAs(t, err, fleet.CodeConflict); !strings.Contains(shown.Remedy, "Start") {
			t.Fatalf("remedy %q", shown.Remedy)
		}
		b.wantRefused("workload."+string(verb), "workload/"+id)
	}
	// An edit of the stopped workload has not been up, and counts for the start.
	_, err := b.Update(t.Context(), operator, id, deployForm("web", "image", "demo:2", "replicas", "5"))
	b.must(err)
	if op := b.ends(fleet.OperationSucceeded); !op.Params.Stopped {
		t.Error("the update does not know that it is of a stopped workload")
	}
	r, err := b.db.Release(t.Context(), id, 2)
	if b.must(err); r.Succeeded {
		t.Fatal("a release that was never up counts as successful")
	}
	b.adapter.script(fleet.StepReplicas, nil)
	if op := b.act(id, fleet.VerbStart, nil); op.Params.Replicas != 5 {
		t.Fatalf("start restores %d", op.Params.Replicas)
	}
	r, err = b.db.Release(t.Context(), id, 2)
	if b.must(err); !r.Succeeded || b.workload(id).Workload.Stopped {
		t.Fatal("the started release does not count as successful")
	}
}

func TestAStartDoesNotMakeAReleaseSuccessfulThatWasNeverApplied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web")
	b.adapter.script(fleet.StepObjects, fails(&fleet.Failure{Reason: fleet.ReasonInvalid, Message: "refused"}))
	_, err := b.Update(t.Context(), operator, id, deployForm("web", "image", "demo:2"))
	b.must(err)
	b.ends(fleet.OperationFailed)
	b.act(id, fleet.VerbStop, nil)
	b.adapter.script(fleet.StepAddress, func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		result, err := succeeds(ctx, r)
		result.Observation.Release = 1 // as the cluster still has it
		return result, err
	})
	b.act(id, fleet.VerbStart, nil)
	r, err := b.db.Release(t.Context(), id, 2)
	if b.must(err); r.Succeeded {
		t.Fatal("a release that was never applied counts as successful")
	}
}

func TestWhichVerbWhereDisabledOrUnreachable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web")
	try := func(want map[fleet.Verb]fleet.Code) {
		t.Helper()
		w := b.workload(id)
		s, err := b.Situation(t.Context(), w)
		b.must(err)
		for verb, code := range want {
			if got := fleet.CodeOf(s.Allows(verb)); got != code {
				t.Errorf("%s: %q, want %q", verb, got, code)
			}
		}
	}
	b.exec(`UPDATE clusters SET enabled = false`)
	try(map[fleet.Verb]fleet.Code{
		fleet.VerbStop: "", fleet.VerbDelete: "", fleet.VerbStart: fleet.CodeConflict, fleet.VerbUpdate: fleet.CodeConflict,
		fleet.VerbRestart: fleet.CodeConflict, fleet.VerbRollback: fleet.CodeConflict, fleet.VerbRedeploy: fleet.CodeConflict,
	})
	b.exec(`UPDATE clusters SET enabled = true`)

	forget := fleet.WorkloadForm{"confirm": "web"}
	_, err := b.Act(t.Context(), admin, id, fleet.VerbForget, forget)
	wantCode(t, err, fleet.CodeConflict) // its cluster answers
	_, err = b.db.Lease(t.Context(), "observer", time.Hour)
	b.must(err)
	b.must(b.db.MarkBroken(t.Context(), "observer", "c1", "apps", "no route to host"))
	b.exec(`UPDATE observations SET seen_at = now() - interval '31 seconds'`)
	b.exec(`UPDATE observation_sources SET alive_at = $1`, fresh())
	try(map[fleet.Verb]fleet.Code{fleet.VerbStop: ""}) // may be a moment's trouble
	b.exec(`UPDATE observation_sources SET alive_at = now() - interval '31 seconds'`)
	for _, verb := range []fleet.Verb{fleet.VerbStop, fleet.VerbStart, fleet.VerbRestart, fleet.VerbScale, fleet.VerbRollback, fleet.VerbRedeploy, fleet.VerbDelete} {
		_, err := b.Act(t.Context(), operator, id, verb, fleet.WorkloadForm{"confirm": "web"})
		if shown := shownAs(t, err, fleet.CodeUnavailable); !strings.Contains(shown.Message, "requires Kubernetes") {
			t.Fatalf("message %q", shown.Message)
		}
	}
	for what, begin := range map[string]func() error{
		"deploy":  func() error { _, err := b.Deploy(t.Context(), operator, deployForm("other")); return err },
		"preview": func() error { _, err := b.Preview(t.Context(), operator, deployForm("other")); return err },
	} {
		if shown := shownAs(t, begin(), fleet.CodeUnavailable); !strings.Contains(shown.Message, "requires Kubernetes") || shown.Problems["target"] == "" {
			t.Errorf("%s: %+v", what, shown)
		}
	}
	_, err = b.Act(t.Context(), operator, id, fleet.VerbForget, forget)
	wantCode(t, err, fleet.CodeForbidden)
	_, err = b.Act(t.Context(), admin, id, fleet.VerbForget, fleet.WorkloadForm{"confirm": "other"})
	wantCode(t, err, fleet.CodeInvalid)
	steps := len(b.adapter.done)
	op, err := b.Act(t.Context(), admin, id, fleet.VerbForget, forget)
	b.must(err)
	if op.State != fleet.OperationSucceeded || len(b.adapter.done) != steps {
		t.Fatalf("%s after %d steps", op.State, len(b.adapter.done)-steps)
	}
	_, err = b.db.Workload(t.Context(), id)
	wantCode(t, err, fleet.CodeNotFound)

	// What the watch said last of a namespace that it has left counts no more.
	_, err = b.Deploy(t.Context(), operator, deployForm("other"))
	b.must(err)

	// Where the test fails, as when another cluster answers, delete may be of no use.
	b.must(b.db.MarkAlive(t.Context(), "observer", "c1", "apps", fresh()))
	id = b.running("web")
	b.tested(fleet.TestFailed)
	_, err = b.Act(t.Context(), admin, id, fleet.VerbForget, forget)
	b.must(err)
}

func TestB16ADeletedWorkloadLeavesItsOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web")
	_, err := b.Act(t.Context(), operator, id, fleet.VerbDelete, nil)
	wantCode(t, err, fleet.CodeInvalid)
	op := b.act(id, fleet.VerbDelete, fleet.WorkloadForm{"confirm": " web ", "keep_volumes": "on"})
	if !op.Params.KeepVolumes || op.WorkloadName != "web" {
		t.Fatalf("operation %+v", op)
	}
	_, err = b.db.Workload(t.Context(), id)
	wantCode(t, err, fleet.CodeNotFound)
	_, err = b.Act(t.Context(), operator, id, fleet.VerbDelete, nil)
	wantCode(t, err, fleet.CodeNotFound)
}

func TestB19RollbackMakesANewReleaseFromOneThatWasUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web", "secret_env", "TOKEN=one", "replicas", "2")
	b.act(id, fleet.VerbScale, fleet.WorkloadForm{"replicas": "5"})
	b.adapter.script(fleet.StepRollout, fails(&fleet.Failure{Reason: "ImagePullBackOff", Message: "no such image"}))
	_, err := b.Update(t.Context(), operator, id, deployForm("web", "image", "bad:1", "secret_env", "TOKEN=", "replicas", "5"))
	b.must(err)
	b.ends(fleet.OperationFailed)
	b.adapter.script(fleet.StepRollout, nil)
	for number, code := range map[string]fleet.Code{"2": fleet.CodeConflict, "3": fleet.CodeInvalid, "x": fleet.CodeInvalid, "": fleet.CodeInvalid} {
		_, err := b.Act(t.Context(), operator, id, fleet.VerbRollback, fleet.WorkloadForm{"release": number})
		wantCode(t, err, code)
	}
	op := b.act(id, fleet.VerbRollback, fleet.WorkloadForm{"release": "1"})
	if op.Release != 3 || op.Params.FromRelease != 1 {
		t.Fatalf("release %d from %d", op.Release, op.Params.FromRelease)
	}
	last := b.adapter.requests(fleet.StepObjects)
	r := last[len(last)-1]
	if r.Spec.Image != "demo:1" || r.Secrets["TOKEN"] != "ONE" || r.Workload.Release != 3 {
		t.Fatalf("rolled back to %s, %v", r.Spec.Image, r.Secrets)
	}
	if r.Workload.Replicas != 5 || r.Spec.Replicas != 5 {
		t.Errorf("rolled back to %d replicas, and release 3 has %d", r.Workload.Replicas, r.Spec.Replicas)
	}
	_, err = b.Act(t.Context(), operator, id, fleet.VerbRollback, fleet.WorkloadForm{"release": "3"})
	wantCode(t, err, fleet.CodeConflict) // the present one

	// Stopped, it keeps the count that a start restores.
	b.adapter.script(fleet.StepReplicas, stopsAt(7))
	b.act(id, fleet.VerbStop, nil)
	b.act(id, fleet.VerbRollback, fleet.WorkloadForm{"release": "1"})
	if w := b.workload(id).Workload; w.Replicas != 7 || !w.Stopped {
		t.Errorf("rolled back while stopped to %d replicas, stopped %t", w.Replicas, w.Stopped)
	}
}

func TestSecretsAreMergedAndKeptOutOfTheRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web", "secret_env", "A=alpha-secret\nB=beta-secret", "env", "PLAIN=plain-secret")
	_, err := b.Update(t.Context(), operator, id, deployForm("web", "image", "demo:2", "env", "PLAIN=other-secret",
		"secret_env", "A=\nB=gamma-secret", "file_path_1", "/etc/demo", "file_content_1", "file-secret"))
	b.must(err)
	b.ends(fleet.OperationSucceeded)
	last := b.adapter.requests(fleet.StepObjects)
	if s := last[len(last)-1].Secrets; s["A"] != "ALPHA-SECRET" || s["B"] != "GAMMA-SECRET" || len(s) != 2 {
		t.Fatalf("secrets %v", s)
	}
	rows, err := b.db.Pool().Query(t.Context(), `SELECT to_jsonb(audit)::text FROM audit`)
	b.must(err)
	audits, err := pgx.CollectRows(rows, pgx.RowTo[string])
	b.must(err)
	text := strings.Join(audits, "\n")
	if strings.Contains(text, "-secret") || !strings.Contains(text, "new values of B") || !strings.Contains(text, "demo:2") {
		t.Fatalf("audit:\n%s", text)
	}
	_, err = b.Update(t.Context(), operator, id, deployForm("web", "secret_env", "A=\nNEW="))
	if shown := shownAs(t, err, fleet.CodeInvalid); !strings.Contains(shown.Problems["secret_env"], "NEW") {
		t.Fatalf("problems %v", shown.Problems)
	}
	form, _, err := b.Form(t.Context(), id)
	if b.must(err); form["secret_env"] != "A=\nB=" {
		t.Fatalf("the form shows %q", form["secret_env"])
	}
	b.Operator = b.another(func(o *operate.Options) { o.Sealer = sealer{locked: true} })
	_, err = b.Update(t.Context(), operator, id, deployForm("web", "secret_env", "A=\nB="))
	if shown := shownAs(t, err, fleet.CodeUnavailable); !strings.Contains(shown.Remedy, "k1") {
		t.Fatalf("remedy %q", shown.Remedy)
	}
}

func TestB21OfTwoActionsOneWins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web")
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			_, err := b.Act(t.Context(), operator, id, fleet.VerbRestart, nil)
			results <- err
		}()
	}
	won := 0
	for range cap(results) {
		if err := wait(t, "an answer", results); err == nil {
			won++
		} else {
			wantCode(t, err, fleet.CodeConflict)
		}
	}
	if won != 1 {
		t.Fatalf("%d won", won)
	}
	b.wantRefused("workload.restart", "workload/"+id)
	_, err := b.Deploy(t.Context(), operator, deployForm("web"))
	if shown := shownAs(t, err, fleet.CodeConflict); shown.Problems["name"] == "" {
		t.Fatalf("problems %v", shown.Problems)
	}
}

func TestAnOperationOnWhatHasChangedSinceIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.running("web")
	stale := b.workload(id).Workload
	b.adapter.script(fleet.StepReplicas, stopsAt(1))
	b.act(id, fleet.VerbStop, nil)
	// As if another request had read the workload before the stop.
	_, err := b.db.Begin(t.Context(), fleet.Begin{Workload: stale, Operation: fleet.Operation{
		ID: "0198b4f2-0000-7000-8000-000000000001", WorkloadID: id, Verb: fleet.VerbRestart,
	}})
	wantCode(t, err, fleet.CodeConflict)
	if !b.workload(id).Workload.Stopped {
		t.Fatal("the stop was undone")
	}
}

func TestTheFormGivesTheSameSpecAgain(t *testing.T) {
	t.Parallel()
	for _, runtime := range fleet.Runtimes() {
		form := deployForm("web", "env", "A=1\nB=two words", "files", "", "volumes", "data=/data 1Gi fast", "gpu", "1",
			"node_selector", "disk=ssd", "service_annotations", "a/b=c", "pull_secrets", "one two", "health_type", "http", "health_path", "/up",
			"file_path_1", "/etc/demo", "file_content_1", "a=b\n", "cpu", "1500m", "memory", "1Gi")
		if runtime.Image == "" {
			form["image"] = "demo:1"
		}
		inLines := fleet.WorkloadForm{"name": "web", "image": "demo:1", "service_annotations": `{"a/b": "c\nd/e=f", "g": " h "}`}
		for _, f := range []fleet.WorkloadForm{form, {"name": "web", "image": "demo:1"}, inLines} {
			_, spec, _, err := f.Parse(runtime)
			if err != nil {
				t.Fatal(err)
			}
			again := operate.FormOf(spec)
			again["name"] = "web"
			_, repeated, _, err := again.Parse(runtime)
			if err != nil {
				t.Fatal(runtime.ID, err)
			}
			if diff := diffSpecs(spec, repeated); diff != "" {
				t.Errorf("%s: %s", runtime.ID, diff)
			}
		}
	}
}
