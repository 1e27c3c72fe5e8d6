package e2e

import (
	"net/http"
	"strings"
	"testing"

	"portolan/internal/cloudtest"
	"portolan/internal/clustertest"
)

const (
	accessKeyID = "AKIAIOSFODNN7PORTOLAN"
	secretKey   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYportolanKEY"
)

// keptFrom fails the test where a secret is in anything that Portolan says.
func (pl *place) keptFrom(t *testing.T, secrets ...string) {
	t.Helper()
	says := map[string]string{
		"page": pl.read(t, pl.path("")).body, "form": pl.read(t, pl.path("/edit")).body, "log": pl.web.log.String(),
	}
	for _, secret := range secrets {
		for where, text := range says {
			if strings.Contains(text, secret) {
				t.Errorf("the %s of %s shows a secret", where, pl.id)
			}
		}
	}
}

func TestEKSFromASealedAccessKey(t *testing.T) {
	t.Parallel()
	on := profile{"eks", "kwok"}
	on.kubeconfig(t)
	eks := &cloudtest.AWS{Cluster: clustertest.Name(on.name, on.nodes), Keys: map[string]string{accessKeyID: secretKey}}
	clustertest.Authenticate(t, on.name, on.nodes, cloudtest.Authenticator(t, eks.Check))

	stanza := clustertest.ExecKubeconfig(t, on.name, on.nodes)
	if !strings.Contains(string(stanza), "get-token") {
		t.Fatalf("no exec stanza in\n%s", stanza)
	}
	pl := shared(t).stake(t, on, stanza, fields{
		"credential_mode": "encrypted", "kubeconfig": string(stanza), "kubeconfig_path": "",
		"cloud_credential": "sealed", "aws_access_key_id": accessKeyID, "aws_secret_access_key": "another/secret/than/that/of/the/key",
	})
	// What a wrong secret signs is found out by the API server.
	pl.test(t, "failed")
	if stage, says := pl.failedStage(t); stage != "authenticate" || !strings.Contains(says, "access entry") {
		t.Errorf("with a wrong secret it fails at %s: %s", stage, says)
	}

	// A new key id needs its secret; the secret alone is replaced.
	expect(t, pl.tryEdit(t, fields{"aws_access_key_id": "AKIAIOSFODNN7SOMEBODY"}), http.StatusUnprocessableEntity)
	pl.edit(t, fields{"aws_secret_access_key": secretKey})
	if got := pl.testState(t); got != "untested" {
		t.Errorf("after the secret was replaced: %s, want untested", got)
	}
	pl.test(t, "ok")
	pl.edit(t, fields{"label": "Renamed, with the secret left blank"})
	if got := pl.testState(t); got != "ok" {
		t.Errorf("after an edit that leaves the secret blank: %s, want ok", got)
	}
	if form := pl.editForm(t); form["aws_access_key_id"] != accessKeyID || form["aws_secret_access_key"] != "" {
		t.Errorf("the form shows %q and %q", form["aws_access_key_id"], form["aws_secret_access_key"])
	}
	pl.deploy(t, nil)
	pl.keptFrom(t, secretKey, "another/secret/than/that/of/the/key", "k8s-aws-v1.")
}
