package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/registry"
)

// rotate asks for another credential, and lets its test end in state after
// during was called.
func (b *bundle) rotate(id string, form fleet.ClusterForm, state fleet.TestState, during func()) error {
	b.t.Helper()
	return b.rotateBy(admin, id, form, state, during)
}

func (b *bundle) rotateBy(by fleet.Actor, id string, form fleet.ClusterForm, state fleet.TestState, during func()) error {
	b.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := b.Rotate(b.t.Context(), by, id, form)
		done <- err
	}()
	if r := b.begun(); r.Pinned.UID != "uid-1" {
		b.t.Errorf("tested against the identity %q", r.Pinned.UID)
	}
	during()
	b.tester.end <- state
	return <-done
}

func TestANewCredentialIsTakenOnceItHasPassed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1", "label", "Mine", "namespace", "apps", "context", "main")
	b.tested("c1", fleet.TestOK)
	before := b.status("c1")

	b.must(b.rotate("c1", fleet.ClusterForm{"kubeconfig": "another secret", "label": "Theirs"}, fleet.TestOK, func() {
		s := b.status("c1")
		if !s.IsTarget() || !s.Running || s.Cluster.CredentialHash != before.Cluster.CredentialHash {
			t.Errorf("while it is tested: target %t, running %t", s.IsTarget(), s.Running)
		}
		wantCode(t, b.StartTest(t.Context(), admin, "c1"), fleet.CodeConflict)
	}))
	s := b.status("c1")
	if !s.IsTarget() || s.Cluster.CredentialMode != fleet.CredentialEncrypted || s.Cluster.CredentialHash != hash("another secret") {
		t.Fatalf("target %t (%s), credential %s %s", s.IsTarget(), s.WhyNotTarget(), s.Cluster.CredentialMode, s.Cluster.CredentialHash)
	}
	if s.Cluster.Label != "Mine" || s.Cluster.Version != before.Cluster.Version+1 {
		t.Errorf("label %q, version %d after %d", s.Cluster.Label, s.Cluster.Version, before.Cluster.Version)
	}
	raw, err := b.Kubeconfig(t.Context(), &s.Cluster)
	if b.must(err); string(raw) != "another secret" {
		t.Errorf("kubeconfig %q", raw)
	}
	entries := b.audits("cluster.rotate")
	if len(entries) != 1 || entries[0].Outcome != "ok" {
		t.Errorf("audit %+v", entries)
	}

	// And back to the mounted file.
	b.must(b.rotate("c1", fleet.ClusterForm{"credential_mode": "mounted", "kubeconfig_path": "two"}, fleet.TestOK, func() {}))
	s = b.status("c1")
	if !s.IsTarget() || s.Cluster.KubeconfigPath != "two" {
		t.Errorf("target %t, path %q", s.IsTarget(), s.Cluster.KubeconfigPath)
	}
	_, err = b.db.Credential(t.Context(), "c1")
	wantCode(t, err, fleet.CodeNotFound)
}

func TestTheOldCredentialStaysUnlessTheNewOnePasses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	before := b.status("c1")
	unchanged := func(after string) {
		t.Helper()
		s := b.status("c1")
		if !s.IsTarget() || s.Running || s.Cluster.Fingerprint() != before.Cluster.Fingerprint() {
			t.Errorf("after %s: target %t (%s), running %t", after, s.IsTarget(), s.WhyNotTarget(), s.Running)
		}
	}

	err := b.rotate("c1", fleet.ClusterForm{"kubeconfig": "another"}, fleet.TestFailed, func() {})
	if shown := shownAs(t, err, fleet.CodeInvalid); !strings.Contains(shown.Message, "connect") {
		t.Errorf("it says %q", shown.Message)
	}
	unchanged("a failed test")
	b.wantRefused("cluster.rotate", "cluster/c1", "stays")
	due, err := b.db.DueTests(t.Context(), 1<<40, 0)
	if b.must(err); len(due) > 0 {
		t.Error("the failed trial made the cluster due for a test")
	}

	_, err = b.Rotate(t.Context(), admin, "c1", fleet.ClusterForm{"kubeconfig": "bad one"})
	wantCode(t, err, fleet.CodeInvalid)
	_, err = b.Rotate(t.Context(), admin, "c1", fleet.ClusterForm{"credential_mode": "encrypted"})
	wantCode(t, err, fleet.CodeInvalid)
	_, err = b.Rotate(t.Context(), admin, "c1", fleet.ClusterForm{"kubeconfig_path": "three"})
	wantCode(t, err, fleet.CodeInvalid)
	unchanged("refused ones")

	// Somebody edits the cluster meanwhile.
	err = b.rotate("c1", fleet.ClusterForm{"kubeconfig": "another"}, fleet.TestOK, func() {
		_, err := b.Update(t.Context(), admin, "c1", form("c1", "label", "New", "version", "1"))
		b.must(err)
	})
	wantCode(t, err, fleet.CodeConflict)
	unchanged("an edit meanwhile")
}

// TestAttack10ARotationOutlivesNoRight: its test takes long, and whoever asked for it
// may be an admin no more when it ends.
func TestAttack10ARotationOutlivesNoRight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	before := b.status("c1")
	for id, email := range map[string]string{
		"018f0000-0000-7000-8000-000000000001": "fired@example.com", "018f0000-0000-7000-8000-000000000002": "other@example.com",
	} {
		b.must(b.db.CreateUser(t.Context(), fleet.User{ID: id, Email: email, Role: fleet.RoleAdmin}, false, fleet.AuditEntry{}))
	}
	u, err := b.db.UserByEmail(t.Context(), "fired@example.com")
	b.must(err)
	by := fleet.Actor{ID: u.ID, Epoch: u.Epoch, Email: u.Email, Role: u.Role}
	err = b.rotateBy(by, "c1", fleet.ClusterForm{"kubeconfig": "another"}, fleet.TestOK, func() {
		u.Role = fleet.RoleViewer
		b.must(b.db.ChangeUser(t.Context(), u, fleet.Actor{}, fleet.AuditEntry{}))
	})
	wantCode(t, err, fleet.CodeForbidden)
	b.wantRefused("cluster.rotate", "cluster/c1", "any more")
	if s := b.status("c1"); !s.IsTarget() || s.Running || s.Cluster.Fingerprint() != before.Cluster.Fingerprint() {
		t.Errorf("target %t (%s), running %t, another credential %t", s.IsTarget(), s.WhyNotTarget(), s.Running, s.Cluster.Fingerprint() != before.Cluster.Fingerprint())
	}
}

func TestARotationWaitsForTheTestThatRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	b.must(b.StartTest(t.Context(), admin, "c1"))
	b.begun()

	rotated := make(chan error, 2)
	rotate := func(ctx context.Context, kubeconfig string) {
		go func() {
			_, err := b.Rotate(ctx, admin, "c1", fleet.ClusterForm{"kubeconfig": kubeconfig})
			rotated <- err
		}()
	}
	gone, hangUp := context.WithCancel(t.Context())
	rotate(gone, "of one who hangs up")
	hangUp()
	if err := <-rotated; !errors.Is(err, context.Canceled) {
		t.Fatalf("hung up: %v", err)
	}
	rotate(t.Context(), "another")
	b.tester.end <- fleet.TestFailed
	if r := b.begun(); string(r.Kubeconfig) != "another" || r.Pinned.UID != "uid-1" {
		t.Fatalf("then %q is tested, against %+v", r.Kubeconfig, r.Pinned)
	}
	b.tester.end <- fleet.TestOK
	b.must(<-rotated)
	if s := b.status("c1"); !s.IsTarget() || s.Cluster.CredentialHash != hash("another") {
		t.Errorf("rotated: target %t (%s)", s.IsTarget(), s.WhyNotTarget())
	}
}

func TestARotationDoesNotWaitForGood(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *registry.Options) { o.TrialWait = time.Millisecond })
	b.register("c1")
	b.must(b.StartTest(t.Context(), admin, "c1"))
	b.begun()
	_, err := b.Rotate(t.Context(), admin, "c1", fleet.ClusterForm{"kubeconfig": "another"})
	wantCode(t, err, fleet.CodeConflict)
	var shown *fleet.Error
	if errors.As(err, &shown); !strings.Contains(shown.Message, "the present one stays") || shown.Remedy == "" {
		t.Errorf("it says %q, and to do %q", shown.Message, shown.Remedy)
	}
	b.tester.end <- fleet.TestOK
}

func TestWhoKeepsSomethingOfAClusterHearsOfChanges(t *testing.T) {
	t.Parallel()
	var heard []string
	b := setup(t, func(o *registry.Options) { o.Changed = func(id string) { heard = append(heard, id) } })
	b.register("c1")
	b.tested("c1", fleet.TestOK)
	if len(heard) > 0 {
		t.Errorf("heard of %v before anything changed", heard)
	}
	_, err := b.Update(t.Context(), admin, "c1", form("c1", "label", "New", "version", "1"))
	b.must(err)
	b.must(b.rotate("c1", fleet.ClusterForm{"kubeconfig": "another"}, fleet.TestOK, func() {}))
	b.must(b.Delete(t.Context(), admin, "c1", "c1"))
	if !slices.Equal(heard, []string{"c1", "c1", "c1"}) {
		t.Errorf("heard of %v", heard)
	}
}
