package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"portolan/internal/clustertest"
)

func TestAKubeconfigThatVanishesNeedsAttention(t *testing.T) {
	t.Parallel()
	p := separate(t, nil)
	p.worker(t)
	pl := p.settle(t, profile{"k3s", "kwok"}, nil)
	if err := os.Remove(filepath.Join(p.kubeconfigs(), pl.id)); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the overview to say so", func() (bool, string) {
		overview := p.read(t, "/")
		return overview.says("The "+pl.id, "kubeconfig, "+pl.id+", cannot be read"), clipped(overview.text())
	})
	if pl.offered(t) {
		t.Error("it is offered")
	}
}

func TestACredentialThatEndsSoonIsWarnedOf(t *testing.T) {
	t.Parallel()
	p := separate(t, nil)
	on := profile{"k3s", "kwok"}
	pl := p.confine(t, on, on.kubeconfig(t), nil)
	if list := p.read(t, "/admin/clusters"); list.says("credential ends") {
		t.Error("warned of a credential that has never been tested")
	}
	pl.rotate(t, clustertest.AccountKubeconfig(t, on.kubeconfig(t), pl.namespace, "portolan")) // for an hour
	subject := "system:serviceaccount:" + pl.namespace + ":portolan"
	for path, says := range map[string][]string{
		"/":               {"The " + pl.id, "expiring"},
		"/admin/clusters": {"credential ends", " min"},
		pl.path(""):       {"service account token", subject, "soon"},
	} {
		if page := p.read(t, path); !page.says(says...) {
			t.Errorf("%s does not say %s: %s", path, fmt.Sprint(says), clipped(page.text()))
		}
	}
}
