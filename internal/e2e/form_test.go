package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"portolan/internal/clustertest"
)

// markup is what a person may type and every page must show as text.
const markup = `<script>alert(1)</script>"><img src=x onerror=alert(1)>`

// assertInert fails when typed markup became part of a page.
func assertInert(t testing.TB, p *page) {
	t.Helper()
	for _, n := range elements(p.root, "img") {
		if attr(n, "src") == "x" {
			t.Errorf("%s: typed markup became an element", p.request)
		}
	}
	for _, n := range elements(p.root, "script") {
		if strings.Contains(rawText(n), "alert") {
			t.Errorf("%s: typed markup became a script", p.request)
		}
	}
}

func TestClusterFormRefusesBadFields(t *testing.T) {
	t.Parallel()
	p := shared(t)
	id := clustertest.UniqueName("form")
	p.mount(t, id, real.kubeconfig(t))
	good := fields{
		"id": id, "label": "Form", "provider": "k3s", "cluster_name": "form", "credential_mode": "mounted", "kubeconfig_path": id,
		"namespace": "default", "exposure_mode": "load-balancer", "enabled": "true",
	}
	long := strings.Repeat("x", 2000)
	bad := map[string][]string{
		"id":                    {"", "A", "-x", "x-", "new", "test", "inspect", "a_b", long, markup, "a\x00b"},
		"label":                 {"", long, "a\x00b", "a\x1bb"},
		"provider":              {"", "openstack", markup},
		"cluster_name":          {long, "a\x00b"},
		"credential_mode":       {"", "none", markup},
		"kubeconfig_path":       {"", "../outside", "/etc/passwd", "no-such-file", long, "a\x00b", markup},
		"context":               {"no-such-context", long, "a\x00b"},
		"namespace":             {"", "Upper", "under_score", long, markup, "a\x00b"},
		"openclaw_namespace":    {"Upper", long, markup},
		"hermes_namespace":      {"Upper", long, markup},
		"exposure_mode":         {"", "ingress", markup},
		"service_annotations":   {"{", "[]", `{"a": 1}`, `{"bad key!": "x"}`, "a\x00b=c"},
		"source_ranges":         {"10.0.0.1", "10.0.0.0/33", "everyone", markup},
		"load_balancer_class":   {long, "a b", markup},
		"load_balancer_timeout": {"soon", "-1s", "1ms", "1000h", markup},
		"image_pull_secrets":    {"Upper", long, markup},
		"labels":                {"no equals", "bad key!=x", "a\x00b=c"},
		"region":                {long, "a\x00b"},
	}
	for field, values := range bad {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			for _, value := range values {
				answer := p.post(t, "/admin/clusters", good.but(fields{field: value}))
				if answer.status != http.StatusUnprocessableEntity {
					t.Errorf("%q: %d, want 422", short(value), answer.status)
					continue
				}
				if answer.problem(field) == "" {
					t.Errorf("%q: no error beside the field: %s", short(value), clipped(answer.text()))
				}
				assertInert(t, answer)
				kept, _ := answer.form("/admin/clusters")
				if field != "label" && kept["label"] != "Form" || field != "cluster_name" && kept["cluster_name"] != "form" {
					t.Errorf("%q: the other input was not kept", short(value))
				}
			}
		})
	}
	t.Run("node ports", func(t *testing.T) {
		t.Parallel()
		ported := good.but(fields{"exposure_mode": "node-port"})
		for field, values := range map[string][]string{
			"runtime_node_port": {"x", "0", "70000", "-1"},
			"gateway_node_port": {"x", "0", "70000", "1.5"},
			"runtime_host":      {"http://host", "host:80", "a b", markup},
		} {
			for _, value := range values {
				answer := p.post(t, "/admin/clusters", ported.but(fields{field: value}))
				if answer.status != http.StatusUnprocessableEntity || answer.problem(field) == "" {
					t.Errorf("%s=%q: %d, %q", field, value, answer.status, answer.problem(field))
				}
			}
		}
	})
	t.Run("markup in texts", func(t *testing.T) {
		t.Parallel()
		// What may be any text is shown as text.
		other := clustertest.UniqueName("form")
		expect(t, p.post(t, "/admin/clusters", good.but(fields{"id": other, "label": markup, "region": markup, "cluster_name": markup})), http.StatusSeeOther)
		for _, path := range []string{"/admin/clusters", "/admin/clusters/" + other, "/admin/clusters/" + other + "/edit", "/deploy", "/"} {
			assertInert(t, p.get(t, path))
		}
	})
}

func TestDeployFormRefusesBadFields(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	good := pl.draft(clustertest.UniqueName("form"), probed)
	long := strings.Repeat("x", 2000)
	bad := map[string][]string{
		"target":              {"", "k8s:", "k8s:no-such-cluster", "nomad:x", markup},
		"runtime":             {"", "virtual-machine", markup},
		"name":                {"", "Upper", "-x", "x-", "9x", "a_b", strings.Repeat("x", 51), long, markup, "a\x00b"},
		"image":               {"", "a b", long, "a\x00b"},
		"command":             {"a\x00b"},
		"args":                {"a\x1bb"},
		"env":                 {"NOEQUALS", "A=1\nA=2", "1=x\n=y", "a b=c", "A=\x00"},
		"secret_env":          {"NOEQUALS", "A=1\nA=2", "a b=c", "UNSET="},
		"ports":               {"http", "http=0", "http=70000", "http=x", "HTTP=80", "a=80\na=81", "a=80\nb=80", manyPorts, markup + "=80"},
		"replicas":            {"0", "-1", "x", "1.5", "1000000", markup},
		"cpu":                 {"x", "-1", "0", markup},
		"memory":              {"x", "-1", "10 apples", markup},
		"ephemeral_storage":   {"x", "-1"},
		"gpu":                 {"x", "-1", "1.5"},
		"volumes":             {"data", "data=/data", "data=data 1Gi", "data=/data x", "DATA=/data 1Gi", "data=/a/../b 1Gi", "a=/x 1Gi\na=/y 1Gi"},
		"file_path_1":         {"relative", "/a/../b", "/"},
		"health_type":         {"ping", markup},
		"health_port":         {"nope", "70000"},
		"health_path":         {"health", "a\x00b"},
		"node_selector":       {"no equals", "bad key!=x"},
		"service_annotations": {"{", `{"a": 1}`, "bad key!=x"},
		"pull_secrets":        {"Upper", long},
		"workload_kind":       {"daemonset", markup},
	}
	for field, values := range bad {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			for _, value := range values {
				form := good.but(fields{field: value})
				if strings.HasPrefix(field, "file_path") {
					form["file_content_1"] = "content"
				}
				answer := pl.post(t, "/deploy", form)
				if answer.status != http.StatusUnprocessableEntity {
					t.Errorf("%q: %d, want 422\n%s", short(value), answer.status, clipped(answer.text()))
					continue
				}
				assertInert(t, answer)
				if answer.problem(field) == "" {
					t.Errorf("%q: no error beside the field", short(value))
				}
				kept, ok := answer.form("/deploy")
				if !ok || field != "name" && kept["name"] != good["name"] || field != "image" && kept["image"] != good["image"] {
					t.Errorf("%q: the other input was not kept: %v", short(value), kept)
				}
				if kept["secret_env"] != "" {
					t.Errorf("%q: the secrets came back", short(value))
				}
			}
		})
	}
}

// manyPorts are one more than a workload may have.
var manyPorts = func() string {
	var b strings.Builder
	for i := range 11 {
		fmt.Fprintf(&b, "p%d=%d\n", i, 8000+i)
	}
	return b.String()
}()

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
