package fleet

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func validWorkloadForm() WorkloadForm {
	return WorkloadForm{"name": "web", "image": "portolan.dev/demo:1", "ports": "http=8080"}
}

func TestWorkloadFormNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	container, _ := RuntimeByID("container")
	for name, c := range map[string]struct{ field, value string }{
		"empty name":                    {"name", ""},
		"name of 51 characters":         {"name", strings.Repeat("a", 51)},
		"name with HTML":                {"name", "<script>"},
		"name that begins with a digit": {"name", "1web"},
		"image with a space":            {"image", "a b"},
		"empty image":                   {"image", ""},
		"env without =":                 {"env", "A"},
		"env twice":                     {"env", "A=1\nA=2"},
		"env with a bad name":           {"env", "A B=1"},
		"secret with a bad name":        {"secret_env", "=x"},
		"port without number":           {"ports", "http"},
		"port out of range":             {"ports", "http=65536"},
		"port named in capitals":        {"ports", "HTTP=80"},
		"port twice":                    {"ports", "a=80\nb=80"},
		"eleven ports":                  {"ports", "a=1\nb=2\nc=3\nd=4\ne=5\nf=6\ng=7\nh=8\ni=9\nj=10\nk=11"},
		"no replicas":                   {"replicas", "0"},
		"too many replicas":             {"replicas", "1001"},
		"replicas in words":             {"replicas", "two"},
		"cpu in words":                  {"cpu", "2 cores"},
		"negative memory":               {"memory", "-1Gi"},
		"memory without a unit":         {"memory", "512"},
		"storage in words":              {"ephemeral_storage", "lots"},
		"half a gpu":                    {"gpu", "0.5"},
		"volume without size":           {"volumes", "data=/data"},
		"volume of ten bytes":           {"volumes", "data=/data 10"},
		"volume with a relative path":   {"volumes", "data=data 1Gi"},
		"volume with ..":                {"volumes", "data=/a/../etc 1Gi"},
		"health of a missing port":      {"health_port", "grpc"},
		"unknown health":                {"health_type", "grpc"},
		"unknown kind":                  {"workload_kind", "daemonset"},
		"file without path":             {"file_path_1", ""},
		"file with ..":                  {"file_path_1", "/etc/../x"},
		"command with an escape":        {"command", "a\x1b[0m"},
		"pull secret with a slash":      {"pull_secrets", "a/b"},
		"annotation of ours":            {"service_annotations", `{"app.kubernetes.io/managed-by": "helm"}`},
		"node selector without =":       {"node_selector", "disk"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := validWorkloadForm()
			f[c.field] = c.value
			switch c.field {
			case "file_path_1":
				f["file_content_1"] = "x"
			case "health_port":
				f["health_type"] = "tcp"
			}
			_, _, _, err := f.Parse(container)
			e, ok := err.(*Error)
			if !ok || e.Code != CodeInvalid || e.Problems[c.field] == "" || len(e.Problems) != 1 {
				t.Fatalf("got %v, want one problem at %s", err, c.field)
			}
		})
	}
}

func TestWorkloadFormTakesTheRuntimesDefaults(t *testing.T) {
	t.Parallel()
	openclaw, _ := RuntimeByID("openclaw")
	_, spec, _, err := WorkloadForm{"name": "agent"}.Parse(openclaw)
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{
		Kind: KindDeployment, Image: "node:24-slim", Command: openclaw.Command, Bootstrap: openclaw.Bootstrap,
		Ports: []Port{{"gateway", 18789}, {"runtime", 9090}}, Replicas: 1,
		Volumes: []Volume{{Name: "state", MountPath: "/root/.openclaw", Size: "10Gi"}},
		Health:  &HealthCheck{Type: "tcp", Port: "gateway", PeriodSeconds: 10, FailureThreshold: 60},
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Error(diff)
	}
	_, spec, _, err = WorkloadForm{"name": "agent", "volumes": NoVolumes, "ports": "web=80"}.Parse(openclaw)
	if err != nil || spec.Volumes != nil || spec.Health != nil {
		t.Errorf("volumes %v, health %v, err %v", spec.Volumes, spec.Health, err)
	}
}

func TestWorkloadFormKeepsSecretValuesOutOfTheSpec(t *testing.T) {
	t.Parallel()
	container, _ := RuntimeByID("container")
	f := validWorkloadForm()
	f["secret_env"] = "TOKEN=a=b \r\nKEPT="
	_, spec, secrets, err := f.Parse(container)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"TOKEN", "KEPT"}, spec.SecretEnv); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"TOKEN": "a=b "}, secrets); diff != "" {
		t.Error(diff)
	}
}

func TestWorkloadFormQuotesNoSecret(t *testing.T) {
	t.Parallel()
	container, _ := RuntimeByID("container")
	for _, typed := range []string{"hunter2+hunter2==", "KEY=1\nhunter2", "KEY=hunter2\nKEY=hunter2", "=hunter2"} {
		f := validWorkloadForm()
		f["secret_env"] = typed
		if _, _, _, err := f.Parse(container); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", typed, err)
		}
	}
}

func FuzzWorkloadForm(f *testing.F) {
	f.Add("web", "A=1", "http=80", "data=/data 1Gi", "/etc/a", "x")
	f.Add("", "=", "=", "=", "..", "\x00")
	container, _ := RuntimeByID("container")
	f.Fuzz(func(t *testing.T, name, env, ports, volumes, path, content string) {
		_, spec, _, err := WorkloadForm{
			"name": name, "image": "a", "env": env, "secret_env": env, "ports": ports, "volumes": volumes,
			"file_path_1": path, "file_content_1": content,
		}.Parse(container)
		if err != nil && CodeOf(err) != CodeInvalid {
			t.Errorf("unexpected error %v", err)
		}
		if err == nil && len(spec.Ports) > 10 {
			t.Errorf("accepted %d ports", len(spec.Ports))
		}
	})
}
