package clustertest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authorization "k8s.io/api/authorization/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
)

// ApplyManifest makes what a published RBAC manifest holds, with an
// administrator's rights, and no other kinds of objects. Its namespaces are
// deleted when the test ends. It returns when the API server goes by it.
func ApplyManifest(t testing.TB, raw, manifest []byte) {
	t.Helper()
	client, ctx := Client(t, raw), t.Context()
	type name struct{ namespace, name string }
	rules := map[name][]rbac.PolicyRule{} // by role
	var bindings []rbac.RoleBinding
	for doc := range strings.SplitSeq(string(manifest), "\n---\n") {
		var kind metav1.TypeMeta
		decode := func(into any) {
			t.Helper()
			if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
				t.Fatalf("%v in\n%s", err, doc)
			}
		}
		if err := yaml.Unmarshal([]byte(doc), &kind); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		var err error
		switch kind.Kind {
		case "":
			continue // the comment at the top
		case "Namespace":
			var ns core.Namespace
			decode(&ns)
			if _, err = client.CoreV1().Namespaces().Create(ctx, &ns, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
				err = nil // and whoever made it deletes it
			} else {
				DeleteNamespace(t, client, ns.Name)
			}
		case "ServiceAccount":
			var sa core.ServiceAccount
			decode(&sa)
			_, err = client.CoreV1().ServiceAccounts(sa.Namespace).Create(ctx, &sa, metav1.CreateOptions{})
		case "Role":
			var role rbac.Role
			decode(&role)
			rules[name{role.Namespace, role.Name}] = role.Rules
			_, err = client.RbacV1().Roles(role.Namespace).Create(ctx, &role, metav1.CreateOptions{})
		case "RoleBinding":
			var binding rbac.RoleBinding
			decode(&binding)
			bindings = append(bindings, binding)
			_, err = client.RbacV1().RoleBindings(binding.Namespace).Create(ctx, &binding, metav1.CreateOptions{})
		default:
			t.Fatalf("the manifest has a %q", kind.Kind)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, binding := range bindings {
		granted := rules[name{binding.Namespace, binding.RoleRef.Name}]
		for _, subject := range binding.Subjects {
			AwaitAccess(t, client, binding.Namespace, subject, granted[0])
		}
	}
}

// GrantAnywhere gives a service account of a namespace rules in all namespaces, until
// the test ends. It returns when the API server goes by the last of them.
func GrantAnywhere(t testing.TB, client kubernetes.Interface, namespace, account string, rules ...rbac.PolicyRule) {
	t.Helper()
	name, api := UniqueName("test"), client.RbacV1()
	t.Cleanup(func() {
		_ = api.ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
		_ = api.ClusterRoles().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	role := rbac.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	if _, err := api.ClusterRoles().Create(t.Context(), &role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	subject := rbac.Subject{Kind: rbac.ServiceAccountKind, Name: account, Namespace: namespace}
	binding := rbac.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbac.Subject{subject},
	}
	if _, err := api.ClusterRoleBindings().Create(t.Context(), &binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	AwaitAccess(t, client, namespace, subject, rules[len(rules)-1])
}

// AwaitAccess waits until the API server lets a service account or a user do in a
// namespace what a rule says: it learns of new roles a little later than they are made.
func AwaitAccess(t testing.TB, client kubernetes.Interface, namespace string, account rbac.Subject, rule rbac.PolicyRule) {
	t.Helper()
	user := account.Name
	if account.Kind == rbac.ServiceAccountKind {
		user = "system:serviceaccount:" + account.Namespace + ":" + account.Name
	}
	review := &authorization.SubjectAccessReview{Spec: authorization.SubjectAccessReviewSpec{
		User: user,
		ResourceAttributes: &authorization.ResourceAttributes{
			Namespace: namespace, Group: rule.APIGroups[0], Verb: rule.Verbs[0],
		},
	}}
	asked := review.Spec.ResourceAttributes
	asked.Resource, asked.Subresource, _ = strings.Cut(rule.Resources[0], "/")
	if len(rule.ResourceNames) > 0 {
		asked.Name = rule.ResourceNames[0]
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		answer, err := client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		switch {
		case err == nil && answer.Status.Allowed:
			return
		case time.Since(began) > 3*time.Minute:
			t.Fatalf("%s may not %s %s in namespace %s (%v)", review.Spec.User, asked.Verb, asked.Resource, namespace, err)
		}
	}
}

// Kubectl runs kubectl with a kubeconfig.
func Kubectl(t testing.TB, raw []byte, args ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	devcluster(t, append([]string{"kubectl", "--kubeconfig", path}, args...)...)
}
