package adapter

import (
	"context"
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
	ctx, home := context.Background(), w.cluster.Namespace
	raw := clustertest.AccountKubeconfig(t, w.raw, home, "portolan")
	rules := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: verbs}}
	for _, p := range fleet.Permissions {
		if p.Resource != live.Namespaces.Plural {
			rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{p.Group}, Resources: []string{p.Resource}, Verbs: []string{p.Verb}})
		}
	}
	name, rbac := clustertest.UniqueName("test"), w.look.RbacV1()
	t.Cleanup(func() {
		_ = rbac.ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{})
		_ = rbac.ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{})
	})
	if _, err := rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	subject := rbacv1.Subject{Kind: "ServiceAccount", Name: "portolan", Namespace: home}
	if _, err := rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{subject},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	clustertest.AwaitAccess(t, w.look, home, subject, rules[len(rules)-1])
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
