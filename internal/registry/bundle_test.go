package registry_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
	"portolan/internal/registry"
)

// patience bounds what is over in a moment, on a machine that has much else to
// do.
const patience = 3 * time.Minute

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

var admin = fleet.Actor{Email: "admin@example.org", Role: fleet.RoleAdmin, Address: "192.0.2.1"}

// folder is the mounted folder, as a map of its files.
type folder struct {
	mu    sync.Mutex
	files map[string]string
}

func (f *folder) put(path, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[path] = text
}

func (f *folder) remove(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, path)
}

func (f *folder) Clean(path string) (string, error) {
	if strings.Contains(path, "..") {
		return "", fleet.Problems{"kubeconfig_path": "leads out of the folder"}.Err()
	}
	return strings.TrimPrefix(path, "/kubeconfigs/"), nil
}

func (f *folder) Read(rel string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, ok := f.files[rel]
	if !ok {
		return nil, fleet.NotFound("There is no file %s.", rel)
	}
	return []byte(text), nil
}

func (f *folder) List() ([]registry.Found, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []registry.Found
	for path, text := range f.files {
		found := registry.Found{Path: path, Hash: hash(text), Contexts: []registry.Context{{Name: "main", Current: true}}}
		if strings.HasPrefix(text, "two contexts") {
			found.Contexts = append(found.Contexts, registry.Context{Name: "other"})
		}
		out = append(out, found)
	}
	return out, nil
}

func (f *folder) Inspect(raw []byte, _ registry.Reading) ([]registry.Context, error) {
	return []registry.Context{{Name: string(raw)}}, nil
}

func (f *folder) Check(raw []byte, _ registry.Reading) error {
	if strings.HasPrefix(string(raw), "bad") {
		return fleet.Problems{"kubeconfig": "is no kubeconfig"}.Err()
	}
	return nil
}

// Facts are of a token that ends on the day behind “until ”, if there is one.
func (f *folder) Facts(raw []byte, r registry.Reading) (fleet.CredentialFacts, error) {
	facts := fleet.CredentialFacts{Kind: "token", Context: r.Context}
	_, day, _ := strings.Cut(string(raw), "until ")
	facts.NotAfter, _ = time.Parse(time.DateOnly, day)
	return facts, f.Check(raw, r)
}

// Destination is what follows “of ” in these kubeconfigs, or their context
// that leads elsewhere.
func (f *folder) Destination(raw []byte, r registry.Reading) (string, error) {
	if r.Context == "evil" {
		return "the evil server", nil
	}
	_, server, _ := strings.Cut(string(raw), "of ")
	return server, nil
}

// scripted is a Tester whose tests end when they are told to.
type scripted struct {
	began chan registry.TestRequest // one a test
	end   chan fleet.TestState      // nil = at once, ok
}

func (s *scripted) Test(ctx context.Context, r registry.TestRequest, progress func(fleet.ConnectionTest)) fleet.ConnectionTest {
	c := r.Cluster
	result := fleet.ConnectionTest{Fingerprint: c.Fingerprint(), State: fleet.TestOK, Pinned: fleet.ClusterIdentity{Namespace: "kube-system", UID: "uid-1"}}
	s.began <- r
	progress(result)
	select {
	case result.State = <-s.end:
	case <-ctx.Done():
		result.State = fleet.TestFailed
	}
	if r.KubeconfigError != nil {
		result.State = fleet.TestFailed
	}
	if result.State == fleet.TestFailed {
		result.Checks = []fleet.Check{{Stage: fleet.StageConnect, State: fleet.CheckFailed, Message: "refused"}}
	}
	return result
}

func (s *scripted) Manifest(_ fleet.Cluster, identity string) ([]byte, error) {
	return []byte("kind: Role for " + identity), nil
}

// xor seals well enough to see whether something was sealed at all.
type xor struct{ off bool }

func (x xor) CanSeal() bool { return !x.off }

func (x xor) Seal(plaintext []byte, purpose, subject string) (string, []byte, error) {
	return "k1", flip(append([]byte(purpose+"/"+subject+":"), plaintext...)), nil
}

func (x xor) Open(_ string, sealed []byte, purpose, subject string) ([]byte, error) {
	text, ok := strings.CutPrefix(string(flip(sealed)), purpose+"/"+subject+":")
	if !ok {
		return nil, errors.New("sealed for something else")
	}
	return []byte(text), nil
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x55
	}
	return out
}

type bundle struct {
	*registry.Registry
	t      *testing.T
	db     *postgres.DB
	folder *folder
	tester *scripted
}

func setup(t *testing.T, change ...func(*registry.Options)) *bundle {
	t.Helper()
	b := &bundle{
		t: t, db: postgrestest.New(t), folder: &folder{files: map[string]string{"one": "kubeconfig 1", "two": "kubeconfig 2"}},
		tester: &scripted{began: make(chan registry.TestRequest, 100), end: make(chan fleet.TestState)},
	}
	b.db.Enqueue = func(context.Context, pgx.Tx, string, int64) error { return nil }
	b.Registry = b.another(change...)
	return b
}

// another is a further process on the same database.
func (b *bundle) another(change ...func(*registry.Options)) *registry.Registry {
	o := registry.Options{
		Store: b.db, Sealer: xor{}, Kubeconfigs: b.folder, Tester: b.tester, Logger: slog.New(slog.DiscardHandler),
		PollInterval: 10 * time.Millisecond, TestDeadline: time.Hour, // no test is taken for dead
	}
	for _, c := range change {
		c(&o)
	}
	r := registry.New(o)
	b.t.Cleanup(r.Close)
	return r
}

func form(id string, change ...string) fleet.ClusterForm {
	f := fleet.ClusterForm{
		"id": id, "label": "Cluster " + id, "provider": "k3s", "credential_mode": "mounted", "kubeconfig_path": "one",
		"namespace": "apps", "exposure_mode": "cluster-ip", "enabled": "true",
	}
	for i := 0; i < len(change); i += 2 {
		f[change[i]] = change[i+1]
	}
	return f
}

func (b *bundle) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) register(id string, change ...string) fleet.Cluster {
	b.t.Helper()
	c, err := b.Register(b.t.Context(), admin, form(id, change...))
	b.must(err)
	return c
}

func (b *bundle) status(id string) fleet.Status {
	b.t.Helper()
	s, err := b.db.ClusterStatus(b.t.Context(), id)
	b.must(err)
	return s
}

// until waits for the condition.
func (b *bundle) until(what string, holds func() bool) {
	b.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			b.t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

// begun waits until a test has begun.
func (b *bundle) begun() registry.TestRequest {
	b.t.Helper()
	select {
	case r := <-b.tester.began:
		return r
	case <-time.After(patience):
		b.t.Fatal("no test began")
		return registry.TestRequest{}
	}
}

// tested runs a test of the cluster that ends in state.
func (b *bundle) tested(id string, state fleet.TestState) {
	b.t.Helper()
	b.must(b.StartTest(b.t.Context(), admin, id))
	b.begun()
	b.tester.end <- state
	b.until("the test has ended", func() bool { return !b.status(id).Running })
}

// wantAskedBy looks at who the latest tests say has asked for them.
func (b *bundle) wantAskedBy(email string, ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		if test := b.status(id).Test; test.Actor != email || test.Trigger != fleet.TriggerPerson {
			b.t.Errorf("the test of %s was asked for by %q (%s)", id, test.Actor, test.Trigger)
		}
	}
}

// poll lets the registry look at files and due tests until the test ends.
func (b *bundle) poll() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	b.t.Cleanup(func() {
		stop()
		<-done
	})
}

// audits are the entries of an action, newest first.
func (b *bundle) audits(action string) []fleet.AuditEntry {
	b.t.Helper()
	rows, err := b.db.Pool().Query(b.t.Context(), `SELECT actor, target, outcome, reason FROM audit WHERE action = $1 ORDER BY id DESC`, action)
	b.must(err)
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[fleet.AuditEntry])
	b.must(err)
	return entries
}

func (b *bundle) wantRefused(action, target, reason string) {
	b.t.Helper()
	entries := b.audits(action)
	if len(entries) == 0 || entries[0].Outcome != "refused" || entries[0].Target != target || !strings.Contains(entries[0].Reason, reason) {
		b.t.Fatalf("audit of %s: %+v", action, entries)
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
