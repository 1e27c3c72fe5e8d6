package e2e

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"portolan/internal/clustertest"
)

// TestAWrongKeyIsToldApartFromAMissingOne starts an installation again with
// other keys than its kubeconfig and secrets were sealed with.
func TestAWrongKeyIsToldApartFromAMissingOne(t *testing.T) {
	t.Parallel()
	key := func(id, fill string) string {
		return id + ":" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32)))
	}
	p := separate(t, map[string]string{"PORTOLAN_ENCRYPTION_KEYS": key("spring", "a")})
	raw := real.kubeconfig(t)
	kubectl := clustertest.Client(t, raw)
	pl := &place{portolan: p, on: real, id: clustertest.UniqueName("sealed"), kubectl: kubectl, namespace: clustertest.Namespace(t, kubectl)}
	expect(t, p.post(t, "/admin/clusters", fields{
		"id": pl.id, "label": pl.id, "provider": "k3s", "credential_mode": "encrypted", "kubeconfig": string(raw),
		"namespace": pl.namespace, "exposure_mode": "cluster-ip", "enabled": "true",
	}), http.StatusSeeOther)
	pl.test(t, "ok")

	for _, c := range []struct{ name, keys, says string }{
		{"missing", key("summer", "b"), "encryption key spring is missing"},
		{"wrong", key("spring", "b"), "under the id spring is the wrong one"},
	} {
		if err := p.web.stop(); err != nil {
			t.Fatal(err)
		}
		p.env["PORTOLAN_ENCRYPTION_KEYS"] = c.keys
		if err := p.begin("web"); err != nil {
			t.Fatal(err)
		}
		if page := pl.read(t, pl.path("")); !page.says(c.says) {
			t.Errorf("%s: the cluster's page does not say so: %s", c.name, clipped(page.text()))
		}
		answer := expect(t, pl.post(t, "/deploy", pl.draft(clustertest.UniqueName("never"), nil)), http.StatusServiceUnavailable)
		if !answer.says(c.says) {
			t.Errorf("%s: the deploy does not say so: %s", c.name, clipped(answer.text()))
		}
	}
	pl.test(t, "failed")
	if stage, says := pl.failedStage(t); stage != "credential" || !strings.Contains(says, "wrong one") {
		t.Errorf("failed at %q: %s", stage, says)
	}

	// A key beside the right one does no harm, and what was sealed opens again.
	if err := p.web.stop(); err != nil {
		t.Fatal(err)
	}
	p.env["PORTOLAN_ENCRYPTION_KEYS"] = key("summer", "b") + "," + key("spring", "a")
	if err := p.begin("web"); err != nil {
		t.Fatal(err)
	}
	pl.test(t, "ok")
}
