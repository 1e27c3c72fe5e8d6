package main

import (
	"bytes"
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// installation is a Portolan of the test's own, whose pages may be served.
type installation struct {
	*testing.T
	dir     string // of a private database
	env     []string
	serving *exec.Cmd
	base    string // URL of its pages
}

const admin, firstPassword = "ana@example.com", "the first password of Ana"

// newInstallation has a private database, unless env names another.
func newInstallation(t *testing.T, env ...string) *installation {
	t.Helper()
	dir := t.TempDir()
	return &installation{T: t, dir: filepath.Join(dir, "data"), env: append(env,
		"PORTOLAN_DATA_DIR="+filepath.Join(dir, "data"), "PORTOLAN_KUBECONFIGS_DIR="+dir, "PORTOLAN_LISTEN=127.0.0.1:0",
	)}
}

// serve starts a command that serves the pages, with an admin, and returns when
// they are there. end ends it.
func (p *installation) serve(role string) {
	p.Helper()
	env := []string{"PORTOLAN_ADMIN_EMAIL=" + admin, "PORTOLAN_ADMIN_PASSWORD=" + firstPassword}
	log := &watched{line: regexp.MustCompile(`msg=listening url=(\S+)`), found: make(chan string, 1)}
	p.serving = command(context.WithoutCancel(p.Context()), append(env, p.env...), role)
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

func (p *installation) end() {
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
func (p *installation) runs(input string, args ...string) (string, error) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 5*time.Minute)
	defer cancel()
	cmd := command(ctx, p.env, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// says runs a command that must succeed, and say so.
func (p *installation) says(want, input string, args ...string) {
	p.Helper()
	if out, err := p.runs(input, args...); err != nil || !strings.Contains(out, want) {
		p.Errorf("%v: %v\n%s", args, err, out)
	}
}

// browser keeps cookies and follows no redirect.
func (p *installation) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// signsIn reports whether somebody comes in with a password.
func (p *installation) signsIn(b *http.Client, email, password string) bool {
	p.Helper()
	answer, err := b.PostForm(p.base+"/login", url.Values{"email": {email}, "password": {password}})
	if err != nil {
		p.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusSeeOther
}

// page returns a page's text.
func (p *installation) page(b *http.Client, path string) string {
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
func (p *installation) isIn(b *http.Client) bool {
	p.Helper()
	answer, err := b.Get(p.base + "/profile")
	if err != nil {
		p.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

const pasted = `
apiVersion: v1
kind: Config
current-context: harbour
contexts: [{name: harbour, context: {cluster: harbour, user: pilot}}]
clusters: [{name: harbour, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: pilot, user: {token: a-token}}]
`

// register stores a cluster with its kubeconfig.
func (p *installation) register(b *http.Client, id string) {
	p.Helper()
	answer, err := b.PostForm(p.base+"/admin/clusters", url.Values{
		"id": {id}, "label": {id}, "provider": {"k3s"}, "credential_mode": {"encrypted"}, "kubeconfig": {pasted},
		"namespace": {"apps"}, "exposure_mode": {"cluster-ip"}, "enabled": {"true"},
	})
	if err != nil {
		p.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusSeeOther {
		p.Fatalf("register %s: %d", id, answer.StatusCode)
	}
}
