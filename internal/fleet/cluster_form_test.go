package fleet

import (
	"maps"
	"strings"
	"testing"
)

func validClusterForm() ClusterForm {
	return ClusterForm{
		"id": "k3s-local", "label": "Lab", "provider": "k3s", "credential_mode": "mounted",
		"kubeconfig_path": "k3s-local", "namespace": "default", "exposure_mode": "node-port",
	}
}

func with(f ClusterForm, changes map[string]string) ClusterForm {
	out := maps.Clone(f)
	maps.Copy(out, changes)
	return out
}

func TestClusterFormNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 300)
	loadBalancer := map[string]string{"exposure_mode": "load-balancer"}
	for name, c := range map[string]struct {
		field  string
		values map[string]string
	}{
		"empty id":                    {"id", map[string]string{"id": ""}},
		"id of one character":         {"id", map[string]string{"id": "a"}},
		"id with capitals":            {"id", map[string]string{"id": "Lab"}},
		"id of 64 characters":         {"id", map[string]string{"id": strings.Repeat("a", 64)}},
		"reserved id":                 {"id", map[string]string{"id": "inspect"}},
		"empty label":                 {"label", map[string]string{"label": " "}},
		"label of 81 characters":      {"label", map[string]string{"label": strings.Repeat("ü", 81)}},
		"label with an escape":        {"label", map[string]string{"label": "a\x1b[31m"}},
		"label that reads backwards":  {"label", map[string]string{"label": "a\u202eb"}},
		"label that is not UTF-8":     {"label", map[string]string{"label": "a\xff"}},
		"unknown provider":            {"provider", map[string]string{"provider": "openshift"}},
		"unknown credential mode":     {"credential_mode", map[string]string{"credential_mode": ""}},
		"mounted without a path":      {"kubeconfig_path", map[string]string{"kubeconfig_path": ""}},
		"namespace with a dot":        {"namespace", map[string]string{"namespace": "a.b"}},
		"empty namespace":             {"namespace", map[string]string{"namespace": ""}},
		"namespace of a runtime":      {"hermes_namespace", map[string]string{"hermes_namespace": "<b>"}},
		"unknown exposure":            {"exposure_mode", map[string]string{"exposure_mode": "ingress"}},
		"host with a scheme":          {"runtime_host", map[string]string{"runtime_host": "http://a"}},
		"node port out of range":      {"runtime_node_port", map[string]string{"runtime_node_port": "70000"}},
		"node port that is a word":    {"gateway_node_port", map[string]string{"gateway_node_port": "x"}},
		"both node ports equal":       {"gateway_node_port", map[string]string{"runtime_node_port": "30001", "gateway_node_port": "30001"}},
		"annotations that are a list": {"service_annotations", with(loadBalancer, map[string]string{"service_annotations": "[]"})},
		"annotation that is a number": {"service_annotations", with(loadBalancer, map[string]string{"service_annotations": `{"a":1}`})},
		"annotation with a bad key":   {"service_annotations", with(loadBalancer, map[string]string{"service_annotations": `{"a b":"c"}`})},
		"source range without a mask": {"source_ranges", with(loadBalancer, map[string]string{"source_ranges": "10.0.0.1"})},
		"source range with host bits": {"source_ranges", with(loadBalancer, map[string]string{"source_ranges": "10.0.0.1/8"})},
		"class with a space":          {"load_balancer_class", with(loadBalancer, map[string]string{"load_balancer_class": "a b"})},
		"timeout that is a word":      {"load_balancer_timeout", with(loadBalancer, map[string]string{"load_balancer_timeout": "soon"})},
		"timeout of a second":         {"load_balancer_timeout", with(loadBalancer, map[string]string{"load_balancer_timeout": "1s"})},
		"pull secret with a slash":    {"image_pull_secrets", map[string]string{"image_pull_secrets": "a/b"}},
		"annotation of ours":          {"service_annotations", with(loadBalancer, map[string]string{"service_annotations": "portolan.dev/release=9"})},
		"label of ours":               {"labels", map[string]string{"labels": "portolan.dev/workload=x"}},
		"label value with a space":    {"labels", map[string]string{"labels": "team=a b"}},
		"region too long":             {"region", map[string]string{"region": long}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := with(validClusterForm(), c.values).Parse()
			e, ok := err.(*Error)
			if !ok || e.Code != CodeInvalid || e.Problems[c.field] == "" || len(e.Problems) != 1 {
				t.Fatalf("got %v, want one problem at %s", err, c.field)
			}
		})
	}
}

func TestClusterFormReadsOnlyTheFieldsOfTheChosenMode(t *testing.T) {
	t.Parallel()
	c, err := with(validClusterForm(), map[string]string{
		"exposure_mode": "cluster-ip", "runtime_node_port": "nonsense", "service_annotations": "[", "openclaw_namespace": "openclaw-agents",
	}).Parse()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.NamespaceFor("openclaw"); got != "openclaw-agents" {
		t.Errorf("openclaw namespace = %q", got)
	}
	if got := c.NamespaceFor("hermes"); got != "default" {
		t.Errorf("hermes namespace = %q, want the fallback", got)
	}
}

func TestFingerprintChangesWithWhatATestIsAbout(t *testing.T) {
	t.Parallel()
	base, err := validClusterForm().Parse()
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*Cluster){
		"credential":        func(c *Cluster) { c.CredentialHash = "x" },
		"context":           func(c *Cluster) { c.Context = "other" },
		"namespace":         func(c *Cluster) { c.Namespace = "other" },
		"runtime namespace": func(c *Cluster) { c.RuntimeNamespaces = map[string]string{"hermes": "h"} },
		"exposure mode":     func(c *Cluster) { c.Exposure.Mode = ExposureClusterIP },
		"node port":         func(c *Cluster) { c.Exposure.RuntimeNodePort = 30001 },
		"source ranges":     func(c *Cluster) { c.Exposure.SourceRanges = []string{"10.0.0.0/8"} },
	}
	for name, change := range changes {
		c := base
		if change(&c); c.Fingerprint() == base.Fingerprint() {
			t.Errorf("a change of the %s keeps the fingerprint", name)
		}
	}
	same := base
	same.Label, same.Region, same.Enabled, same.Version = "Other", "eu", true, 9
	same.RuntimeNamespaces = map[string]string{"hermes": ""}
	if same.Fingerprint() != base.Fingerprint() {
		t.Error("a change of label, region or enabled changes the fingerprint")
	}
}

func FuzzClusterForm(f *testing.F) {
	f.Add("k3s-local", "Lab", `{"a":"b"}`, "10.0.0.0/8, 192.168.0.0/16", "20m", "team=a")
	f.Add("", "\x00", "[", "::/0", "-1", "=")
	f.Fuzz(func(t *testing.T, id, label, annotations, ranges, timeout, labels string) {
		c, err := ClusterForm{
			"id": id, "label": label, "provider": "eks", "credential_mode": "encrypted", "namespace": "default", "exposure_mode": "load-balancer",
			"service_annotations": annotations, "source_ranges": ranges, "load_balancer_timeout": timeout, "labels": labels,
		}.Parse()
		if err == nil && (!ValidClusterID(c.ID) || c.Label == "" || c.Exposure.LoadBalancerTimeout <= 0) {
			t.Errorf("accepted %+v", c)
		}
		if err != nil && CodeOf(err) != CodeInvalid {
			t.Errorf("unexpected error %v", err)
		}
	})
}
