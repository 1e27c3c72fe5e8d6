package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	authorization "k8s.io/api/authorization/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
)

// confine registers a cluster in a namespace of its own, and makes what its
// published manifest holds there.
func (p *portolan) confine(t testing.TB, on profile, kubeconfig []byte, changes fields) *place {
	t.Helper()
	pl := p.stake(t, on, kubeconfig, fields{"namespace": clustertest.UniqueName("confined")}.but(changes))
	clustertest.ApplyManifest(t, on.kubeconfig(t), []byte(pl.read(t, pl.path("/rbac.yaml")).body))
	return pl
}

// mayBecome waits until the API server of a kubeconfig lets, or no longer lets,
// its user do something in a namespace: it learns of roles some time after they
// were changed.
func mayBecome(t testing.TB, kubeconfig []byte, may bool, namespace, verb, group, resource string) {
	t.Helper()
	reviews := clustertest.Client(t, kubeconfig).AuthorizationV1().SelfSubjectAccessReviews()
	eventually(t, patience, fmt.Sprintf("to %s %s: %v", verb, resource, may), func() (bool, string) {
		review, err := reviews.Create(t.Context(), &authorization.SelfSubjectAccessReview{Spec: authorization.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorization.ResourceAttributes{Namespace: namespace, Verb: verb, Group: group, Resource: resource},
		}}, metav1.CreateOptions{})
		return err == nil && review.Status.Allowed == may, fmt.Sprint(err)
	})
}

// rotate gives the cluster another kubeconfig, once the authoriser knows its
// identity.
func (pl *place) rotate(t testing.TB, kubeconfig []byte) {
	t.Helper()
	eventually(t, patience, "the new credential to be taken", func() (bool, string) {
		answer := pl.post(t, pl.path("/credential"), fields{"credential_mode": "encrypted", "kubeconfig": string(kubeconfig)})
		return answer.status == http.StatusSeeOther, clipped(answer.text())
	})
}

func TestRotationDisturbsNothing(t *testing.T) {
	t.Parallel()
	proxy, through := clustertest.ThroughProxy(t, real.kubeconfig(t))
	pl := shared(t).confine(t, real, through, nil)
	binding := rbac.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "next"}, RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: "portolan"},
		Subjects: []rbac.Subject{{Kind: rbac.ServiceAccountKind, Name: "next", Namespace: pl.namespace}},
	}
	if _, err := pl.kubectl.RbacV1().RoleBindings(pl.namespace).Create(t.Context(), &binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	old := clustertest.AccountKubeconfig(t, through, pl.namespace, "portolan")
	next := clustertest.AccountKubeconfig(t, through, pl.namespace, "next")
	pl.rotate(t, old)
	if !pl.offered(t) {
		t.Fatal("rotated, and not offered")
	}

	w := pl.deploy(t, quiet)
	pod := w.listens(t)[0]
	logs := w.open(t, w.path("/logs/stream?tail=1"), "")
	logs.next(t, patience)
	op := pl.begin(t, pl.draft(clustertest.UniqueName("slow"), probed.but(fields{"env": "START_DELAY=20s"})))
	op.reaches(t, "rollout", "running")

	pl.rotate(t, next)
	if !pl.read(t, pl.path("")).says("system:serviceaccount:" + pl.namespace + ":next") {
		t.Error("the page does not show the new identity")
	}
	if err := pl.kubectl.CoreV1().ServiceAccounts(pl.namespace).Delete(t.Context(), "portolan", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	revoked := clustertest.Client(t, old)
	eventually(t, patience, "the old credential to be refused", func() (bool, string) {
		_, err := revoked.CoreV1().Pods(pl.namespace).List(t.Context(), metav1.ListOptions{})
		return apierrors.IsUnauthorized(err), fmt.Sprint(err)
	})
	proxy.Reset() // and nothing lives on from before
	proxy.Restore()

	w.asks(t, pod, "/print?lines=100")
	lines, _ := linesUntil(t, logs, "line 100 of 100")
	for n, line := range only(lines, " of 100") {
		if !strings.HasPrefix(line, fmt.Sprintf("line %d of 100", n+1)) {
			t.Fatalf("line %d of the log is %q", n+1, line)
		}
	}
	op.ends(t, "succeeded")
	patch := []byte(`{"spec":{"replicas":2}}`)
	if _, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Patch(t.Context(), w.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the observer to see what changed", func() (bool, string) {
		_, markers := w.page(t)
		return markers["ready"] == "2" && markers["phase"] == "running", fmt.Sprint(markers)
	})
}

func TestTheOldCredentialStaysUnlessTheNewOnePasses(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	raw := real.kubeconfig(t)
	badToken := clustertest.Edit(t, raw, func(c *api.Config) {
		for name := range c.AuthInfos {
			c.AuthInfos[name] = &api.AuthInfo{Token: "a-token-nobody-issued"}
		}
	})
	for _, c := range []struct {
		name, says string
		kubeconfig []byte
	}{
		{"a server that is not there", "connect", nowhere(t, raw)},
		{"a token that is not accepted", "authenticate", badToken},
		{"another cluster", "another cluster", profile{"gke", "kwok"}.kubeconfig(t)},
		{"no kubeconfig", "kubeconfig", []byte("nonsense")},
		{"nothing", "must not be empty", nil},
	} {
		answer := pl.post(t, pl.path("/credential"), fields{"credential_mode": "encrypted", "kubeconfig": string(c.kubeconfig)})
		if answer.status != http.StatusUnprocessableEntity || !answer.says(c.says) {
			t.Errorf("%s: %d, want 422 with %q\n%s", c.name, answer.status, c.says, clipped(answer.text()))
		}
		if strings.Contains(answer.body, "a-token-nobody-issued") || strings.Contains(answer.body, "client-key-data") {
			t.Errorf("%s: the answer shows the kubeconfig", c.name)
		}
		if state := pl.testState(t); state != "ok" || !pl.offered(t) {
			t.Errorf("%s: the cluster is %s", c.name, state)
		}
	}
	if form := pl.editForm(t); form["credential_mode"] != "mounted" || form["kubeconfig_path"] != pl.id {
		t.Errorf("the credential is %s %s", form["credential_mode"], form["kubeconfig_path"])
	}
	pl.deploy(t, nil)
}

// One rotates when a cluster hangs, and then its tests take as long as they may.
func TestARotationWaitsForTheTestThatRuns(t *testing.T) {
	t.Parallel()
	proxy, through := clustertest.ThroughProxy(t, simulated.kubeconfig(t))
	pl := shared(t).stake(t, simulated, through, nil)
	pl.test(t, "ok")
	proxy.BlackHole()
	expect(t, pl.post(t, pl.path("/test"), nil), http.StatusSeeOther)
	if state := pl.testState(t); state != "running" {
		t.Fatalf("the test is %s", state)
	}
	form := fields{"credential_mode": "encrypted", "kubeconfig": string(simulated.kubeconfig(t))}
	expect(t, pl.post(t, pl.path("/credential"), form), http.StatusSeeOther)
	if state := pl.testState(t); state != "ok" {
		t.Errorf("rotated, and %s", state)
	}
}
