package clustertest

import (
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// ApplyManifest makes what a published RBAC manifest holds, with an
// administrator's rights, and no other kinds of objects. Its namespaces are
// deleted when the test ends.
func ApplyManifest(t testing.TB, raw, manifest []byte) {
	t.Helper()
	client, ctx := Client(t, raw), t.Context()
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
			_, err = client.CoreV1().Namespaces().Create(ctx, &ns, metav1.CreateOptions{})
			DeleteNamespace(t, client, ns.Name)
		case "ServiceAccount":
			var sa core.ServiceAccount
			decode(&sa)
			_, err = client.CoreV1().ServiceAccounts(sa.Namespace).Create(ctx, &sa, metav1.CreateOptions{})
		case "Role":
			var role rbac.Role
			decode(&role)
			_, err = client.RbacV1().Roles(role.Namespace).Create(ctx, &role, metav1.CreateOptions{})
		case "RoleBinding":
			var binding rbac.RoleBinding
			decode(&binding)
			_, err = client.RbacV1().RoleBindings(binding.Namespace).Create(ctx, &binding, metav1.CreateOptions{})
		default:
			t.Fatalf("the manifest has a %q", kind.Kind)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
