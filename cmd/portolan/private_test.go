package main

import (
	"bytes"
	"context"
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
