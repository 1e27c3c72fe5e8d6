package kube_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// applyManifest applies the published manifest with an administrator's rights,
// and returns a kubeconfig of the identity in it.
func applyManifest(t *testing.T, raw []byte, cluster *fleet.Cluster) []byte {
	t.Helper()
	text, err := kube.RBACManifest(cluster, "")
	if err != nil {
		t.Fatal(err)
	}
	clustertest.ApplyManifest(t, raw, text)
	return clustertest.AccountKubeconfig(t, raw, cluster.Namespace, "portolan")
}

func TestB7ManifestPasses(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	cluster := clusterRow(clustertest.UniqueName("test"))
	cluster.RuntimeNamespaces = map[string]string{"hermes": clustertest.UniqueName("test")}
	account := applyManifest(t, raw, &cluster)
	test := eventually(t, kube.TestRequest{Cluster: cluster, Kubeconfig: account},
		func(test fleet.ConnectionTest) bool { return test.State == fleet.TestOK })
	logChecks(t, test)
	for _, row := range test.Permissions {
		if !row.Allowed {
			t.Errorf("%s in %s is not granted by the manifest", row.Permission, row.Namespace)
		}
	}
	if want := "system:serviceaccount:" + cluster.Namespace + ":portolan"; test.Identity != want {
		t.Errorf("identity %q, want %q", test.Identity, want)
	}
	if test.Pinned.Namespace != cluster.Namespace {
		t.Errorf("pinned by %q, want %q", test.Pinned.Namespace, cluster.Namespace)
	}
}

// What a test with too few permissions tells people to apply helps whom it was about.
func TestB7TheManifestServesWhomTheClusterIsUsedAs(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	client := clustertest.Client(t, raw)
	home := clustertest.Namespace(t, client)
	for name, present := range map[string][]byte{
		"a service account": clustertest.AccountKubeconfig(t, raw, home, "ours"),
		"a person":          clustertest.UserKubeconfig(t, "k3s", "kwok", `ana: "#1"@`+home, "people"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := clusterRow(clustertest.Namespace(t, client))
			test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: cluster, Kubeconfig: present, Deadline: patience}, nil)
			check(t, test, fleet.StagePermissions, fleet.CheckFailed, "rbac.yaml")
			text, err := kube.RBACManifest(&cluster, test.Identity)
			if err != nil {
				t.Fatal(err)
			}
			clustertest.ApplyManifest(t, raw, text)
			eventually(t, kube.TestRequest{Cluster: cluster, Kubeconfig: present}, func(test fleet.ConnectionTest) bool { return test.State == fleet.TestOK })
		})
	}
}

// atOnce makes a test one that nobody waits for, on a machine with nothing else
// to do.
func atOnce(context.Context) {}

// Each identity has the published role but for one permission.
func TestB7EachPermissionIsNeeded(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"k3s", "aks", "gke", "eks"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			_, raw := clustertest.Kubeconfig(t, profile, "kwok")
			cluster := clusterRow(clustertest.UniqueName("test"))
			whole := applyManifest(t, raw, &cluster)
			for _, yield := range []func(context.Context){nil, atOnce} {
				eventually(t, kube.TestRequest{Cluster: cluster, Kubeconfig: whole, Yield: yield}, func(test fleet.ConnectionTest) bool { return test.State == fleet.TestOK })
			}
			role, err := clustertest.Client(t, raw).RbacV1().Roles(cluster.Namespace).Get(t.Context(), "portolan", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var group errgroup.Group
			group.SetLimit(4)
			for i, p := range fleet.Permissions {
				account := lesser(t, raw, cluster.Namespace, fmt.Sprintf("without-%d", i), without(role.Rules, p))
				group.Go(func() error {
					wantMissing(t, kube.TestRequest{Cluster: cluster, Kubeconfig: account}, p)
					wantMissing(t, kube.TestRequest{Cluster: cluster, Kubeconfig: account, Yield: atOnce}, p)
					return nil
				})
			}
			_ = group.Wait()
		})
	}
}

// lesser returns a kubeconfig of a new identity with the rules and no others.
func lesser(t *testing.T, raw []byte, namespace, name string, rules []rbac.PolicyRule) []byte {
	t.Helper()
	client := clustertest.Client(t, raw)
	role := rbac.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	if _, err := client.RbacV1().Roles(namespace).Create(t.Context(), &role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := rbac.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: name},
		Subjects: []rbac.Subject{{Kind: rbac.ServiceAccountKind, Name: name, Namespace: namespace}},
	}
	if _, err := client.RbacV1().RoleBindings(namespace).Create(t.Context(), &binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return clustertest.AccountKubeconfig(t, raw, namespace, name)
}

// wantMissing tests until the message names the permission alone: a required
// one fails the test, an optional one does not.
func wantMissing(t *testing.T, req kube.TestRequest, p fleet.Permission) {
	t.Helper()
	resource := p.Resource
	if p.Group != "" {
		resource += "." + p.Group
	}
	named := fmt.Sprintf(": %s %s in namespace %s.", p.Verb, resource, req.Cluster.Namespace)
	test := eventually(t, req, func(test fleet.ConnectionTest) bool {
		for _, c := range test.Checks {
			if c.Stage == fleet.StagePermissions {
				return strings.Contains(c.Message, named)
			}
		}
		return false
	})
	if p.Optional {
		if test.State != fleet.TestOK {
			t.Errorf("without %s, which is optional: %+v", p, test.Failed())
		}
		return
	}
	if failed := test.Failed(); failed == nil || failed.Stage != fleet.StagePermissions {
		t.Errorf("without %s: %s at %+v", p, test.State, failed)
	}
	check(t, test, fleet.StagePermissions, fleet.CheckFailed, "may not", "/admin/clusters/real/rbac.yaml")
	check(t, test, fleet.StageExposure, fleet.CheckSkipped)
}

// without returns rules that grant all they did but p.
func without(rules []rbac.PolicyRule, p fleet.Permission) []rbac.PolicyRule {
	var out []rbac.PolicyRule
	for _, rule := range rules {
		for _, resource := range rule.Resources {
			one := rbac.PolicyRule{APIGroups: rule.APIGroups, Resources: []string{resource}}
			for _, verb := range rule.Verbs {
				if rule.APIGroups[0] != p.Group || resource != p.Resource || verb != p.Verb {
					one.Verbs = append(one.Verbs, verb)
				}
			}
			if len(one.Verbs) > 0 {
				out = append(out, one)
			}
		}
	}
	return out
}
