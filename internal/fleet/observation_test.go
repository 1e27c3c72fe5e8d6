package fleet

import (
	"slices"
	"testing"
	"time"
)

func TestPhase(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	op := func(verb Verb, state OperationState) *Operation {
		return &Operation{Verb: verb, State: state, Failure: &Failure{Message: "because"}}
	}
	seen := func(desired, current, ready, available, updated int32) *Observation {
		return &Observation{
			SeenAt: now.Add(-time.Second), Exists: true, Generation: 2, ObservedGeneration: 2,
			Desired: desired, Current: current, Ready: ready, Available: available, Updated: updated,
		}
	}
	change := func(o *Observation, f func(*Observation)) *Observation { f(o); return o }
	for name, c := range map[string]struct {
		op   *Operation
		obs  *Observation
		want Phase
	}{
		"nothing seen yet":                  {nil, nil, PhaseUnknown},
		"deploy running":                    {op(VerbDeploy, OperationRunning), nil, PhaseDeploying},
		"stop queued":                       {op(VerbStop, OperationQueued), seen(2, 2, 2, 2, 2), PhaseStopping},
		"delete running, cluster silent":    {op(VerbDelete, OperationRunning), nil, PhaseDeleting},
		"deploy failed before any object":   {op(VerbDeploy, OperationFailed), nil, PhaseFailed},
		"as wanted":                         {op(VerbDeploy, OperationSucceeded), seen(2, 2, 2, 2, 2), PhaseRunning},
		"one pod missing":                   {op(VerbDeploy, OperationSucceeded), seen(2, 2, 1, 1, 2), PhaseDegraded},
		"old pod surplus":                   {op(VerbUpdate, OperationSucceeded), seen(2, 3, 3, 3, 2), PhaseDegraded},
		"generation not observed":           {op(VerbUpdate, OperationSucceeded), change(seen(2, 2, 2, 2, 2), func(o *Observation) { o.Generation = 3 }), PhaseDegraded},
		"update failed, old pods serve":     {op(VerbUpdate, OperationFailed), seen(2, 3, 2, 2, 1), PhaseDegraded},
		"deploy failed, no pod":             {op(VerbDeploy, OperationFailed), seen(1, 1, 0, 0, 1), PhaseFailed},
		"deploy failed, healed since":       {op(VerbDeploy, OperationFailed), seen(1, 1, 1, 1, 1), PhaseRunning},
		"stopped":                           {op(VerbStop, OperationSucceeded), seen(0, 0, 0, 0, 0), PhaseStopped},
		"a pod remains":                     {op(VerbStop, OperationSucceeded), change(seen(0, 0, 0, 0, 0), func(o *Observation) { o.Pods = []Pod{{Name: "a"}} }), PhaseStopping},
		"an evicted pod is left":            {op(VerbStop, OperationSucceeded), change(seen(0, 0, 0, 0, 0), func(o *Observation) { o.Pods = []Pod{{Name: "a", Phase: "Failed"}} }), PhaseStopped},
		"a pod that ended is being deleted": {op(VerbStop, OperationSucceeded), change(seen(0, 0, 0, 0, 0), func(o *Observation) { o.Pods = []Pod{{Name: "a", Phase: "Failed", Deleting: true}} }), PhaseStopping},
		"objects gone":                      {op(VerbDeploy, OperationSucceeded), change(seen(0, 0, 0, 0, 0), func(o *Observation) { o.Exists = false }), PhaseFailed},
		"30 s of silence":                   {op(VerbDeploy, OperationSucceeded), change(seen(1, 1, 1, 1, 1), func(o *Observation) { o.SeenAt = now.Add(-UnknownAfter) }), PhaseRunning},
		"more than 30 s of silence":         {op(VerbDeploy, OperationSucceeded), change(seen(1, 1, 1, 1, 1), func(o *Observation) { o.SeenAt = now.Add(-UnknownAfter - 1) }), PhaseUnknown},
		"silence is never stopped":          {op(VerbStop, OperationSucceeded), change(seen(0, 0, 0, 0, 0), func(o *Observation) { o.SeenAt = now.Add(-time.Hour) }), PhaseUnknown},
	} {
		if got, _ := PhaseOf(c.op, c.obs, now); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestAPhaseIsExplainedByWhatItComesFrom(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for left, want := range map[int32]string{1: "1 pod remains.", 2: "2 pods remain."} {
		obs := Observation{SeenAt: now, Exists: true, Current: left}
		if phase, why := PhaseOf(&Operation{Verb: VerbStop, State: OperationSucceeded}, &obs, now); phase != PhaseStopping || why != want {
			t.Errorf("with %d pods: %s, %q, want %q", left, phase, why, want)
		}
	}
	const crash = "Container web of pod web-1: it ended 7 times, last with exit code 1."
	down := Observation{SeenAt: now, Exists: true, Desired: 1, Current: 1, Updated: 1, Release: 2, Message: crash, Reason: "CrashLoopBackOff"}
	unsaid, gone := down, down
	unsaid.Message, gone.Exists = "", false
	cancelledScale := Operation{Verb: VerbScale, State: OperationCancelled}
	failedRestart := Operation{Verb: VerbRestart, State: OperationFailed, Failure: &Failure{Message: "The restart's own cause."}}
	for name, c := range map[string]struct {
		op   Operation
		obs  Observation
		want string
	}{
		"an operation long past":       {cancelledScale, down, crash},
		"a failed one long past":       {failedRestart, down, crash},
		"nothing else is known":        {cancelledScale, unsaid, "Its scale was cancelled."},
		"the release that it made":     {Operation{Verb: VerbUpdate, State: OperationFailed, Release: 2, Failure: &Failure{Message: "The image is not there."}}, down, "The image is not there."},
		"a release that never came":    {Operation{Verb: VerbUpdate, State: OperationFailed, Release: 3, Failure: &Failure{Message: "It was refused."}}, down, crash},
		"removed after a cancel":       {cancelledScale, gone, "Its objects are not in the cluster. Redeploy makes them anew."},
		"never made":                   {Operation{Verb: VerbDeploy, State: OperationCancelled, Release: 1}, gone, "Its deploy was cancelled."},
		"a delete that was cancelled":  {Operation{Verb: VerbDelete, State: OperationCancelled}, gone, "Its delete was cancelled."},
		"what failed for want of them": {failedRestart, gone, "The restart's own cause."},
	} {
		if phase, why := PhaseOf(&c.op, &c.obs, now); phase != PhaseFailed || why != c.want {
			t.Errorf("%s: %s, %q, want %q", name, phase, why, c.want)
		}
	}
}

func TestWhichVerbWhen(t *testing.T) {
	t.Parallel()
	enabled := Status{Cluster: Cluster{Label: "Lab", Enabled: true}}
	failed := Status{Cluster: enabled.Cluster, Test: &ConnectionTest{State: TestFailed, Fingerprint: enabled.Cluster.Fingerprint()}}
	disabled := Status{Cluster: Cluster{Label: "Lab"}}
	all := func(except ...Verb) map[Verb]Code {
		out := map[Verb]Code{}
		for _, v := range Verbs {
			if v != VerbDeploy && !slices.Contains(except, v) {
				out[v] = ""
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		s    Situation
		want map[Verb]Code
	}{
		"untested target": {Situation{Target: enabled, Reachable: true}, all(VerbForget)},
		"failed target":   {Situation{Target: failed, Reachable: true}, all()}, // another cluster may answer
		"reachable":       {Situation{Target: enabled, Reachable: true}, map[Verb]Code{VerbForget: CodeConflict}},
		"disabled": {Situation{Target: disabled, Reachable: true}, map[Verb]Code{
			VerbStop: "", VerbDelete: "", VerbStart: CodeConflict, VerbUpdate: CodeConflict, VerbScale: CodeConflict,
			VerbRestart: CodeConflict, VerbRollback: CodeConflict, VerbRedeploy: CodeConflict,
		}},
		"unreachable": {Situation{Target: enabled}, map[Verb]Code{
			VerbStop: CodeUnavailable, VerbStart: CodeUnavailable, VerbDelete: CodeUnavailable, VerbUpdate: CodeUnavailable,
			VerbScale: CodeUnavailable, VerbRestart: CodeUnavailable, VerbRedeploy: CodeUnavailable, VerbRollback: CodeUnavailable, VerbForget: "",
		}},
		"stopped": {Situation{Target: enabled, Reachable: true, Workload: Workload{Stopped: true}}, map[Verb]Code{
			VerbRestart: CodeConflict, VerbScale: CodeConflict, VerbStart: "", VerbDelete: "", VerbUpdate: "",
		}},
		"busy": {Situation{Target: enabled, Reachable: true, Unfinished: &Operation{Verb: VerbDeploy}}, map[Verb]Code{
			VerbStop: CodeConflict, VerbDelete: CodeConflict, VerbForget: CodeConflict,
		}},
	} {
		for verb, code := range c.want {
			if got := CodeOf(c.s.Allows(verb)); got != code {
				t.Errorf("%s: %s gives %q, want %q", name, verb, got, code)
			}
		}
	}
}
