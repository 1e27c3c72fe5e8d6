package registry_test

import (
	"errors"
	"maps"
	"testing"

	"portolan/internal/fleet"
)

// TestAttack02ACloudSecretIsNotRepointed: tokens made from a sealed cloud
// credential are bearer tokens, so the secret is not kept for another server.
func TestAttack02ACloudSecretIsNotRepointed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sealed := form("eks", "credential_mode", "encrypted", "kubeconfig", "of the good server", "kubeconfig_path", "",
		"cloud_credential", "sealed", "aws_access_key_id", "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key", "the secret")
	c, err := b.Register(t.Context(), admin, sealed)
	if err != nil {
		t.Fatal(err)
	}
	kept := func(changes map[string]string) error {
		f := maps.Clone(sealed)
		f["kubeconfig"], f["aws_secret_access_key"], f["version"] = "", "", "1"
		maps.Copy(f, changes)
		_, err := b.Update(t.Context(), admin, c.ID, f)
		return err
	}
	for name, changes := range map[string]map[string]string{
		"another kubeconfig": {"kubeconfig": "of the evil server"},
		"another context":    {"context": "evil"},
		"a mounted file":     {"credential_mode": "mounted", "kubeconfig_path": "one"},
	} {
		var shown *fleet.Error
		if err := kept(changes); !errors.As(err, &shown) || shown.Problems["aws_secret_access_key"] == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := kept(map[string]string{"label": "Another label"}); err != nil {
		t.Errorf("another label: %v", err)
	}
	if err := kept(map[string]string{"kubeconfig": "renewed, of the good server", "version": "2"}); err != nil {
		t.Errorf("another kubeconfig that leads to the same server: %v", err)
	}
	if err := kept(map[string]string{"context": "another name of it", "version": "3"}); err != nil {
		t.Errorf("another context that leads to the same server: %v", err)
	}
	if err := kept(map[string]string{"kubeconfig": "of a new server", "aws_secret_access_key": "the secret", "version": "4"}); err != nil {
		t.Errorf("with the secret: %v", err)
	}
}

func TestAttack02ACloudSecretIsBoundToItsServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.folder.put("one", "of the good server")
	sealed := []string{"cloud_credential", "sealed", "aws_access_key_id", "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key"}
	encrypted := append(sealed, "the secret", "credential_mode", "encrypted", "kubeconfig_path", "", "kubeconfig")
	bound := func(when, id, want string) {
		t.Helper()
		if got := b.status(id).Cluster.Cloud.Destination; got != want {
			t.Errorf("%s: bound to %q, want %q", when, got, want)
		}
	}
	edit := func(id, version string, change ...string) {
		t.Helper()
		_, err := b.Update(t.Context(), admin, id, form(id, append(change, "version", version)...))
		b.must(err)
	}
	b.register("mounted", append(sealed, "the secret")...)
	bound("mounted", "mounted", "the good server")
	b.folder.put("one", "of the evil server")
	_, err := b.CheckTarget(t.Context(), "mounted") // which notices the file
	wantCode(t, err, fleet.CodeConflict)
	edit("mounted", "1", append(sealed, "", "label", "Another label")...)
	bound("the file changed, and then the label", "mounted", "the good server")
	edit("mounted", "2", append(sealed, "the secret")...)
	bound("the secret was entered again", "mounted", "the evil server")

	b.register("encrypted", append(encrypted, "of the good server")...)
	bound("encrypted", "encrypted", "the good server")
	edit("encrypted", "1", append(encrypted, "of the new server")...)
	bound("both were replaced", "encrypted", "the new server")
	edit("encrypted", "2", append(encrypted, "", "cloud_credential", "ambient")...)
	bound("the secret was dropped", "encrypted", "")
	edit("encrypted", "3", append(encrypted, "")...)
	bound("a secret was sealed beside the kubeconfig that is kept", "encrypted", "the new server")
}
