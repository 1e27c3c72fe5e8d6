package adapter

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// asAnywhere makes the adapter speak as an account that has the rights of the
// table of permissions in every namespace, and to namespaces only those of verbs.
func (w *world) asAnywhere(t *testing.T, verbs ...string) {
	t.Helper()
	home := w.cluster.Namespace
	raw := clustertest.AccountKubeconfig(t, w.raw, home, "portolan")
	rules := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: verbs}}
	for _, p := range fleet.Permissions {
		if p.Resource != live.Namespaces.Plural {
			rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{p.Group}, Resources: []string{p.Resource}, Verbs: []string{p.Verb}})
		}
	}
	clustertest.GrantAnywhere(t, w.look, home, "portolan", rules...)
	w.use(raw, Options{})
}

// TestDeployMakesTheNamespaceThatTheTestPromised: to the connection test a
// namespace that is not there is no fault where the identity may create one.
func TestDeployMakesTheNamespaceThatTheTestPromised(t *testing.T) {
	t.Parallel()
	for name, verbs := range map[string][]string{"may look": {"get", "create"}, "may only create": {"create"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "k3s", "kwok")
			w.asAnywhere(t, verbs...)
			w.cluster.Namespace = clustertest.UniqueName("absent")
			clustertest.DeleteNamespace(t, w.look, w.cluster.Namespace)
			wl, spec := w.demo("web")
			if s := w.must(fleet.VerbDeploy, wl, spec, fleet.Params{}); !s.says("Namespace/" + wl.Namespace + " created") {
				t.Errorf("nobody is told of the namespace: %v", s.events)
			}
			ns, err := w.look.CoreV1().Namespaces().Get(t.Context(), wl.Namespace, metav1.GetOptions{})
			if err != nil || ns.Labels[live.LabelInstallation] != w.installation {
				t.Errorf("the namespace is not marked as ours: %v %v", ns.Labels, err)
			}
			w.must(fleet.VerbRedeploy, wl, spec, fleet.Params{})
		})
	}
}
