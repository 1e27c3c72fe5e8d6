package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
)

// doorbell is one job that was enqueued.
type doorbell struct {
	operation string
	token     int64
}

// bundle is a database of its own and a queue that only remembers.
type bundle struct {
	*postgres.DB
	t  *testing.T
	mu sync.Mutex
	// jobs are what transactions enqueued, those rolled back included.
	jobs []doorbell
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{DB: postgrestest.New(t), t: t}
	b.Enqueue = func(_ context.Context, _ pgx.Tx, operationID string, token int64) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.jobs = append(b.jobs, doorbell{operationID, token})
		return nil
	}
	return b
}

func (b *bundle) enqueued() []doorbell {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]doorbell(nil), b.jobs...)
}

func (b *bundle) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// exec changes rows directly, to let time pass.
func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.Pool().Exec(b.t.Context(), sql, args...)
	b.must(err)
}

func aCluster(id string) fleet.Cluster {
	return fleet.Cluster{
		ID: id, Label: "Cluster " + id, Provider: fleet.ProviderK3s, ClusterName: "kind-" + id,
		CredentialMode: fleet.CredentialMounted, KubeconfigPath: id, CredentialHash: "h1",
		Credential: fleet.CredentialFacts{Kind: "token", Subject: "somebody"}, Namespace: "apps",
		RuntimeNamespaces: map[string]string{"openclaw": "claws"},
		Exposure:          fleet.Exposure{Mode: fleet.ExposureNodePort, RuntimeHost: "127.0.0.1"},
		ImagePullSecrets:  []string{"pull"}, Labels: map[string]string{"team": "a"}, Region: "local", Enabled: true,
	}
}

// cluster registers a cluster.
func (b *bundle) cluster(id string) fleet.Cluster {
	b.t.Helper()
	b.must(b.CreateCluster(b.t.Context(), aCluster(id), nil, fleet.AuditEntry{}))
	return b.status(id).Cluster
}

func (b *bundle) status(id string) fleet.Status {
	b.t.Helper()
	s, err := b.ClusterStatus(b.t.Context(), id)
	b.must(err)
	return s
}

// tested gives the cluster a finished test of its present configuration.
func (b *bundle) tested(id string, state fleet.TestState) fleet.ConnectionTest {
	b.t.Helper()
	c := b.status(id).Cluster
	test := fleet.ConnectionTest{
		ClusterID: id, Fingerprint: c.Fingerprint(), State: fleet.TestRunning, Trigger: fleet.TriggerPerson, Actor: "a@example.org",
		StartedAt: time.Now(), Deadline: time.Hour,
		Credential: fleet.CredentialFacts{NotAfter: time.Now().UTC().Truncate(time.Second).Add(time.Hour)},
	}
	var err error
	test.ID, err = b.BeginTest(b.t.Context(), test)
	b.must(err)
	test.State = state
	check := fleet.Check{Stage: fleet.StageConnect, State: fleet.CheckOK, Duration: time.Millisecond}
	if state == fleet.TestFailed {
		check.State, check.Message = fleet.CheckFailed, "refused"
	}
	test.Checks = []fleet.Check{check}
	b.must(b.SaveTest(b.t.Context(), test))
	return test
}

func aWorkload(cluster, name string) fleet.Workload {
	return fleet.Workload{
		ID: uuid.NewString(), Name: name, ClusterID: cluster, Namespace: "apps", Runtime: "container",
		Kind: fleet.KindDeployment, Replicas: 1, CreatedBy: "op@example.org",
	}
}

func beginOf(w fleet.Workload, verb fleet.Verb) fleet.Begin {
	op := fleet.Operation{
		ID: uuid.NewString(), WorkloadID: w.ID, WorkloadName: w.Name, ClusterID: w.ClusterID, Namespace: w.Namespace,
		Runtime: w.Runtime, Verb: verb, State: fleet.OperationQueued, Actor: "op@example.org",
	}
	for _, name := range fleet.Steps(verb) {
		op.Steps = append(op.Steps, fleet.Step{Name: name, State: fleet.StepPending})
	}
	b := fleet.Begin{Workload: w, New: verb == fleet.VerbDeploy, Operation: op,
		Audit: fleet.AuditEntry{Actor: "op@example.org", Action: "workload." + string(verb), Target: "workload/" + w.ID, Outcome: "ok"}}
	if verb == fleet.VerbDeploy || verb == fleet.VerbUpdate || verb == fleet.VerbRollback {
		b.Release = &fleet.Release{
			Spec:      fleet.Spec{Kind: w.Kind, Image: "registry.example/" + w.Name + ":1", Replicas: 1, SecretEnv: []string{"TOKEN"}},
			CreatedBy: "op@example.org", SealedSecrets: []byte{1, 2}, SealedKeyID: "k1",
		}
	}
	return b
}

// deploy begins a deploy of a new workload.
func (b *bundle) deploy(cluster, name string) (fleet.Workload, fleet.Operation) {
	b.t.Helper()
	w := aWorkload(cluster, name)
	op, err := b.Begin(b.t.Context(), beginOf(w, fleet.VerbDeploy))
	b.must(err)
	return w, op
}

// holder has the leases of the clusters with running workloads.
const holder = "observer"

// running is a workload whose deploy has succeeded and that is seen running.
func (b *bundle) running(cluster, name string) fleet.Workload {
	b.t.Helper()
	w, op := b.deploy(cluster, name)
	_, err := b.Claim(b.t.Context(), op.ID, op.Token)
	b.must(err)
	obs := seenRunning(w.ID)
	b.must(b.Record(b.t.Context(), op.ID, op.Token, fleet.Change{
		Steps: allDone(op.Steps), Finish: fleet.OperationSucceeded, ReleaseSucceeded: op.Release, Observation: &obs,
	}))
	_, err = b.Lease(b.t.Context(), holder, time.Hour)
	b.must(err)
	return w
}

func allDone(steps []fleet.Step) []fleet.Step {
	var out []fleet.Step
	for _, s := range steps {
		for _, state := range []fleet.StepState{fleet.StepRunning, fleet.StepSucceeded} {
			s.State = state
			out = append(out, s)
		}
	}
	return out
}

// seenRunning is an observation that stays fresh however long a test takes.
func seenRunning(workloadID string) fleet.Observation {
	return fleet.Observation{
		WorkloadID: workloadID, SeenAt: time.Now().Add(time.Hour), ChangedAt: time.Now(), Exists: true, UID: "u1",
		Generation: 1, ObservedGeneration: 1, Desired: 1, Current: 1, Ready: 1, Available: 1, Updated: 1, Release: 1, Health: "Current",
		Pods:      []fleet.Pod{{Name: "p1", Phase: "Running", Ready: true}},
		Endpoints: []fleet.Endpoint{{Port: "http", URL: "http://127.0.0.1:30080", Text: "127.0.0.1:30080"}},
	}
}

// phase is what the list shows of a workload.
func (b *bundle) phase(id string) (fleet.Phase, string) {
	b.t.Helper()
	for after := ""; ; {
		page, err := b.ListWorkloads(b.t.Context(), fleet.WorkloadFilter{After: after})
		b.must(err)
		for _, w := range page.Rows {
			if w.ID == id {
				return w.Phase, w.Reason
			}
		}
		if page.Next == "" {
			b.t.Fatalf("workload %s is not in the list", id)
		}
		after = page.Next
	}
}

func wantCode(t *testing.T, err error, code fleet.Code) {
	t.Helper()
	if fleet.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, fleet.CodeOf(err), code)
	}
}

func names(rows []fleet.WorkloadRow) string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Name)
	}
	return fmt.Sprint(out)
}
