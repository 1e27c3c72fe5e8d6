package registry_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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
	for path := range f.files {
		out = append(out, registry.Found{Path: path, Contexts: []registry.Context{{Name: "main"}}})
	}
	return out, nil
}

func (f *folder) Inspect(raw []byte, _ fleet.CredentialMode, _ string) ([]registry.Context, error) {
	return []registry.Context{{Name: string(raw)}}, nil
}

func (f *folder) Check(raw []byte, _ fleet.CredentialMode, _, _ string) error {
	if strings.HasPrefix(string(raw), "bad") {
		return fleet.Problems{"kubeconfig": "is no kubeconfig"}.Err()
	}
	return nil
}

// scripted is a Tester whose tests end when they are told to.
type scripted struct {
	began chan registry.TestRequest // one a test
	end   chan fleet.TestState      // nil = at once, ok
}

func (s *scripted) Test(ctx context.Context, r registry.TestRequest, progress func(fleet.ConnectionTest)) fleet.ConnectionTest {
	c := r.Cluster
	result := fleet.ConnectionTest{Fingerprint: c.Fingerprint(), State: fleet.TestOK, ClusterUID: "uid-1", UIDNamespace: "kube-system"}
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

func (s *scripted) Manifest(fleet.Cluster) ([]byte, error) { return []byte("kind: Role\n"), nil }

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
		PollInterval: 10 * time.Millisecond,
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
	deadline := time.After(10 * time.Second)
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
	case <-time.After(10 * time.Second):
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

func TestB4ASecondSaveIsToldWhatTheFirstChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.register("c1")
	version := fmt.Sprint(c.Version)
	_, err := b.Update(t.Context(), admin, "c1", form("c1", "label", "First", "version", version))
	b.must(err)
	_, err = b.Update(t.Context(), admin, "c1", form("c1", "label", "Second", "region", "west", "version", version))
	shown := shownAs(t, err, fleet.CodeConflict)
	if shown.Problems["label"] != "now: First" || shown.Problems["region"] != "now: (empty)" || len(shown.Problems) != 2 {
		t.Fatalf("problems %v", shown.Problems)
	}
	if got := b.status("c1").Cluster.Label; got != "First" {
		t.Fatalf("label %q was overwritten", got)
	}
	b.wantRefused("cluster.update", "cluster/c1", "Another admin")
	_, err = b.Update(t.Context(), admin, "c1", form("c1"))
	wantCode(t, err, fleet.CodeInvalid) // no version
}

func TestB2WhatMakesAClusterUntested(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	for _, c := range []struct {
		field, value string
		target       bool
	}{
		{"label", "Another", true},
		{"region", "west", true},
		{"namespace", "elsewhere", false},
		{"openclaw_namespace", "claws", false},
		{"context", "second", false},
		{"exposure_mode", "node-port", false},
		{"kubeconfig_path", "two", false},
	} {
		version := fmt.Sprint(b.status("c1").Cluster.Version)
		_, err := b.Update(t.Context(), admin, "c1", form("c1", c.field, c.value, "version", version))
		b.must(err)
		if s := b.status("c1"); s.IsTarget() != c.target || s.Running {
			t.Errorf("after %s: target %t (%s), running %t", c.field, s.IsTarget(), s.WhyNotTarget(), s.Running)
		}
		version = fmt.Sprint(b.status("c1").Cluster.Version)
		_, err = b.Update(t.Context(), admin, "c1", form("c1", "version", version)) // back to what was tested
		b.must(err)
	}
	if s := b.status("c1"); !s.IsTarget() {
		t.Fatal(s.WhyNotTarget())
	}
}

func TestB2AChangedFileIsTestedAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	b.folder.put("one", "rotated")

	// Whoever is about to deploy notices before the poller.
	_, err := b.CheckTarget(t.Context(), "c1")
	wantCode(t, err, fleet.CodeConflict)
	if r := b.begun(); string(r.Kubeconfig) != "rotated" || r.PinnedUID != "uid-1" {
		t.Fatalf("tested %q, pinned to %q", r.Kubeconfig, r.PinnedUID)
	}

	// It changes once more under the running test, whose end then says nothing.
	b.poll()
	b.folder.put("one", "rotated again")
	b.until("the change is noticed", func() bool { return b.status("c1").Cluster.CredentialHash != hash("rotated") })
	b.tester.end <- fleet.TestOK
	if r := b.begun(); string(r.Kubeconfig) != "rotated again" {
		t.Fatalf("tested %q", r.Kubeconfig)
	}
	if s := b.status("c1"); s.IsTarget() {
		t.Fatal("a test of the file before makes a target")
	}
	b.tester.end <- fleet.TestOK
	b.until("the cluster is a target", func() bool { s := b.status("c1"); return s.IsTarget() })

	b.folder.remove("one")
	b.until("the missing file is noticed", func() bool { s := b.status("c1"); return s.WhyNotTarget() == "its kubeconfig cannot be read" })
	b.folder.put("one", "rotated again")
	b.begun()
	b.until("the file is back", func() bool { s := b.status("c1"); return s.IsTarget() })
}

func hash(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func TestATestThatIsCutShortSaysNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	first := b.another()
	b.must(first.StartTest(t.Context(), admin, "c1"))
	b.begun()
	wantCode(t, b.StartTest(t.Context(), admin, "c1"), fleet.CodeConflict) // one runs already
	b.wantRefused("cluster.test", "cluster/c1", "already running")
	first.Close() // the process shuts down
	if s := b.status("c1"); !s.IsTarget() || s.Running {
		t.Fatalf("%s, running %t", s.WhyNotTarget(), s.Running)
	}
	b.poll() // another makes up for it
	b.begun()
	b.tester.end <- fleet.TestFailed
	b.until("the result is there", func() bool { s := b.status("c1"); return s.WhyNotTarget() == "failed at connect" })
}

func TestAllAreTestedHoweverLittleRoomThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *registry.Options) { o.MaxTests = 2 })
	for i := range 5 {
		b.register(fmt.Sprintf("c%d", i))
	}
	b.register("off", "enabled", "")
	n, err := b.TestAll(t.Context(), admin)
	b.must(err)
	if n != 5 {
		t.Fatalf("%d started", n)
	}
	b.begun()
	b.begun()
	// A test that somebody asks for does not wait for those.
	b.must(b.StartTest(t.Context(), admin, "off"))
	if r := b.begun(); r.Cluster.ID != "off" {
		t.Fatalf("test of %s", r.Cluster.ID)
	}
	b.poll()
	for range 6 {
		b.tester.end <- fleet.TestOK
	}
	b.until("all are targets", func() bool {
		all, err := b.db.AllClusters(t.Context())
		b.must(err)
		targets := 0
		for _, s := range all {
			if s.IsTarget() {
				targets++
			}
		}
		return targets == 5
	})
	b.until("no test is left", func() bool { s := b.status("off"); return s.TestState() == fleet.TestOK })
	select {
	case r := <-b.tester.began:
		if r.Cluster.ID == "off" {
			t.Fatal("a disabled cluster was tested by itself")
		}
	default:
	}
}

func TestAnEncryptedKubeconfigIsKeptUntilItIsReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	encrypted := []string{"credential_mode", "encrypted", "kubeconfig_path", "", "kubeconfig"}
	c := b.register("c1", append(encrypted, "secret one")...)
	cred, err := b.db.Credential(t.Context(), "c1")
	b.must(err)
	if strings.Contains(string(cred.Sealed), "secret one") {
		t.Fatal("it is stored in the clear")
	}
	text, err := b.Kubeconfig(t.Context(), &c)
	if b.must(err); string(text) != "secret one" {
		t.Fatalf("kubeconfig %q", text)
	}
	b.tested("c1", fleet.TestOK)
	_, err = b.Update(t.Context(), admin, "c1", form("c1", append(encrypted, "", "version", "1")...))
	b.must(err)
	if s := b.status("c1"); !s.IsTarget() {
		t.Fatalf("a blank field changed it: %s", s.WhyNotTarget())
	}
	_, err = b.Update(t.Context(), admin, "c1", form("c1", append(encrypted, "bad secret", "version", "2")...))
	if shown := shownAs(t, err, fleet.CodeInvalid); shown.Problems["kubeconfig"] == "" {
		t.Fatalf("problems %v", shown.Problems)
	}
	_, err = b.Update(t.Context(), admin, "c1", form("c1", append(encrypted, "secret two", "version", "2")...))
	b.must(err)
	if s := b.status("c1"); s.TestState() != fleet.TestUntested {
		t.Fatalf("state %s", s.TestState())
	}
	var leaks int
	b.must(b.db.Pool().QueryRow(t.Context(), `SELECT count(*) FROM audit WHERE to_jsonb(audit)::text LIKE '%secret%'`).Scan(&leaks))
	if leaks > 0 {
		t.Fatal("the audit shows a kubeconfig")
	}

	keyless := b.another(func(o *registry.Options) { o.Sealer = xor{off: true} })
	_, err = keyless.Register(t.Context(), admin, form("c2", append(encrypted, "secret")...))
	if shown := shownAs(t, err, fleet.CodeUnavailable); !strings.Contains(shown.Remedy, "PORTOLAN_ENCRYPTION_KEYS") {
		t.Fatalf("remedy %q", shown.Remedy)
	}
}

func TestB3AClusterInUseStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	w := fleet.Workload{ID: "0198b4f2-0000-7000-8000-000000000001", Name: "web", ClusterID: "c1", Namespace: "apps", Runtime: "container", Kind: fleet.KindDeployment}
	_, err := b.db.Begin(t.Context(), fleet.Begin{
		Workload: w, New: true, Release: &fleet.Release{WorkloadID: w.ID},
		Operation: fleet.Operation{ID: "0198b4f2-0000-7000-8000-000000000002", WorkloadID: w.ID, WorkloadName: "web", ClusterID: "c1", Verb: fleet.VerbDeploy},
	})
	b.must(err)
	for _, confirm := range []string{"", "c1"} {
		err := b.Delete(t.Context(), admin, "c1", confirm)
		if shown := shownAs(t, err, fleet.CodeConflict); !strings.Contains(shown.Message, "web") {
			t.Fatalf("message %q", shown.Message)
		}
	}
	b.wantRefused("cluster.delete", "cluster/c1", "web")
	b.register("c2")
	wantCode(t, b.Delete(t.Context(), admin, "c2", "c1"), fleet.CodeInvalid)
	b.must(b.Delete(t.Context(), admin, "c2", "c2"))
	wantCode(t, b.Delete(t.Context(), admin, "c2", "c2"), fleet.CodeNotFound)
	wantCode(t, b.SetEnabled(t.Context(), admin, "c2", false), fleet.CodeNotFound)
	b.wantRefused("cluster.disable", "cluster/c2", "no such cluster")
}

func TestB5FilesThatNoClusterUsesAreFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1", "kubeconfig_path", "/kubeconfigs/one")
	found, err := b.Found(t.Context())
	b.must(err)
	if len(found) != 1 || found[0].Path != "two" {
		t.Fatalf("found %+v", found)
	}
}
