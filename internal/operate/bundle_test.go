package operate_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
	"portolan/internal/operate"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
)

// patience bounds what is over in a moment, on a machine that has much else to
// do.
const patience = 3 * time.Minute

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

var (
	operator = fleet.Actor{Email: "op@example.org", Role: fleet.RoleOperator, Address: "192.0.2.1"}
	admin    = fleet.Actor{Email: "admin@example.org", Role: fleet.RoleAdmin, Address: "192.0.2.2"}
)

// scripted is an Adapter that does what the test says; steps without a script
// succeed.
type scripted struct {
	mu    sync.Mutex
	steps map[fleet.StepName]step
	done  []fleet.StepRequest
}

type step func(context.Context, fleet.StepRequest) (fleet.StepResult, error)

func (s *scripted) script(name fleet.StepName, do step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps[name] = do
}

func (s *scripted) Do(ctx context.Context, r fleet.StepRequest, slice time.Duration) (fleet.StepResult, error) {
	if slice <= 0 && r.Step.Name == fleet.StepRollout {
		return fleet.StepResult{}, nil // as every wait: without time to ask it is not done yet
	}
	s.mu.Lock()
	s.done = append(s.done, r)
	do := s.steps[r.Step.Name]
	s.mu.Unlock()
	if do == nil {
		do = succeeds
	}
	return do(ctx, r)
}

func (s *scripted) Preview(_ context.Context, r fleet.StepRequest) ([]fleet.ObjectPreview, error) {
	return []fleet.ObjectPreview{{Kind: string(r.Spec.Kind), Name: r.Workload.Name}}, nil
}

// requests are those for a step.
func (s *scripted) requests(name fleet.StepName) []fleet.StepRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []fleet.StepRequest
	for _, r := range s.done {
		if r.Step.Name == name {
			out = append(out, r)
		}
	}
	return out
}

// fresh is the time of a proof of life that stays fresh however long a test
// takes.
func fresh() time.Time { return time.Now().Add(time.Hour) }

func succeeds(_ context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
	n := r.Workload.Replicas
	if r.Workload.Stopped {
		n = 0
	}
	return fleet.StepResult{Done: true, Observation: &fleet.Observation{
		WorkloadID: r.Workload.ID, SeenAt: fresh(), ChangedAt: time.Now(), Exists: true, UID: "u1", Health: "Current",
		Release: r.Workload.Release, Generation: 1, ObservedGeneration: 1, Desired: n, Current: n, Ready: n, Available: n, Updated: n,
	}}, nil
}

func fails(err error) step {
	return func(context.Context, fleet.StepRequest) (fleet.StepResult, error) { return fleet.StepResult{}, err }
}

// waits until its context ends, as a slice of a long wait does.
func waits(began chan<- fleet.StepRequest) step {
	return func(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
		began <- r
		<-ctx.Done()
		return fleet.StepResult{Message: "1 of 2"}, ctx.Err()
	}
}

// targets answers from the database alone.
type targets struct{ db *postgres.DB }

func (t targets) CheckTarget(ctx context.Context, id string) (fleet.Status, error) {
	s, err := t.db.ClusterStatus(ctx, id)
	if err == nil {
		if why := s.WhyNotTarget(); why != "" {
			return s, fleet.Conflict("%s is no target: %s.", id, why)
		}
	}
	return s, err
}

func (t targets) AnyTarget(ctx context.Context) (bool, error) {
	_, n, err := t.db.Targets(ctx, 1)
	return n > 0, err
}

// sealer marks what it seals, so that a test sees the clear text nowhere else.
// Its key is k1 unless it has another, and it opens nothing when it is locked.
type sealer struct {
	locked bool
	key    string
}

func (sealer) CanSeal() bool { return true }

func (s sealer) id() string { return cmp.Or(s.key, "k1") }

func (s sealer) Seal(text []byte, purpose, subject string) (string, []byte, error) {
	return s.id(), []byte(purpose + "/" + subject + ":" + strings.ToUpper(string(text))), nil
}

func (s sealer) Open(id string, sealed []byte, purpose, subject string) ([]byte, error) {
	text, ok := strings.CutPrefix(string(sealed), purpose+"/"+subject+":")
	if !ok || s.locked || id != s.id() {
		return nil, fleet.ErrKeyWrong
	}
	return []byte(text), nil
}

type doorbell struct {
	operation string
	token     int64
}

type bundle struct {
	*operate.Operator
	t       *testing.T
	db      *postgres.DB
	adapter *scripted
	mu      sync.Mutex
	jobs    []doorbell
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, db: postgrestest.New(t), adapter: &scripted{steps: map[fleet.StepName]step{}}}
	b.db.Enqueue = func(_ context.Context, _ pgx.Tx, id string, token int64) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.jobs = append(b.jobs, doorbell{id, token})
		return nil
	}
	b.Operator = b.another()
	b.must(b.db.CreateCluster(t.Context(), fleet.Cluster{
		ID: "c1", Label: "One", Provider: fleet.ProviderK3s, CredentialMode: fleet.CredentialMounted, CredentialHash: "h1",
		Namespace: "apps", Exposure: fleet.Exposure{Mode: fleet.ExposureClusterIP}, Enabled: true,
	}, nil, fleet.AuditEntry{}))
	b.tested(fleet.TestOK)
	return b
}

// another is a further process on the same database.
func (b *bundle) another(change ...func(*operate.Options)) *operate.Operator {
	o := operate.Options{
		Store: b.db, Adapter: b.adapter, Sealer: sealer{}, Targets: targets{b.db},
		Logger: slog.New(slog.DiscardHandler), Heartbeat: 20 * time.Millisecond, Silence: patience, Slice: patience,
	}
	for _, c := range change {
		c(&o)
	}
	return operate.New(o)
}

func (b *bundle) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.db.Pool().Exec(b.t.Context(), sql, args...)
	b.must(err)
}

func (b *bundle) tested(state fleet.TestState) {
	b.t.Helper()
	s, err := b.db.ClusterStatus(b.t.Context(), "c1")
	b.must(err)
	test := fleet.ConnectionTest{
		ClusterID: "c1", Fingerprint: s.Cluster.Fingerprint(), StartedAt: time.Now(), Deadline: time.Hour,
		Pinned: fleet.ClusterIdentity{Namespace: "kube-system", UID: "uid-1", Destination: "d"},
	}
	test.ID, err = b.db.BeginTest(b.t.Context(), test)
	b.must(err)
	test.State = state
	b.must(b.db.SaveTest(b.t.Context(), test))
}

// bell takes the newest job.
func (b *bundle) bell() doorbell {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.jobs) == 0 {
		b.t.Fatal("there is no job")
	}
	return b.jobs[len(b.jobs)-1]
}

// work runs the newest job once.
func (b *bundle) work() (time.Duration, error) {
	b.t.Helper()
	d := b.bell()
	return b.Run(b.t.Context(), d.operation, d.token)
}

// ends runs the newest job once, after which its operation has ended in state.
func (b *bundle) ends(state fleet.OperationState) fleet.Operation {
	b.t.Helper()
	again, err := b.work()
	b.must(err)
	op := b.operation(b.bell().operation)
	if again != 0 || op.State != state {
		b.t.Fatalf("operation %s again in %s, want %s: %+v", op.State, again, state, op.Failure)
	}
	return op
}

// background runs the newest job of o; the channel gets its error.
func (b *bundle) background(ctx context.Context, o *operate.Operator) <-chan error {
	d, ended := b.bell(), make(chan error, 1)
	go func() {
		_, err := o.Run(ctx, d.operation, d.token)
		ended <- err
	}()
	return ended
}

func wait[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func (b *bundle) operation(id string) fleet.Operation {
	b.t.Helper()
	op, err := b.db.Operation(b.t.Context(), id)
	b.must(err)
	return op
}

func (b *bundle) workload(id string) fleet.WorkloadState {
	b.t.Helper()
	w, err := b.db.Workload(b.t.Context(), id)
	b.must(err)
	return w
}

func deployForm(name string, change ...string) fleet.WorkloadForm {
	f := fleet.WorkloadForm{"target": "k8s:c1", "runtime": "container", "name": name, "image": "demo:1", "ports": "http=8080"}
	for i := 0; i < len(change); i += 2 {
		f[change[i]] = change[i+1]
	}
	return f
}

// deploy begins a deploy.
func (b *bundle) deploy(name string, change ...string) fleet.Operation {
	b.t.Helper()
	op, err := b.Deploy(b.t.Context(), operator, deployForm(name, change...))
	b.must(err)
	return op
}

// running is the id of a workload that has been deployed.
func (b *bundle) running(name string, change ...string) string {
	b.t.Helper()
	op := b.deploy(name, change...)
	b.ends(fleet.OperationSucceeded)
	return op.WorkloadID
}

// act begins a verb and works until it has succeeded.
func (b *bundle) act(id string, verb fleet.Verb, form fleet.WorkloadForm) fleet.Operation {
	b.t.Helper()
	_, err := b.Act(b.t.Context(), admin, id, verb, form)
	b.must(err)
	return b.ends(fleet.OperationSucceeded)
}

func (b *bundle) wantRefused(action, target string) {
	b.t.Helper()
	var outcome, reason string
	b.must(b.db.Pool().QueryRow(b.t.Context(), `
		SELECT outcome, reason FROM audit WHERE action = $1 AND target = $2 ORDER BY id DESC LIMIT 1`, action, target).Scan(&outcome, &reason))
	if outcome != "refused" || reason == "" {
		b.t.Fatalf("%s of %s is audited as %s: %s", action, target, outcome, reason)
	}
}

func wantCode(t *testing.T, err error, code fleet.Code) {
	t.Helper()
	_ = shownAs(t, err, code)
}

// shownAs is the Error that a person is shown, which must be of that code.
func shownAs(t *testing.T, err error, code fleet.Code) *fleet.Error {
	t.Helper()
	var shown *fleet.Error
	if !errors.As(err, &shown) || shown.Code != code {
		t.Fatalf("error %v, want code %s", err, code)
	}
	return shown
}

// states are those of the operation's steps.
func states(op fleet.Operation) string {
	var out []string
	for _, s := range op.Steps {
		out = append(out, string(s.Name)+" "+string(s.State))
	}
	return strings.Join(out, ", ")
}

// skips is a step that finds nothing to do.
func skips(ctx context.Context, r fleet.StepRequest) (fleet.StepResult, error) {
	result, err := succeeds(ctx, r)
	result.Skipped = true
	return result, err
}

// stopsAt finds a count of replicas, which is to be restored later.
func stopsAt(count int32) step {
	return func(context.Context, fleet.StepRequest) (fleet.StepResult, error) {
		return fleet.StepResult{Done: true, Replicas: &count}, nil
	}
}

func diffSpecs(want, got fleet.Spec) string { return gocmp.Diff(want, got, cmpopts.EquateEmpty()) }
