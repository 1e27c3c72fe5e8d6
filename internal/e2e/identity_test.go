package e2e

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
)

// lesser is the identity of the published manifest, which may read no namespaces
// but the place's.
func (pl *place) lesser(t testing.TB, on profile) []byte {
	t.Helper()
	return clustertest.AccountKubeconfig(t, on.kubeconfig(t), pl.namespace, "portolan")
}

// becomesLesser leads the place's file to the identity of the published manifest.
func (pl *place) becomesLesser(t testing.TB) {
	t.Helper()
	pl.mount(t, pl.id, pl.lesser(t, pl.on))
	// The changed file is tested by itself, too, and a cluster has one test at a time.
	eventually(t, patience, "a test of the new file to begin", func() (bool, string) {
		answer := pl.post(t, pl.path("/test"), nil)
		return answer.status == http.StatusSeeOther, clipped(answer.text())
	})
	pl.tested(t, "ok")
}

// stage is the state of a stage of the latest test.
func (pl *place) stage(t testing.TB, name string) string {
	t.Helper()
	return attr(pl.read(t, pl.path("")).one("data-check", name), "data-check-state")
}

// isAnother checks that the file by now leads to another cluster, and that
// nothing is taken for done there.
func (w *workload) isAnother(t *testing.T) {
	t.Helper()
	eventually(t, patience, "the test of the changed file to fail", func() (bool, string) {
		state := w.testState(t)
		return state == "failed", state
	})
	if stage, says := w.failedStage(t); stage != "namespaces" || !strings.Contains(says, "cluster") {
		t.Errorf("it fails at %s: %s", stage, says)
	}
	if w.offered(t) {
		t.Error("another cluster, and it is offered")
	}
	switch answer := w.act(t, "delete", fields{"confirm": w.name}); answer.status {
	case http.StatusSeeOther:
		if ended := w.operationAt(t, answer.location()).ends(t, "failed"); !ended.says("another cluster") {
			t.Errorf("the deletion: %s", clipped(ended.text()))
		}
	case http.StatusServiceUnavailable: // the observer has told
	default:
		t.Errorf("delete: %d %s", answer.status, clipped(answer.text()))
	}
	w.page(t)
	w.deployment(t)
}

// The cluster was recognised by kube-system, which its present credential may not
// read. It is recognised by what that one may read since.
func TestAnotherClusterWithTheSameNamespaceIsNotTakenForIt(t *testing.T) {
	t.Parallel()
	there := profile{"gke", "kwok"}
	pl := shared(t).confine(t, simulated, simulated.kubeconfig(t), nil)
	pl.test(t, "ok")
	next := pl.id + "-next"
	pl.mount(t, next, pl.lesser(t, simulated))
	expect(t, pl.post(t, pl.path("/credential"), fields{"credential_mode": "mounted", "kubeconfig_path": next}), http.StatusSeeOther)
	for range 2 {
		if state := pl.stage(t, "namespaces"); state != "ok" {
			t.Errorf("the namespaces are %s: %s", state, clipped(pl.read(t, pl.path("")).text()))
		}
		pl.test(t, "ok")
	}
	w := pl.deploy(t, nil)
	clustertest.ApplyManifest(t, there.kubeconfig(t), []byte(pl.read(t, pl.path("/rbac.yaml")).body))
	pl.mount(t, next, pl.lesser(t, there))
	w.isAnother(t)
}

func TestAnotherClusterWithoutTheNamespaceIsNotTakenForIt(t *testing.T) {
	t.Parallel()
	pl := shared(t).confine(t, simulated, simulated.kubeconfig(t), nil)
	pl.becomesLesser(t)
	w := pl.deploy(t, nil)
	pl.mount(t, pl.id, profile{"gke", "kwok"}.kubeconfig(t))
	w.isAnother(t)
}

func TestANamespaceThatWasMadeAnewIsOfTheSameCluster(t *testing.T) {
	t.Parallel()
	pl := shared(t).confine(t, simulated, simulated.kubeconfig(t), nil)
	pl.becomesLesser(t)
	w := pl.deploy(t, nil)

	namespaces := pl.kubectl.CoreV1().Namespaces()
	if err := namespaces.Delete(t.Context(), pl.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the namespace to go", func() (bool, string) {
		_, err := namespaces.Get(t.Context(), pl.namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err), ""
	})
	clustertest.ApplyManifest(t, simulated.kubeconfig(t), []byte(pl.read(t, pl.path("/rbac.yaml")).body))
	pl.rotate(t, pl.lesser(t, simulated))
	if page := pl.read(t, pl.path("")); !page.says("The namespace " + pl.namespace + " was made anew") {
		t.Errorf("it is not told: %s", clipped(page.text()))
	}
	w.did(t, "redeploy", nil)
	w.becomes(t, "running")
	pl.test(t, "ok")
	if state := pl.stage(t, "namespaces"); state != "ok" {
		t.Errorf("after another test the namespaces are %s", state)
	}
}

var printed = regexp.MustCompile(`“kubectl ([^”]+)”`)

func TestTheWayOutWhereANamespaceCannotBeCompared(t *testing.T) {
	t.Parallel()
	pl := shared(t).confine(t, simulated, simulated.kubeconfig(t), nil)
	pl.test(t, "ok")
	_, elsewhere := clustertest.ThroughProxy(t, pl.lesser(t, simulated))
	form := fields{"credential_mode": "encrypted", "kubeconfig": string(elsewhere)}
	refused := expect(t, pl.post(t, pl.path("/credential"), form), http.StatusUnprocessableEntity)
	if !refused.says("kube-system", "may not be read") {
		t.Errorf("it says %s", clipped(refused.text()))
	}
	commands := map[string]bool{}
	for _, command := range printed.FindAllStringSubmatch(refused.text(), -1) {
		if commands[command[1]] {
			continue // it stands beside the stage, too
		}
		commands[command[1]] = true
		clustertest.Kubectl(t, simulated.kubeconfig(t), strings.Fields(command[1])...)
	}
	if len(commands) != 2 {
		t.Fatalf("commands: %v", commands)
	}
	t.Cleanup(func() {
		for command := range commands { // create KIND NAME …
			name, roles := strings.Fields(command)[2], pl.kubectl.RbacV1()
			_ = roles.ClusterRoles().Delete(context.Background(), name, metav1.DeleteOptions{})
			_ = roles.ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
		}
	})
	pl.rotate(t, elsewhere)
	pl.test(t, "ok")
	if state := pl.stage(t, "namespaces"); state != "ok" {
		t.Errorf("the namespaces are %s", state)
	}
}
