package kube_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
)

func TestIdentityIsPinned(t *testing.T) {
	t.Parallel()
	_, admin := clustertest.Kubeconfig(t, "k3s", "kwok")
	row := clusterRow(clustertest.UniqueName("test"))
	row.Allows.TLSSkip = true
	scoped := applyManifest(t, admin, &row) // may read its own namespace and no other
	role, err := clustertest.Client(t, admin).RbacV1().Roles(row.Namespace).Get(t.Context(), "portolan", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	blind := lesser(t, admin, row.Namespace, "blind", without(role.Rules, fleet.Permission{Resource: "namespaces", Verb: "get"}))
	eventually(t, kube.TestRequest{Cluster: row, Kubeconfig: blind}, func(test fleet.ConnectionTest) bool { return test.State == fleet.TestOK })
	_, elsewhere := clustertest.ThroughProxy(t, scoped)
	unverified := func(raw []byte) []byte {
		return clustertest.Edit(t, raw, func(c *api.Config) {
			for _, it := range c.Clusters {
				it.CertificateAuthorityData, it.InsecureSkipTLSVerify = nil, true
			}
		})
	}
	parsed := func(t *testing.T, raw []byte) *kube.Kubeconfig {
		t.Helper()
		k, err := kube.Parse(raw, kube.ParseOptions{Allows: row.Allows})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	destination := func(raw []byte) string {
		t.Helper()
		to, err := parsed(t, raw).Destination()
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	server := parsed(t, admin).Facts("").Server
	uid := func(namespace string) string {
		t.Helper()
		ns, err := clustertest.Client(t, admin).CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(ns.UID)
	}
	const system, absent, other = metav1.NamespaceSystem, "a-namespace-that-is-gone", "0b5e3d3e-0000-0000-0000-000000000000"
	here, unverifiedHere := destination(scoped), destination(unverified(scoped))
	if here != destination(admin) {
		t.Fatal("the destination depends on the identity")
	}
	of := func(namespace, uid, destination string) fleet.ClusterIdentity {
		return fleet.ClusterIdentity{Namespace: namespace, UID: uid, Destination: destination}
	}
	none, inSystem, inOwn := of("", "", ""), of(system, uid(system), here), of(row.Namespace, uid(row.Namespace), here)
	for name, c := range map[string]struct {
		raw   []byte
		known fleet.ClusterIdentity
		state fleet.CheckState
		words string // of the check
		then  fleet.ClusterIdentity
	}{
		"the first test":                           {admin, none, fleet.CheckOK, "", inSystem},
		"the first test of a lesser identity":      {scoped, none, fleet.CheckOK, "", inOwn},
		"the first test of one that reads nothing": {blind, none, fleet.CheckOK, "is there", none},
		"the same cluster":                         {admin, inSystem, fleet.CheckOK, "", inSystem},
		"the same by another way":                  {elsewhere, inOwn, fleet.CheckOK, "", of(row.Namespace, uid(row.Namespace), destination(elsewhere))},
		"another cluster":                          {admin, of(system, other, here), fleet.CheckFailed, "leads to another cluster than before", none},

		"hidden":              {scoped, of(system, other, here), fleet.CheckOK, "", inOwn},
		"hidden, as all are":  {blind, of(system, other, here), fleet.CheckOK, "", of(system, other, here)},
		"hidden elsewhere":    {elsewhere, of(system, other, here), fleet.CheckFailed, "another server than before", none},
		"hidden from another": {scoped, of(system, other, "another"), fleet.CheckFailed, "--resource-name=kube-system", none},
		"hidden, unverified":  {unverified(scoped), of(system, other, unverifiedHere), fleet.CheckFailed, "certificate is not checked", none},

		"gone":              {admin, of(absent, other, here), fleet.CheckWarning, "is gone", inSystem},
		"gone elsewhere":    {admin, of(absent, other, "another"), fleet.CheckFailed, "is not there", none},
		"gone, unverified":  {unverified(admin), of(absent, other, unverifiedHere), fleet.CheckFailed, "is not there", none},
		"made anew":         {scoped, of(row.Namespace, other, here), fleet.CheckWarning, "made anew", inOwn},
		"made anew, higher": {admin, of(row.Namespace, other, here), fleet.CheckWarning, "made anew", inSystem},
		"made elsewhere":    {elsewhere, of(row.Namespace, other, here), fleet.CheckFailed, "another cluster than before", none},
		"made, unverified":  {unverified(scoped), of(row.Namespace, other, unverifiedHere), fleet.CheckFailed, "another cluster than before", none},

		// Of tests that kept no destination.
		"hidden at the server":    {scoped, of(system, other, server), fleet.CheckOK, "", inOwn},
		"all hidden there":        {blind, of(system, other, server), fleet.CheckOK, "", of(system, other, here)},
		"all hidden, unverified":  {unverified(blind), of(system, other, server), fleet.CheckOK, "", of(system, other, server)},
		"hidden at another":       {elsewhere, of(system, other, server), fleet.CheckFailed, "another server than before", none},
		"gone at the server":      {admin, of(absent, other, server), fleet.CheckWarning, "is gone", inSystem},
		"made anew at the server": {scoped, of(row.Namespace, other, server), fleet.CheckFailed, "another cluster than before", none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: row, Kubeconfig: c.raw, Pinned: c.known, Deadline: patience}, nil)
			check(t, test, fleet.StageNamespaces, c.state, c.words)
			if test.Pinned != c.then {
				t.Errorf("pinned to %+v, want %+v", test.Pinned, c.then)
			}
			if same := c.state != fleet.CheckFailed; same != (test.State == fleet.TestOK) {
				t.Errorf("the test is %s: %+v", test.State, test.Failed())
			}
			client, err := kube.NewClient(parsed(t, c.raw), opts)
			if err != nil {
				t.Fatal(err)
			}
			if same, err := client.Is(t.Context(), c.known); err != nil || same != (c.state != fleet.CheckFailed) {
				t.Errorf("for a client it is %t, %v", same, err)
			}
		})
	}
}
