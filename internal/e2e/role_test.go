package e2e

import (
	"net/http"
	"testing"

	"portolan/internal/clustertest"
)

func TestB7ThePublishedRoleIsEnoughForAFullLifeCycle(t *testing.T) {
	onEach(t, func(t *testing.T, on profile) {
		pl := shared(t).confine(t, on, on.kubeconfig(t), fields{"exposure_mode": "node-port"})
		pl.rotate(t, clustertest.AccountKubeconfig(t, on.kubeconfig(t), pl.namespace, "portolan"))
		preview := expect(t, pl.post(t, "/deploy/preview", pl.draft(clustertest.UniqueName("demo"), nil)), http.StatusOK)
		if !preview.says("create") {
			t.Errorf("the preview: %s", clipped(preview.text()))
		}
		state := fields{
			"volumes": "data=/data 64Mi", "secret_env": "TOKEN=secret", "env": "A=1",
			"file_path_1": "/etc/demo/conf", "file_content_1": "a",
		}
		set := pl.draft(clustertest.UniqueName("set"), state.but(fields{"workload_kind": "statefulset"}))
		setDeploy := pl.begin(t, set)
		w := pl.deploy(t, state)
		w.becomes(t, "running")
		if on == real {
			w.open(t, w.path("/logs/stream?tail=1"), "").next(t, patience)
		}
		w.updates(t, fields{"env": "A=2", "file_content_1": "b"}).ends(t, "succeeded")
		w.did(t, "scale", fields{"replicas": "2"})
		w.did(t, "restart", nil)
		w.did(t, "stop", nil)
		w.did(t, "start", nil)
		w.did(t, "rollback", fields{"release": "1"})
		w.did(t, "redeploy", nil)
		w.did(t, "delete", fields{"confirm": w.name})
		setDeploy.ends(t, "succeeded")
		other := pl.workload(t, set["name"])
		other.did(t, "restart", nil)
		other.did(t, "stop", nil)
		other.did(t, "delete", fields{"confirm": other.name})
		if left := pl.objects(t); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}
