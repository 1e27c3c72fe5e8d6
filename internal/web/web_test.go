package web

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/auth"
	"portolan/internal/fleet"
	"portolan/internal/notify"
	"portolan/internal/operate"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
	"portolan/internal/registry"
	"portolan/static"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

const password = "a long enough password"

// patience bounds what is over in a moment, on a machine that has much else to
// do.
const patience = 3 * time.Minute

// bundle is a Portolan whose database is real and whose clusters are not.
type bundle struct {
	t      testing.TB
	db     *postgres.DB
	auth   *auth.Service
	server *Server
	logs   *logSource
	tester *testers
	base   string
	token  string
}

func setup(t testing.TB, change ...func(*Options)) *bundle {
	t.Helper()
	address := postgrestest.MigratedURL(t)
	db, err := postgres.Open(t.Context(), address, postgres.Options{Name: "web-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	db.Enqueue = func(context.Context, pgx.Tx, string, int64) error { return nil }
	logger := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	bell, err := notify.Listen(t.Context(), address, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bell.Close)
	assets, err := static.New()
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, db: db, logs: &logSource{}, tester: &testers{state: fleet.TestOK}}
	b.auth = auth.New(auth.Options{Store: db, Sessions: db.SessionStore(), Logger: logger})
	reg := registry.New(registry.Options{
		Store: db, Sealer: sealer{}, Kubeconfigs: kubeconfigs{"k3s-local": "one", "gke-us-central1.yaml": "two"}, Tester: b.tester, Logger: logger,
		TestDeadline: time.Hour,
	})
	t.Cleanup(reg.Close)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	options := Options{
		Context: ctx, Logger: logger, Auth: b.auth, Registry: reg, Reads: db, Logs: b.logs, Bell: bell, Assets: assets,
		Operator: operate.New(operate.Options{Store: db, Sealer: sealer{}, Targets: reg, Logger: logger}),
		Recheck:  50 * time.Millisecond,
		Patience: time.Hour, // no reader is given up because the machine is slow
	}
	for _, c := range change {
		c(&options)
	}
	if b.server, err = New(options); err != nil {
		t.Fatal(err)
	}
	if b.token, err = b.auth.PrepareSetup(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.server.Handler())
	t.Cleanup(func() { cancel(); server.Close() })
	b.base = server.URL
	return b
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// user makes an account and returns a client that is signed in with it.
func (b *bundle) user(role fleet.Role) *client {
	b.t.Helper()
	email := string(role) + "@example.com"
	_, err := b.auth.CreateUser(b.t.Context(), fleet.Actor{Email: "test"}, email, password, role)
	if err != nil && fleet.CodeOf(err) != fleet.CodeConflict {
		b.t.Fatal(err)
	}
	c := b.client()
	if a := c.post("/login", fields{"email": email, "password": password}); a.status != http.StatusSeeOther {
		b.t.Fatalf("login as %s: %d\n%s", role, a.status, a.body)
	}
	return c
}

type fields map[string]string

func (f fields) but(name, value string) fields {
	out := maps.Clone(f)
	out[name] = value
	return out
}

// client is a browser with cookies and without JavaScript.
type client struct {
	t    testing.TB
	base string
	http *http.Client
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) location() string { return a.header.Get("Location") }

func (b *bundle) client() *client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return &client{t: b.t, base: b.base, http: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) get(path string, headers ...string) answer {
	return c.do(http.MethodGet, path, nil, headers...)
}

func (c *client) post(path string, form fields, headers ...string) answer {
	values := url.Values{}
	for name, value := range form {
		values.Set(name, value)
	}
	return c.do(http.MethodPost, path, strings.NewReader(values.Encode()),
		append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
}

func (c *client) do(method, path string, body io.Reader, headers ...string) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		return answer{status: res.StatusCode, header: res.Header}
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(text)}
}

// clusterFields are a form that can be saved.
func clusterFields(id string) fields {
	return fields{
		"id": id, "label": "Cluster " + id, "provider": "k3s", "cluster_name": "main", "credential_mode": "encrypted",
		"kubeconfig": "anything", "namespace": "apps", "exposure_mode": "load-balancer", "enabled": "true",
	}
}

// target registers a cluster and tests it, and returns its id.
func (b *bundle) target(admin *client, id string) string {
	b.t.Helper()
	if a := admin.post("/admin/clusters", clusterFields(id)); a.status != http.StatusSeeOther {
		b.t.Fatalf("register: %d\n%s", a.status, a.body)
	}
	if a := admin.post("/admin/clusters/"+id+"/test", nil); a.status != http.StatusSeeOther {
		b.t.Fatalf("test: %d\n%s", a.status, a.body)
	}
	b.until("the test to end", func() bool {
		s, err := b.db.ClusterStatus(b.t.Context(), id)
		return err == nil && s.TestState() != fleet.TestRunning && s.Test != nil
	})
	return id
}

// deployed begins a deploy and returns the ids of workload and operation.
func (b *bundle) deployed(operator *client, cluster, name string) (workload, operation string) {
	b.t.Helper()
	a := operator.post("/deploy", fields{
		"target": "k8s:" + cluster, "runtime": "container", "name": name, "image": "demo:1", "ports": "http=8080", "secret_env": "TOKEN=s3cret",
	})
	if a.status != http.StatusSeeOther {
		b.t.Fatalf("deploy: %d\n%s", a.status, a.body)
	}
	operation = strings.TrimPrefix(a.location(), "/operations/")
	op, err := b.db.Operation(b.t.Context(), operation)
	if err != nil {
		b.t.Fatal(err)
	}
	return op.WorkloadID, operation
}

// until waits for a condition.
func (b *bundle) until(what string, met func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !met() {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited too long for %s", what)
		}
		pause(b.t.Context(), 5*time.Millisecond)
	}
}

// sealer keeps values readable: what is sealed well is tested in package seal.
type sealer struct{}

func (sealer) CanSeal() bool { return true }
func (sealer) Seal(plaintext []byte, _, _ string) (string, []byte, error) {
	return "test", plaintext, nil
}
func (sealer) Open(_ string, sealed []byte, _, _ string) ([]byte, error) { return sealed, nil }

// kubeconfigs is a folder of files, by path.
type kubeconfigs map[string]string

func (k kubeconfigs) Clean(path string) (string, error) {
	if _, ok := k[path]; !ok {
		return "", fleet.Problems{"kubeconfig_path": "there is no such file"}.Err()
	}
	return path, nil
}
func (k kubeconfigs) Read(rel string) ([]byte, error) { return []byte(k[rel]), nil }
func (k kubeconfigs) List() ([]registry.Found, error) {
	var out []registry.Found
	for path, text := range k {
		list, _ := k.Inspect([]byte(text), registry.Reading{})
		out = append(out, registry.Found{Path: path, Contexts: list})
	}
	return out, nil
}
func (k kubeconfigs) Inspect(raw []byte, _ registry.Reading) ([]registry.Context, error) {
	if string(raw) == "broken" {
		return nil, fleet.Problems{"kubeconfig": "is not YAML"}.Err()
	}
	c := registry.Context{Name: "main", Cluster: "kube", User: "admin", Server: "https://192.0.2.1:6443", Current: true}
	c.Refusal, c.Account = refusals[string(raw)], string(raw) == "wants a person"
	return []registry.Context{c}, nil
}

// refusals are what is wrong with kubeconfigs that can be read.
var refusals = map[string]string{
	"wants a person": "It logs a person in. The form prints the manifest.", "plain http": "Its server is plain http.",
}

func (k kubeconfigs) Check(raw []byte, r registry.Reading) error {
	if string(raw) == "broken" {
		return fleet.Problems{"kubeconfig": "is not YAML"}.Err()
	}
	if why := refusals[string(raw)]; why != "" {
		return fleet.Problems{"kubeconfig": why}.Err()
	}
	if r.Context != "" && r.Context != "main" {
		return fleet.Problems{"context": "there is no such context"}.Err()
	}
	return nil
}

func (k kubeconfigs) Facts(raw []byte, r registry.Reading) (fleet.CredentialFacts, error) {
	return fleet.CredentialFacts{Kind: "token", Subject: "somebody", Server: "https://192.0.2.1:6443", NotAfter: time.Now().Add(71 * time.Hour)}, k.Check(raw, r)
}

func (k kubeconfigs) Destination(raw []byte, _ registry.Reading) (string, error) {
	return string(raw), nil
}

// testers end every connection test at once, in the state they have.
type testers struct{ state fleet.TestState }

func (k *testers) Test(_ context.Context, r registry.TestRequest, progress func(fleet.ConnectionTest)) fleet.ConnectionTest {
	t := fleet.ConnectionTest{
		State: fleet.TestRunning, Fingerprint: r.Cluster.Fingerprint(), ServerVersion: "v1.36.3",
		Checks: []fleet.Check{{Stage: fleet.StageConnect, State: fleet.CheckRunning}},
	}
	progress(t)
	t.State, t.FinishedAt = k.state, time.Now()
	t.Checks[0].State, t.Checks[0].Message = fleet.CheckOK, "connected"
	if k.state == fleet.TestFailed {
		t.Checks[0].State, t.Checks[0].Message = fleet.CheckFailed, "nobody answers <b>at all</b>"
	}
	return t
}
func (k *testers) Manifest(c fleet.Cluster, _ string) ([]byte, error) {
	return []byte("kind: Role # " + c.ID + "\n"), nil
}

// logSource gives out a log that the test writes.
type logSource struct {
	query   fleet.LogQuery
	batches chan fleet.LogBatch
	err     error
}

func (l *logSource) OpenLog(_ context.Context, q fleet.LogQuery) (LogStream, error) {
	l.query = q
	return l, l.err
}
func (l *logSource) Next(ctx context.Context) (fleet.LogBatch, error) {
	select {
	case b, ok := <-l.batches:
		if !ok {
			return b, io.EOF
		}
		return b, nil
	case <-ctx.Done():
		return fleet.LogBatch{}, ctx.Err()
	}
}
func (l *logSource) Close() {}
