package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apps "k8s.io/api/apps/v1"

	"portolan/internal/clustertest"
)

func TestB8CurrentClustersAreTestedAgainByThemselves(t *testing.T) {
	t.Parallel()
	p := separate(t, map[string]string{"PORTOLAN_TEST_INTERVAL": "2s"})
	p.worker(t)
	on := profile{"k3s", "kwok"}
	proxy, through := clustertest.ThroughProxy(t, on.kubeconfig(t))
	pl := p.stake(t, on, through, nil)
	pl.test(t, "ok")
	w := pl.deploy(t, nil)
	before := w.deployment(t)
	eventually(t, patience, "a test by itself in the history", func() (bool, string) {
		page := pl.read(t, pl.path(""))
		return page.says("by itself"), clipped(page.text())
	})

	proxy.Reset()
	eventually(t, patience, "a failed re-test", func() (bool, string) {
		state := pl.testState(t)
		return state == "failed", state
	})
	if pl.offered(t) {
		t.Error("its re-test failed, and it is offered")
	}
	now := w.deployment(t)
	for _, d := range []*apps.Deployment{before, now} {
		d.ResourceVersion, d.ManagedFields, d.Status = "", nil, apps.DeploymentStatus{} // its controller's
	}
	if diff := cmp.Diff(before, now); diff != "" {
		t.Errorf("what runs there was touched: %s", diff)
	}
	proxy.Restore()
	eventually(t, patience, "a passed re-test", func() (bool, string) {
		return pl.testState(t) == "ok" && pl.offered(t), pl.testState(t)
	})
}
