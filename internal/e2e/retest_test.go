package e2e

import (
	"testing"

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
	if now := w.deployment(t); now.UID != before.UID || now.ResourceVersion != before.ResourceVersion {
		t.Errorf("what runs there was touched: %s %s, then %s %s", before.UID, before.ResourceVersion, now.UID, now.ResourceVersion)
	}
	proxy.Restore()
	eventually(t, patience, "a passed re-test", func() (bool, string) {
		return pl.testState(t) == "ok" && pl.offered(t), pl.testState(t)
	})
}
