package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"portolan/internal/localpg"
)

// TestCommandsReachThePrivateDatabase: whoever has forgotten the only password
// is sent to the command line, where there is no address of the database to give.
func TestCommandsReachThePrivateDatabase(t *testing.T) {
	t.Parallel()
	p := newInstallation(t)
	for _, args := range [][]string{{"user", "reset-password", admin}, {"migrate"}, {"keys", "status"}} {
		if out, err := p.runs("", args...); err == nil || !strings.Contains(out, "no private database") {
			t.Errorf("%v, without any: %v\n%s", args, err, out)
		}
	}

	p.serve("serve")
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
	p.serve("serve")
	if !p.signsIn(p.browser(), admin, third) {
		t.Error("the password that was set meanwhile is not good")
	}
}

// TestAKeyMissingFromTheFileIsAddedThere: in PORTOLAN_ENCRYPTION_KEYS it would
// take the place of the file, whose own key is then missing.
func TestAKeyMissingFromTheFileIsAddedThere(t *testing.T) {
	t.Parallel()
	p := newInstallation(t)
	file := filepath.Join(p.dir, keyFile)
	signedIn := func() *http.Client {
		p.serve("serve")
		b := p.browser()
		if !p.signsIn(b, admin, firstPassword) {
			t.Fatal("nobody comes in")
		}
		return b
	}
	key := func() (text, id string) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		id, _, _ = strings.Cut(string(raw), ":")
		return strings.TrimSpace(string(raw)), id
	}

	p.register(signedIn(), "before")
	p.end()
	lost, id := key()
	if err := os.Remove(file); err != nil { // as in a restore that left it behind
		t.Fatal(err)
	}
	b := signedIn()
	p.register(b, "after")
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
