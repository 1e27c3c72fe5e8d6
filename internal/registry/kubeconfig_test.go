package registry_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/registry"
)

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

func TestACloudSecretNeedsAKeyToSealItWith(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sealed := []string{"cloud_credential", "sealed", "aws_access_key_id", "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key"}
	b.register("c1", append(sealed, "the secret")...)
	keyless := b.another(func(o *registry.Options) { o.Sealer = xor{off: true} })
	_, err := keyless.Update(t.Context(), admin, "c1", form("c1", append(sealed, "another secret", "version", "1")...))
	if shown := shownAs(t, err, fleet.CodeUnavailable); !strings.Contains(shown.Remedy, "PORTOLAN_ENCRYPTION_KEYS") {
		t.Errorf("remedy %q", shown.Remedy)
	}
	_, err = keyless.Update(t.Context(), admin, "c1", form("c1", append(sealed, "", "version", "1")...))
	b.must(err) // the stored one is kept
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
	if r := b.begun(); string(r.Kubeconfig) != "rotated" || r.Pinned.UID != "uid-1" {
		t.Fatalf("tested %q, pinned to %q", r.Kubeconfig, r.Pinned.UID)
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

func TestB2SavingHidesNoChangeOfTheFile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	b.folder.put("one", "rotated")
	_, err := b.Update(t.Context(), admin, "c1", form("c1", "label", "Another", "version", "1"))
	b.must(err)
	b.poll()
	if r := b.begun(); string(r.Kubeconfig) != "rotated" {
		t.Fatalf("tested %q", r.Kubeconfig)
	}
	b.tester.end <- fleet.TestOK
	b.until("the cluster is a target", func() bool { s := b.status("c1"); return s.IsTarget() })
}

func hash(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// Without the choice, the field that is filled in says where the kubeconfig is.
func TestAnInspectionNeedsNoModeToBeChosen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for want, form := range map[string]fleet.ClusterForm{
		"kubeconfig 1": {"kubeconfig_path": "one"},
		"pasted":       {"kubeconfig": "pasted", "kubeconfig_path": "one"},
	} {
		if contexts, err := b.Inspect(t.Context(), form); err != nil || len(contexts) != 1 || contexts[0].Name != want {
			t.Errorf("%v: %+v, %v", form, contexts, err)
		}
	}
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
	b.register("c2", "credential_mode", "encrypted", "kubeconfig_path", "", "kubeconfig", "kubeconfig 2")
	if found, err = b.Found(t.Context()); err != nil || len(found) > 0 {
		t.Fatalf("found %+v, %v: a copy of it is registered", found, err)
	}

	// Each context of a file counts for itself.
	b.folder.put("both", "two contexts")
	for _, used := range []struct {
		context string
		left    []string
	}{{"", []string{"other"}}, {"main", []string{"other"}}, {"other", nil}} {
		b.register("c-"+used.context+"3", "kubeconfig_path", "both", "context", used.context)
		found, err := b.Found(t.Context())
		b.must(err)
		var left []string
		for _, f := range found {
			for _, c := range f.Contexts {
				left = append(left, c.Name)
			}
			if f.Used != 1 {
				t.Errorf("%d contexts are said to be used", f.Used)
			}
		}
		if !slices.Equal(left, used.left) {
			t.Errorf("with %q registered too, %v are found", used.context, left)
		}
	}
}

func TestWhatACredentialSaysIsKnownBeforeItsFirstTest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ends := func(when, id, want, context string) {
		t.Helper()
		s := b.status(id)
		says := s.Credential()
		if got := says.NotAfter.Format(time.DateOnly); got != want || says.Kind != "token" || says.Context != context {
			t.Errorf("%s: it says %+v, want the end %s", when, says, want)
		}
	}
	b.folder.put("one", "until 2031-01-01")
	b.register("mounted")
	ends("registered", "mounted", "2031-01-01", "")
	b.folder.put("one", "until 2032-01-01")
	_, err := b.CheckTarget(t.Context(), "mounted") // which notices the file
	wantCode(t, err, fleet.CodeConflict)
	ends("the file was replaced", "mounted", "2032-01-01", "")
	b.begun() // of the new file
	b.tester.end <- fleet.TestOK
	b.until("the test has ended", func() bool { return !b.status("mounted").Running })
	ends("tested", "mounted", "2032-01-01", "")
	b.folder.put("one", "bad")
	_, err = b.CheckTarget(t.Context(), "mounted")
	wantCode(t, err, fleet.CodeConflict)
	if says := b.status("mounted").Cluster.Credential; says != (fleet.CredentialFacts{}) {
		t.Errorf("one that cannot be used says %+v", says)
	}
	b.begun()
	b.tester.end <- fleet.TestFailed

	encrypted := []string{"credential_mode", "encrypted", "kubeconfig_path", "", "kubeconfig"}
	b.register("encrypted", append(encrypted, "until 2033-01-01")...)
	ends("registered", "encrypted", "2033-01-01", "")
	for version, change := range []struct{ kubeconfig, context, want string }{{"", "", "2033-01-01"}, {"", "other", "2033-01-01"}, {"until 2034-01-01", "", "2034-01-01"}} {
		_, err := b.Update(t.Context(), admin, "encrypted", form("encrypted", append(encrypted, change.kubeconfig, "context", change.context, "version", fmt.Sprint(version+1))...))
		b.must(err)
		ends("saved", "encrypted", change.want, change.context)
	}
	b.tested("encrypted", fleet.TestOK)
	// One that was stored before it was asked what it says tells it when saved.
	_, err = b.db.Pool().Exec(t.Context(), `UPDATE clusters SET credential = '{}' WHERE id = 'encrypted'`)
	b.must(err)
	_, err = b.Update(t.Context(), admin, "encrypted", form("encrypted", append(encrypted, "", "label", "Another name", "version", "4")...))
	b.must(err)
	ends("renamed", "encrypted", "2034-01-01", "")
	b.must(b.rotate("encrypted", fleet.ClusterForm{"kubeconfig": "until 2035-01-01"}, fleet.TestOK, func() {}))
	ends("rotated", "encrypted", "2035-01-01", "")
}
