package kube_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// rootWith returns a root with the named files, in a folder beside which there
// is something that must not be read.
func rootWith(t *testing.T, files map[string]string) *kube.Root {
	t.Helper()
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "outside"), []byte("s3cr3t"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "kubeconfigs")
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return kube.OpenRoot(dir)
}

func TestAttack13RootReadsOnlyInside(t *testing.T) {
	t.Parallel()
	root := rootWith(t, map[string]string{"good": "text", "a/b": "inner", "large": strings.Repeat("x", 1<<20+1)})
	for link, target := range map[string]string{
		"out": "../outside", "abs": "/etc/passwd", "dir": "..", "inside": "a/b", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(root.Dir(), link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root.Dir(), "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"good": "text", "a/b": "inner", "inside": "inner", root.Dir() + "/good": "text", "./good": "text", "/kubeconfigs/good": "text"} {
		if got, err := root.Read(name); err != nil || string(got) != want {
			t.Errorf("Read(%q) = %q, %v", name, got, err)
		}
	}
	for name, words := range map[string]string{
		"../outside": "“..”", "a/../../outside": "“..”", "a/../good": "“..”", "/etc/passwd": "outside", "": "path", ".": "name a file", "/": "outside",
		"out": "leads out", "abs": "leads out", "dir/outside": "leads out", "loop": "", "missing": "no file", "a": "not a regular file",
		"fifo": "not a regular file", "large": "larger than 1 MiB", "good\x00": "control", root.Dir() + "/../outside": "“..”", root.Dir() + "x/good": "outside",
		"/kubeconfigs/../outside": "“..”", "/kubeconfigs/out": "leads out", "/kubeconfigs": "outside", "/kubeconfigsx/good": "outside",
	} {
		got, err := root.Read(name)
		var e *fleet.Error
		if !errors.As(err, &e) || e.Code != fleet.CodeInvalid || !strings.Contains(e.Problems["kubeconfig_path"], words) {
			t.Errorf("Read(%q) = %q, %v", name, got, err)
		}
	}
	if rel, err := root.Clean(filepath.Join(root.Dir(), "a", "b")); rel != "a/b" || err != nil {
		t.Errorf("Clean: %q, %v", rel, err)
	}
	if rel, err := root.Clean("not/there/yet"); rel != "not/there/yet" || err != nil {
		t.Errorf("Clean: %q, %v", rel, err)
	}
}

func TestRootAppearsLater(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	root := kube.OpenRoot(dir)
	if found, err := root.List(); len(found) != 0 || err != nil {
		t.Fatalf("%v, %v", found, err)
	}
	if _, err := root.Read("a"); fleet.CodeOf(err) != fleet.CodeInvalid {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte(kubeconfigWith("", tokenUser)), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := root.List()
	if err != nil || len(found) != 1 || found[0].Path != "a" || found[0].Contexts[0].Server != "https://127.0.0.1:6443" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestListFindsKubeconfigs(t *testing.T) {
	t.Parallel()
	good := kubeconfigWith("", tokenUser)
	root := rootWith(t, map[string]string{
		"README": "read me", "README.md": "read me", ".gitignore": "*", "k3s": good, "team/aks.yaml": good, "team/.hidden": good,
		"team/deep/gke": good, "broken": "{", "ca.crt": "certificate",
	})
	if err := os.Symlink("../outside", filepath.Join(root.Dir(), "link")); err != nil {
		t.Fatal(err)
	}
	found, err := root.List()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range found {
		got[f.Path] = f.Problem
	}
	if len(got) != 4 || got["k3s"] != "" || got["team/aks.yaml"] != "" || got["broken"] == "" || !strings.Contains(got["link"], "leads out") {
		t.Errorf("%q", got)
	}
}

func TestListSeesWhatHasChanged(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	root := rootWith(t, map[string]string{
		"plain": kubeconfigWith("", tokenUser), "refers": kubeconfigWith("    certificate-authority: ca.crt\n", tokenUser),
	})
	look := func() (server, refusal string) {
		t.Helper()
		found, err := root.List()
		if err != nil || len(found) != 2 {
			t.Fatalf("%+v, %v", found, err)
		}
		plain, refers := found[0].Contexts, found[1].Contexts
		server, refusal = plain[0].Server, refers[0].Refusal
		plain[0].Server, refers[0].Refusal = "what a caller does", "with its list"
		return server, refusal
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root.Dir(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if server, refusal := look(); server != "https://127.0.0.1:6443" || !strings.Contains(refusal, "no file") {
			t.Errorf("at first %q, %q", server, refusal)
		}
	}
	write("plain", kubeconfigFor("https://127.0.0.1:6444", "", tokenUser)) // of the same length
	write("ca.crt", string(ca.pem))
	if server, refusal := look(); server != "https://127.0.0.1:6444" || refusal != "" {
		t.Errorf("then %q, %q", server, refusal)
	}
}

func TestMountedFileReferences(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	root := rootWith(t, map[string]string{
		"pki/ca.crt": string(ca.pem),
		"ok":         kubeconfigWith("    certificate-authority: pki/ca.crt\n", tokenUser),
		"out":        kubeconfigWith("    certificate-authority: ../outside\n", tokenUser),
		"abs":        kubeconfigWith("    certificate-authority: /etc/passwd\n", tokenUser),
		"token":      kubeconfigWith("", "    tokenFile: ../outside\n"),
		"missing":    kubeconfigWith("    certificate-authority: pki/none.crt\n", tokenUser),
	})
	for name, words := range map[string]string{"ok": "", "out": "leads out", "abs": "leads out", "token": "leads out", "missing": "no file"} {
		raw, err := root.Kubeconfig(name)
		if err != nil {
			t.Fatal(err)
		}
		opts := kube.ParseOptions{Root: root, Path: name}
		if words != "" {
			refused(t, string(raw), opts, "kubeconfig_path", words)
			continue
		}
		if _, err := kube.Parse(raw, opts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file below the limit may name another one, of the same size, many times.
func TestAttack13AKubeconfigThatNamesAFileOverAndOver(t *testing.T) {
	t.Parallel()
	const users = 100
	user := "- {name: u, user: {client-certificate: big, client-key: big, tokenFile: big}}\n"
	text := strings.Replace(kubeconfigWith("", tokenUser), "users:\n", "users:\n"+strings.Repeat(user, users), 1)
	root := rootWith(t, map[string]string{"bomb": text, "big": strings.Repeat("x", kube.MaxKubeconfigBytes)})
	raw, err := root.Kubeconfig("bomb")
	if err != nil || !strings.Contains(string(raw), "client-key: big") {
		t.Fatalf("%.200s, %v", raw, err)
	}
	if len(raw) > 3*kube.MaxKubeconfigBytes {
		t.Errorf("%d MiB of it are kept in memory", len(raw)>>20)
	}
}
