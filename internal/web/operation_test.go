package web

import (
	"html"
	"net/http"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

// turned makes an operation one of another verb that has ended.
func (b *bundle) turned(id string, verb fleet.Verb, state fleet.OperationState, params fleet.Params, steps ...fleet.Step) {
	b.t.Helper()
	exec := func(sql string, args ...any) {
		b.t.Helper()
		if _, err := b.db.Pool().Exec(b.t.Context(), sql, args...); err != nil {
			b.t.Fatal(err)
		}
	}
	exec(`UPDATE operations SET verb = $2, state = $3, params = $4, finished_at = now() WHERE id = $1`, id, verb, state, params)
	exec(`DELETE FROM operation_steps WHERE operation_id = $1`, id)
	for i, s := range steps {
		exec(`INSERT INTO operation_steps (operation_id, name, position, state, message) VALUES ($1, $2, $3, $4, $5)`, id, s.Name, i, s.State, s.Message)
	}
}

func TestAnOperationSaysWhatItHasLeftBehind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	_, id := b.deployed(admin, b.target(admin, "one"), "web")
	for name, c := range map[string]struct {
		verb   fleet.Verb
		state  fleet.OperationState
		params fleet.Params
		steps  []fleet.Step
		says   string
		not    string
	}{
		"scaled": {
			fleet.VerbScale, fleet.OperationSucceeded, fleet.Params{Replicas: 10},
			[]fleet.Step{{Name: fleet.StepReplicas, State: fleet.StepSucceeded, Message: "scaled to 10"}},
			"web runs with 10 replicas on k8s:one.", "not scaled",
		},
		"scaled to one": {fleet.VerbScale, fleet.OperationSucceeded, fleet.Params{Replicas: 1}, nil, "web runs with 1 replica on k8s:one.", "1 replicas"},
		"left to an autoscaler": {
			fleet.VerbScale, fleet.OperationSucceeded, fleet.Params{Replicas: 10},
			[]fleet.Step{{Name: fleet.StepReplicas, State: fleet.StepSkipped, Message: "left at 3: HorizontalPodAutoscaler/auto decides"}},
			"web was not scaled on k8s:one. It was left at 3: HorizontalPodAutoscaler/auto decides.", "runs with 10",
		},
		"updated":                     {fleet.VerbUpdate, fleet.OperationSucceeded, fleet.Params{}, nil, "web is up on k8s:one.", "stopped:"},
		"updated while it is stopped": {fleet.VerbUpdate, fleet.OperationSucceeded, fleet.Params{Stopped: true}, nil, "no pod of it runs before it is started", "is up on"},
		"deleted":                     {fleet.VerbDelete, fleet.OperationSucceeded, fleet.Params{}, nil, "Every object of web is gone from k8s:one.", "except"},
		"deleted but for its volumes": {fleet.VerbDelete, fleet.OperationSucceeded, fleet.Params{KeepVolumes: true}, nil, "except its volumes, which are kept.", "is gone from k8s:one."},
		"cancelled": {
			fleet.VerbDeploy, fleet.OperationCancelled, fleet.Params{},
			[]fleet.Step{
				{Name: fleet.StepNamespace, State: fleet.StepSkipped, Message: "apps exists"},
				{Name: fleet.StepObjects, State: fleet.StepSucceeded, Message: "2 objects applied"},
				{Name: fleet.StepRollout, State: fleet.StepSkipped, Message: fleet.MessageCancelled},
				{Name: fleet.StepAddress, State: fleet.StepSkipped, Message: fleet.MessageNotReached},
			},
			"Done: namespace, objects. Not done: rollout, address.", "Done: objects",
		},
	} {
		b.turned(id, c.verb, c.state, c.params, c.steps...)
		body := html.UnescapeString(admin.get("/operations/" + id).body)
		if !strings.Contains(body, c.says) || strings.Contains(body, c.not) {
			t.Errorf("%s: it does not say %q, or says %q", name, c.says, c.not)
		}
	}
}

// TestB1TryingAgainNeedsATargetToo: after a deploy of which nothing was made, an
// edit or a redeploy is refused where a deploy would be.
func TestB1TryingAgainNeedsATargetToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	workload, id := b.deployed(admin, b.target(admin, "one"), "web")
	b.turned(id, fleet.VerbDeploy, fleet.OperationFailed, fleet.Params{})
	b.tester.state = fleet.TestFailed
	admin.post("/admin/clusters/one/test", nil)
	b.until("the test to fail", func() bool {
		s, err := b.db.ClusterStatus(t.Context(), "one")
		return err == nil && s.TestState() == fleet.TestFailed
	})
	form := fields{"image": "demo:1", "ports": "http=8080", "secret_env": "TOKEN="}
	for _, path := range []string{"/update", "/redeploy"} {
		a := admin.post("/workloads/"+workload+path, form)
		body := html.UnescapeString(a.body)
		if a.status != http.StatusConflict || !strings.Contains(body, "Cluster one is not an execution target now: failed at connect. Nothing of web was made there yet.") {
			t.Errorf("%s: %d\n%s", path, a.status, body)
		}
	}
}

func TestTheEditFormSaysThatPodsShareAVolume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	b.target(admin, "one")
	for replicas, warned := range map[string]bool{"1": false, "3": true} {
		a := admin.post("/deploy", fields{
			"target": "k8s:one", "runtime": "container", "name": "web-" + replicas, "image": "demo:1", "replicas": replicas, "volumes": "data=/data 1Gi",
		})
		op, err := b.db.Operation(t.Context(), strings.TrimPrefix(a.location(), "/operations/"))
		if err != nil {
			t.Fatal(err)
		}
		body := admin.get("/workloads/" + op.WorkloadID + "/edit").body
		if strings.Contains(body, replicas+" pods share the volume data: on several nodes") != warned {
			t.Errorf("%s replicas: warned of is wanted to be %t", replicas, warned)
		}
	}
}
