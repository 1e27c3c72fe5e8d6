package main

import (
	"bytes"
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"portolan/internal/localpg"
)

// private is a data folder, and perhaps a `portolan serve` on it.
type private struct {
	*testing.T
	dir     string
	env     []string
	serving *exec.Cmd
	base    string // URL of its pages
}

const admin, firstPassword = "ana@example.com", "the first password of Ana"

func newPrivate(t *testing.T) *private {
	t.Helper()
	dir := t.TempDir()
	return &private{T: t, dir: filepath.Join(dir, "data"), env: []string{
		"PORTOLAN_DATA_DIR=" + filepath.Join(dir, "data"), "PORTOLAN_KUBECONFIGS_DIR=" + dir, "PORTOLAN_LISTEN=127.0.0.1:0",
	}}
}

// serve starts `portolan serve`, and returns when its pages are there. end
// ends it.
func (p *private) serve(env ...string) {
	p.Helper()
	log := &watched{line: regexp.MustCompile(`msg=listening url=(\S+)`), found: make(chan string, 1)}
	p.serving = command(context.WithoutCancel(p.Context()), append(env, p.env...), "serve")
	p.serving.Stderr = log
	if err := p.serving.Start(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(p.end)
	select {
	case p.base = <-log.found:
	case <-time.After(3 * time.Minute):
		p.Fatal("it does not listen")
	}
}

// watched is a log that is read until a line matches.
type watched struct {
	line  *regexp.Regexp
	found chan string
	text  bytes.Buffer
}

func (w *watched) Write(text []byte) (int, error) {
	if w.text.Write(text); w.line != nil {
		if m := w.line.FindSubmatch(w.text.Bytes()); m != nil {
			w.found <- string(m[1])
			w.line = nil
		}
	}
	return len(text), nil
}

func (p *private) end() {
	p.Helper()
	if p.serving == nil {
		return
	}
	if err := p.serving.Process.Signal(syscall.SIGTERM); err != nil {
		p.Error(err)
	}
	if err := p.serving.Wait(); err != nil {
		p.Error(err)
	}
	p.serving = nil
}

// runs runs a command and returns what it says.
func (p *private) runs(input string, args ...string) (string, error) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 5*time.Minute)
	defer cancel()
	cmd := command(ctx, p.env, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// says runs a command that must succeed, and say so.
func (p *private) says(want, input string, args ...string) {
	p.Helper()
	if out, err := p.runs(input, args...); err != nil || !strings.Contains(out, want) {
		p.Errorf("%v: %v\n%s", args, err, out)
	}
}

// browser keeps cookies and follows no redirect.
func (p *private) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// signsIn reports whether somebody comes in with a password.
func (p *private) signsIn(b *http.Client, email, password string) bool {
	p.Helper()
	answer, err := b.PostForm(p.base+"/login", url.Values{"email": {email}, "password": {password}})
	if err != nil {
		p.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusSeeOther
}

// page returns a page's text.
func (p *private) page(b *http.Client, path string) string {
	p.Helper()
	answer, err := b.Get(p.base + path)
	if err != nil {
		p.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		p.Fatalf("%s: %d %v", path, answer.StatusCode, err)
	}
	return html.UnescapeString(string(text))
}

// isIn reports whether a browser's session is good.
func (p *private) isIn(b *http.Client) bool {
	p.Helper()
	answer, err := b.Get(p.base + "/profile")
	if err != nil {
		p.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// TestCommandsReachThePrivateDatabase: whoever has forgotten the only password
// is sent to the command line, where there is no address of the database to give.
func TestCommandsReachThePrivateDatabase(t *testing.T) {
	t.Parallel()
	p := newPrivate(t)
	for _, args := range [][]string{{"user", "reset-password", admin}, {"migrate"}, {"keys", "status"}} {
		if out, err := p.runs("", args...); err == nil || !strings.Contains(out, "no private database") {
			t.Errorf("%v, without any: %v\n%s", args, err, out)
		}
	}

	p.serve("PORTOLAN_ADMIN_EMAIL="+admin, "PORTOLAN_ADMIN_PASSWORD="+firstPassword)
	before := p.browser()
	if !p.signsIn(before, admin, firstPassword) || !p.isIn(before) {
		t.Fatal("the first admin cannot sign in")
	}
	const second = "the second password of Ana"
	p.says("its sessions have ended", second+"\n", "user", "reset-password", admin)
	if p.isIn(before) || p.signsIn(p.browser(), admin, firstPassword) {
		t.Error("the old password or its session is still good")
	}
	if !p.signsIn(p.browser(), admin, second) {
		t.Error("the new password is not")
	}
	const ben = "ben@example.com"
	p.says("created "+ben+" as operator", second+"\n", "user", "create", ben, "--role", "operator")
	if !p.signsIn(p.browser(), ben, second) {
		t.Error("the new account cannot sign in")
	}
	p.says("up to date", "", "migrate")
	p.says("seals, nothing yet", "", "keys", "status")
	p.says("0 values were sealed anew", "", "keys", "rotate")
	p.end()

	// Without it they start the database themselves, and end it.
	const third = "the third password of Ana"
	p.says("its sessions have ended", third+"\n", "user", "reset-password", admin)
	p.says("up to date", "", "migrate")
	p.says("0 values were sealed anew", "", "keys", "rotate")
	if _, running := localpg.Running(p.dir); running {
		t.Error("a server is left behind")
	}
	p.serve()
	if !p.signsIn(p.browser(), admin, third) {
		t.Error("the password that was set meanwhile is not good")
	}
}

const pasted = `
apiVersion: v1
kind: Config
current-context: harbour
contexts: [{name: harbour, context: {cluster: harbour, user: pilot}}]
clusters: [{name: harbour, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: pilot, user: {token: a-token}}]
`

// TestAKeyMissingFromTheFileIsAddedThere: in PORTOLAN_ENCRYPTION_KEYS it would
// take the place of the file, whose own key is then missing.
func TestAKeyMissingFromTheFileIsAddedThere(t *testing.T) {
	t.Parallel()
	p := newPrivate(t)
	file := filepath.Join(p.dir, keyFile)
	signedIn := func() *http.Client {
		p.serve("PORTOLAN_ADMIN_EMAIL="+admin, "PORTOLAN_ADMIN_PASSWORD="+firstPassword)
		b := p.browser()
		if !p.signsIn(b, admin, firstPassword) {
			t.Fatal("nobody comes in")
		}
		return b
	}
	register := func(b *http.Client, id string) {
		answer, err := b.PostForm(p.base+"/admin/clusters", url.Values{
			"id": {id}, "label": {id}, "provider": {"k3s"}, "credential_mode": {"encrypted"}, "kubeconfig": {pasted},
			"namespace": {"apps"}, "exposure_mode": {"cluster-ip"}, "enabled": {"true"},
		})
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusSeeOther {
			t.Fatalf("register %s: %d", id, answer.StatusCode)
		}
	}
	key := func() (text, id string) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		id, _, _ = strings.Cut(string(raw), ":")
		return strings.TrimSpace(string(raw)), id
	}

	register(signedIn(), "before")
	p.end()
	lost, id := key()
	if err := os.Remove(file); err != nil { // as in a restore that left it behind
		t.Fatal(err)
	}
	b := signedIn()
	register(b, "after")
	want := "Add the key " + id + " to the file " + file + ", behind the first one, a comma between them, and start Portolan again."
	if text := p.page(b, "/admin/clusters/before"); !strings.Contains(text, "the encryption key "+id+" is missing") || !strings.Contains(text, want) {
		t.Errorf("the cluster's page does not say %q", want)
	}
	if out, err := p.runs("", "keys", "status"); err == nil || !strings.Contains(out, "which the file "+file+" does not hold") {
		t.Errorf("keys status: %v\n%s", err, out)
	}
	p.end()

	made, _ := key()
	if err := os.WriteFile(file, []byte(made+","+lost+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = signedIn()
	for _, id := range []string{"before", "after"} {
		if text := p.page(b, "/admin/clusters/"+id); strings.Contains(text, "cannot be opened") {
			t.Errorf("with both keys in the file, %s cannot be opened", id)
		}
	}
	p.says("due", "", "keys", "status")
}
