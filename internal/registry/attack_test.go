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
	if err := kept(map[string]string{"kubeconfig": "of a new server", "aws_secret_access_key": "the secret", "version": "2"}); err != nil {
		t.Errorf("with the secret: %v", err)
	}
}
