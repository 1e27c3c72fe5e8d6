package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"portolan/internal/postgres/postgrestest"
)

const (
	adminEmail    = "admin@example.com"
	adminPassword = "correct horse battery staple"
)

// portolan is one installation: its processes share a database and a folder of
// kubeconfigs.
type portolan struct {
	*client // of the admin
	name    string
	dir     string // holds kubeconfigs/ and data/
	env     map[string]string
	web     *process
}

// settings are the variables that every installation of a test has. Takeover
// is short so that crashes are told from slowness soon. What tests clusters has
// time on a busy machine, and does it when asked to: see those that are about it.
func settings(dir string) map[string]string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return map[string]string{
		"PORTOLAN_LISTEN":          "127.0.0.1:0",
		"PORTOLAN_METRICS_LISTEN":  "127.0.0.1:0",
		"PORTOLAN_DATA_DIR":        filepath.Join(dir, "data"),
		"PORTOLAN_KUBECONFIGS_DIR": filepath.Join(dir, "kubeconfigs"),
		"PORTOLAN_ENCRYPTION_KEYS": "e2e:" + base64.StdEncoding.EncodeToString(key),
		"PORTOLAN_ADMIN_EMAIL":     adminEmail,
		"PORTOLAN_ADMIN_PASSWORD":  adminPassword,
		"PORTOLAN_TAKEOVER_AFTER":  "2s",
		"PORTOLAN_TEST_DEADLINE":   "1m",
		"PORTOLAN_TEST_INTERVAL":   "1h",
		"PORTOLAN_LOG_LEVEL":       "debug",
	}
}

// begin starts serve or web and signs the admin in.
func (p *portolan) begin(role string) error {
	if err := os.MkdirAll(p.kubeconfigs(), 0o755); err != nil {
		return err
	}
	var err error
	if p.web, err = launch(p.name, role, p.env); err != nil {
		return err
	}
	address, err := p.web.address(patience)
	if err != nil {
		return err
	}
	p.client = newClient("http://" + address)
	if p.env["PORTOLAN_ADMIN_EMAIL"] == "" {
		return nil
	}
	answer, err := p.do(http.MethodPost, "/login", fields{"email": adminEmail, "password": adminPassword})
	if err == nil && answer.status != http.StatusSeeOther {
		err = fmt.Errorf("login: %d %s", answer.status, answer.text())
	}
	return err
}

func (p *portolan) kubeconfigs() string { return p.env["PORTOLAN_KUBECONFIGS_DIR"] }

var sharedState struct {
	sync.Mutex
	*portolan
	err error
}

// shared returns the Portolan that most tests use: “portolan serve” with a
// private PostgreSQL of its own.
func shared(t testing.TB) *portolan {
	t.Helper()
	s := &sharedState
	s.Lock()
	defer s.Unlock()
	if s.portolan == nil && s.err == nil {
		s.portolan, s.err = startShared()
	}
	if s.err != nil {
		t.Fatal("the shared Portolan: ", s.err)
	}
	return s.portolan
}

func startShared() (*portolan, error) {
	if _, err := program(); err != nil {
		return nil, err
	}
	dir := filepath.Join(buildDir, "shared")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p := &portolan{name: "shared", dir: dir, env: settings(dir)}
	return p, p.begin("serve")
}

// testDeadline bounds connection tests where nothing else is configured, which
// is so in what timely returns.
const testDeadline = 15 * time.Second

// timely is separate for tests of that deadline.
func timely(t testing.TB) *portolan {
	t.Helper()
	return separate(t, map[string]string{"PORTOLAN_TEST_DEADLINE": ""})
}

func endShared() error {
	s := &sharedState
	s.Lock()
	defer s.Unlock()
	if s.portolan == nil || s.web == nil {
		return nil
	}
	return s.web.stop()
}

// separate returns a Portolan of the test's own, of separate web and worker
// processes on a database that postgrestest provides. Only web is started. A
// change to "" leaves a setting to its default.
func separate(t testing.TB, change map[string]string) *portolan {
	t.Helper()
	dir := t.TempDir()
	p := &portolan{name: t.Name(), dir: dir, env: settings(dir)}
	p.env["PORTOLAN_DATABASE_URL"] = postgrestest.URL(t)
	for key, value := range change {
		if p.env[key] = value; value == "" {
			delete(p.env, key)
		}
	}
	if err := p.begin("web"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProcess(t, p.web) })
	return p
}

// worker starts a worker of the installation, which ends with the test, and
// waits until it says that it is ready.
func (p *portolan) worker(t testing.TB) *process {
	t.Helper()
	w, err := launch(p.name, "worker", p.env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProcess(t, w) })
	address, err := w.address(patience)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the worker to be ready", func() (bool, string) {
		status, text, err := fetch(t.Context(), "http://"+address+"/readyz")
		return err == nil && status == http.StatusOK, fmt.Sprint(status, text, err)
	})
	return w
}

// endProcess stops a process that the test may have killed itself.
func endProcess(t testing.TB, p *process) {
	select {
	case <-p.done:
		if err := p.raced(); err != nil {
			t.Error(err)
		}
	default:
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", p.role, p.tail())
	}
}

// person returns a client that is signed in as somebody else than the admin's
// client, in a session of its own.
func (p *portolan) person(t testing.TB, email, password string) *client {
	t.Helper()
	c := newClient(p.base)
	c.login(t, email, password)
	return c
}

// fetch reads a plain URL.
func fetch(ctx context.Context, url string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), errors.Join(err, answer.Body.Close())
}
