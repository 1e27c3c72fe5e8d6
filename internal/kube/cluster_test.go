package kube_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbac "k8s.io/api/rbac/v1"

	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/live"
)

// opts are those of every client and test here.
var opts = kube.Options{Version: "test"}

func clusterRow(namespace string) fleet.Cluster {
	return fleet.Cluster{
		ID: "real", Label: "Real", Provider: fleet.ProviderK3s, CredentialMode: fleet.CredentialEncrypted,
		Namespace: namespace, Enabled: true,
		Exposure: fleet.Exposure{Mode: fleet.ExposureNodePort, RuntimeHost: "127.0.0.1"},
	}
}

func check(t *testing.T, test fleet.ConnectionTest, stage fleet.Stage, state fleet.CheckState, words ...string) {
	t.Helper()
	for _, c := range test.Checks {
		if c.Stage != stage {
			continue
		}
		if c.State != state {
			t.Errorf("%s is %s (%s %s), want %s", stage, c.State, c.Message, c.Remedy, state)
		}
		for _, word := range words {
			if !strings.Contains(c.Message+" "+c.Remedy, word) {
				t.Errorf("%s says %q / %q, want it to mention %q", stage, c.Message, c.Remedy, word)
			}
		}
		return
	}
	t.Errorf("no stage %s", stage)
}

func logChecks(t *testing.T, test fleet.ConnectionTest) {
	t.Helper()
	for _, c := range test.Checks {
		t.Logf("%-13s %-8s %7s %s | %s", c.Stage, c.State, c.Duration.Round(100*time.Microsecond), c.Message, c.Remedy)
	}
}

func TestAdminPasses(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	client := clustertest.Client(t, raw)
	cluster := clusterRow(clustertest.Namespace(t, client))
	var seen []fleet.ConnectionTest
	test := kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: cluster, Kubeconfig: raw, Trigger: fleet.TriggerPerson, Deadline: patience},
		func(p fleet.ConnectionTest) {
			p.Checks = slices.Clone(p.Checks)
			seen = append(seen, p)
		})
	logChecks(t, test)
	if test.State != fleet.TestOK || test.ServerVersion == "" || test.Identity == "" || test.Pinned.UID == "" || test.Pinned.Namespace != "kube-system" {
		t.Errorf("state %s, version %q, identity %q, pinned %+v", test.State, test.ServerVersion, test.Identity, test.Pinned)
	}
	if len(test.Permissions) != len(fleet.Permissions) {
		t.Errorf("%d permission rows, want %d", len(test.Permissions), len(fleet.Permissions))
	}
	cluster.CredentialHash = kube.Hash(raw)
	if test.Fingerprint != cluster.Fingerprint() {
		t.Error("the test is not bound to the configuration it tested")
	}
	// Each stage is announced at its begin and its end.
	if want := 2 * len(fleet.Stages); len(seen) != want {
		t.Errorf("%d progress reports, want %d", len(seen), want)
	}
	if first := seen[0]; first.State != fleet.TestRunning || first.Checks[0].State != fleet.CheckRunning || first.Checks[1].State != fleet.CheckPending {
		t.Errorf("first report: %s, %s, %s", first.State, first.Checks[0].State, first.Checks[1].State)
	}
}

// patience is how long a busy machine may take for what is sure to come.
const patience = 2 * time.Minute

// eventually tests until the API server's authoriser has seen the new roles.
func eventually(t *testing.T, req kube.TestRequest, done func(fleet.ConnectionTest) bool) fleet.ConnectionTest {
	t.Helper()
	req.Deadline = patience
	for began := time.Now(); ; {
		test := kube.NewTester(opts).Run(t.Context(), req, nil)
		if done(test) {
			return test
		}
		if time.Since(began) > patience {
			logChecks(t, test)
			t.Error("did not come to the expected end")
			return test
		}
	}
}

func TestNamespaceStates(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	client := clustertest.Client(t, raw)
	tester := kube.NewTester(opts)

	absent := clusterRow(clustertest.UniqueName("absent"))
	test := tester.Run(t.Context(), kube.TestRequest{Cluster: absent, Kubeconfig: raw, Deadline: patience}, nil)
	check(t, test, fleet.StageNamespaces, fleet.CheckWarning, absent.Namespace, "first deploy makes it")
	if test.State != fleet.TestOK {
		t.Errorf("a namespace that can be made fails the test: %+v", test.Failed())
	}

	// A scoped identity that may neither see nor make the second namespace.
	scoped := clusterRow(clustertest.UniqueName("test"))
	account := applyManifest(t, raw, &scoped)
	eventually(t, kube.TestRequest{Cluster: scoped, Kubeconfig: account}, func(test fleet.ConnectionTest) bool { return test.State == fleet.TestOK })
	scoped.RuntimeNamespaces = map[string]string{"hermes": clustertest.UniqueName("absent")}
	test = tester.Run(t.Context(), kube.TestRequest{Cluster: scoped, Kubeconfig: account, Deadline: patience}, nil)
	logChecks(t, test)
	check(t, test, fleet.StagePermissions, fleet.CheckFailed, "in namespace "+scoped.RuntimeNamespaces["hermes"])

	// One that may see that it is not there, and not make it.
	clustertest.GrantAnywhere(t, client, scoped.Namespace, "view-all", rbac.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}})
	account = clustertest.AccountKubeconfig(t, raw, scoped.Namespace, "view-all")
	test = eventually(t, kube.TestRequest{Cluster: scoped, Kubeconfig: account}, func(test fleet.ConnectionTest) bool {
		failed := test.Failed()
		return failed != nil && failed.Stage == fleet.StageNamespaces
	})
	check(t, test, fleet.StageNamespaces, fleet.CheckFailed, scoped.RuntimeNamespaces["hermes"], "may not make it")
}

func TestExposureIsTried(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	cluster := clusterRow("default")
	run := func(exposure fleet.Exposure) fleet.ConnectionTest {
		cluster.Exposure = exposure
		return kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: cluster, Kubeconfig: raw, Deadline: patience}, nil)
	}
	check(t, run(fleet.Exposure{Mode: fleet.ExposureClusterIP}), fleet.StageExposure, fleet.CheckOK, "inside the cluster")
	check(t, run(fleet.Exposure{Mode: fleet.ExposureNodePort}), fleet.StageExposure, fleet.CheckOK, "the port and no link")
	check(t, run(fleet.Exposure{Mode: fleet.ExposureNodePort, RuntimeHost: "h", RuntimeNodePort: 8080}), fleet.StageExposure, fleet.CheckWarning, "30000–32767")
	check(t, run(fleet.Exposure{Mode: fleet.ExposureLoadBalancer, LoadBalancerClass: "example.com/lb", SourceRanges: []string{"10.0.0.0/8"}}),
		fleet.StageExposure, fleet.CheckOK, "example.com/lb")
	check(t, run(fleet.Exposure{Mode: fleet.ExposureLoadBalancer, SourceRanges: []string{"10.0.0.0/99"}}), fleet.StageExposure, fleet.CheckFailed, "10.0.0.0/99")
	check(t, run(fleet.Exposure{Mode: fleet.ExposureLoadBalancer, Annotations: map[string]string{"not a key": "x"}}), fleet.StageExposure, fleet.CheckFailed)
}

func TestDeadConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	proxy, through := clustertest.ThroughProxy(t, raw)
	k, err := kube.Parse(through, kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.NewClient(k, opts)
	if err != nil {
		t.Fatal(err)
	}
	open, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- live.Watch(t.Context(), client.API, live.ConfigMaps, "default", live.Query{}, "", func(live.Change, *struct{}) error {
			select {
			case open <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	select {
	case <-open: // by what was there before
	case err := <-ended:
		t.Fatal(err)
	}
	proxy.BlackHole()
	began := time.Now()
	timeout := time.After(90 * time.Second)
	for {
		select {
		case err := <-ended:
			t.Logf("noticed after %s: %v", time.Since(began).Round(time.Millisecond), err)
			proxy.Restore()
			if _, _, err := live.List[struct{}](t.Context(), client.API, live.ConfigMaps, "default", live.Query{Limit: 1}); err != nil {
				t.Errorf("after the network is back: %v", err)
			}
			return
		case <-timeout:
			t.Fatal("a watch on a dead connection still looks alive after 90 s")
		}
	}
}

// B6: whatever falls silent, and when, the test ends within its deadline.
func TestB6SilentProxy(t *testing.T) {
	t.Parallel()
	_, raw := clustertest.Kubeconfig(t, "k3s", "kwok")
	for _, stage := range []fleet.Stage{fleet.StageTLS, fleet.StageAuthenticate, fleet.StageVersion, fleet.StageNamespaces, fleet.StagePermissions, fleet.StageExposure} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			var test fleet.ConnectionTest
			// A busy machine may need longer to come to the stage.
			for deadline, silent := 9*time.Second, false; !silent && deadline < patience; deadline *= 2 {
				proxy, through := clustertest.ThroughProxy(t, raw)
				began := time.Now()
				test = kube.NewTester(opts).Run(t.Context(), kube.TestRequest{Cluster: clusterRow("default"), Kubeconfig: through, Deadline: deadline},
					func(p fleet.ConnectionTest) {
						for _, c := range p.Checks {
							if c.Stage == stage && c.State == fleet.CheckRunning {
								silent = true
								proxy.BlackHole()
							}
						}
					})
				if took := time.Since(began); took > deadline+15*time.Second {
					t.Errorf("took %s of %s", took, deadline)
				}
			}
			check(t, test, stage, fleet.CheckFailed, " s")
			if failed := test.Failed(); failed != nil {
				t.Logf("%s: %s %s", failed.Stage, failed.Message, failed.Remedy)
			}
		})
	}
}

func TestMountedReferencesAreInlined(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a/config", kubeconfigWith("    certificate-authority: ../ca.crt\n", "    tokenFile: token\n"))
	write("ca.crt", string(testCA(t).pem))
	write("a/token", "first\n")
	root := kube.OpenRoot(dir)
	raw, err := root.Kubeconfig("a/config")
	if err != nil {
		t.Fatal(err)
	}
	k, err := kube.Parse(raw, kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err := k.RESTConfig(""); err != nil || cfg.BearerToken != "first" || len(cfg.CAData) == 0 {
		t.Errorf("token %q, %d bytes of CA, %v", cfg.BearerToken, len(cfg.CAData), err)
	}
	write("a/token", "second\n")
	if later, err := root.Kubeconfig("a/config"); err != nil || kube.Hash(later) == kube.Hash(raw) {
		t.Errorf("a changed token file did not change the hash (%v)", err)
	}
}
