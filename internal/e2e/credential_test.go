package e2e

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
)

func TestAnEncryptedKubeconfigWorksAndIsNeverShown(t *testing.T) {
	t.Parallel()
	p := shared(t)
	raw := real.kubeconfig(t)
	kubectl := clustertest.Client(t, raw)
	id := clustertest.UniqueName("sealed")
	pl := &place{portolan: p, on: real, id: id, kubectl: kubectl, namespace: clustertest.Namespace(t, kubectl)}
	form := fields{
		"id": id, "label": id, "provider": "k3s", "credential_mode": "encrypted", "kubeconfig": string(raw),
		"namespace": pl.namespace, "exposure_mode": "cluster-ip", "enabled": "true",
	}
	// Refused for another field, it does not come back.
	refused := expect(t, p.post(t, "/admin/clusters", form.but(fields{"label": ""})), http.StatusUnprocessableEntity)
	expect(t, p.post(t, "/admin/clusters", form), http.StatusSeeOther)
	// What it says of itself is known without the cluster.
	if before := pl.read(t, pl.path("")); !before.says("client certificate", "Subject", "Authority ends") || before.one("data-test-state", "untested") == nil {
		t.Errorf("before its test: %s", clipped(before.text()))
	}
	pl.test(t, "ok")
	w := pl.deploy(t, fields{"secret_env": "TOKEN=a-very-secret-value"})

	config, err := clientcmd.Load(raw)
	if err != nil {
		t.Fatal(err)
	}
	key := config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo].ClientKeyData
	secrets := []string{base64.StdEncoding.EncodeToString(key)[100:160], "client-key-data", "a-very-secret-value"}
	pages := []*page{refused}
	for _, path := range []string{pl.path(""), pl.path("/edit"), pl.path("/rbac.yaml"), "/admin/clusters", w.path(""), w.path("/edit"), "/operations"} {
		pages = append(pages, p.read(t, path))
	}
	for _, page := range pages {
		for _, secret := range secrets {
			if strings.Contains(page.body, secret) {
				t.Errorf("%s shows %q", page.request, secret)
			}
		}
	}
	for _, secret := range secrets {
		if strings.Contains(p.web.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	// Saved again with the field left blank, it is kept and still tested.
	pl.edit(t, fields{"label": "Another label"})
	if state := pl.testState(t); state != "ok" {
		t.Errorf("after an edit of the label it is %s", state)
	}
	pl.test(t, "ok")
}

func TestInspectShowsTheContexts(t *testing.T) {
	t.Parallel()
	p := shared(t)
	raw := clustertest.Edit(t, real.kubeconfig(t), func(c *api.Config) {
		c.Contexts["a-second-one"] = c.Contexts[c.CurrentContext].DeepCopy()
	})
	name := clustertest.UniqueName("inspected")
	p.mount(t, name, raw)
	for _, form := range []fields{
		{"credential_mode": "encrypted", "kubeconfig": string(raw)},
		{"credential_mode": "mounted", "kubeconfig_path": name},
	} {
		answer := expect(t, p.post(t, "/admin/clusters/inspect", form), http.StatusOK)
		if !answer.says("a-second-one", "client certificate of", "ends") {
			t.Errorf("%s: the contexts are not shown: %s", form["credential_mode"], clipped(answer.text()))
		}
		if strings.Contains(answer.body, "client-key-data") {
			t.Errorf("%s: the kubeconfig is shown", form["credential_mode"])
		}
	}
	bad := p.post(t, "/admin/clusters/inspect", fields{"credential_mode": "encrypted", "kubeconfig": "nonsense"})
	if bad.status != http.StatusOK && bad.status != http.StatusUnprocessableEntity || len(bad.with("data-error")) == 0 {
		t.Errorf("nonsense: %d %s", bad.status, clipped(bad.text()))
	}
}
