package fleet

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// WorkloadForm is a workload as typed: the text of each form field, by the
// field's name. Absent counts as empty.
type WorkloadForm map[string]string

// FileRows is how many configuration files the form has places for: the
// fields file_path_1 and file_content_1, and so on.
const FileRows = 5

// MaxNameLength leaves room for the suffixes of a workload's objects and pods.
const MaxNameLength = 50

// MaxReplicas bounds a workload's replica count.
const MaxReplicas = 1000

// Parse returns the name, the spec and the secret values that the form
// describes for the runtime, or an Error whose Problems name the fields. A
// secret with an empty value is in Spec.SecretEnv but not in secrets: it keeps
// the value it has.
func (f WorkloadForm) Parse(runtime Runtime) (name string, spec Spec, secrets map[string]string, err error) {
	r := reader{Problems{}}
	name = r.required("name", f["name"], 253)
	if name != "" && (len(name) > MaxNameLength || len(validation.IsDNS1035Label(name)) > 0) {
		r.problems.Add("name", "must be at most %d lower-case letters, digits and hyphens, beginning with a letter and ending with a letter or digit", MaxNameLength)
	}

	spec.Kind = KindDeployment
	switch f["workload_kind"] {
	case "", "deployment":
	case "statefulset":
		spec.Kind = KindStatefulSet
	default:
		r.problems.Add("workload_kind", "choose deployment or statefulset")
	}
	if spec.Image = r.line("image", f["image"], 512); spec.Image == "" {
		spec.Image = runtime.Image
	}
	switch {
	case spec.Image == "":
		r.problems.Add("image", "must not be empty")
	case strings.ContainsAny(spec.Image, " \t"):
		r.problems.Add("image", "must be an image reference such as ghcr.io/acme/app:1.2")
	}
	spec.Command, spec.Args = r.rawLines("command", f["command"]), r.rawLines("args", f["args"])
	spec.Bootstrap = runtime.Bootstrap
	if len(spec.Command) == 0 && len(spec.Args) == 0 {
		spec.Command, spec.Args = runtime.Command, runtime.Args
	}
	f.env(r, &spec, &secrets)
	f.ports(r, runtime, &spec)

	spec.Replicas = 1
	if f["replicas"] != "" {
		spec.Replicas = int32(r.number("replicas", f["replicas"], 1, MaxReplicas))
	}
	spec.Resources = Resources{
		CPU:              r.quantity("cpu", f["cpu"], "500m or 2"),
		Memory:           r.bytes("memory", f["memory"], "512Mi or 2Gi"),
		EphemeralStorage: r.bytes("ephemeral_storage", f["ephemeral_storage"], "1Gi"),
	}
	if n := r.number("gpu", f["gpu"], 0, 64); n > 0 {
		spec.Resources.GPU = strconv.FormatInt(n, 10)
	}
	f.volumes(r, runtime, &spec)
	f.files(r, &spec)
	f.health(r, runtime, &spec)
	spec.PullSecrets = r.names("pull_secrets", f["pull_secrets"])
	spec.NodeSelector = r.annotations("node_selector", f["node_selector"])
	for _, key := range sortedKeys(spec.NodeSelector) {
		if len(validation.IsValidLabelValue(spec.NodeSelector[key])) > 0 {
			r.problems.Add("node_selector", "%s is not a label's value", clip(spec.NodeSelector[key]))
		}
	}
	spec.ServiceAnnotations = r.notOurs("service_annotations", r.annotations("service_annotations", f["service_annotations"]))
	spec.Capabilities = runtime.Capabilities
	return name, spec, secrets, r.problems.Err()
}

func (f WorkloadForm) env(r reader, spec *Spec, secrets *map[string]string) {
	check := func(key, _ string) string {
		if len(validation.IsEnvVarName(key)) > 0 || key == "" {
			return clip(key) + " is not the name of an environment variable"
		}
		return ""
	}
	spec.Env = r.pairs("env", f["env"], check)
	*secrets = map[string]string{}
	for _, p := range r.pairs("secret_env", f["secret_env"], func(key, value string) string {
		if len(validation.IsConfigMapKey(key)) > 0 || check(key, value) != "" {
			// It is not quoted: it may be a part of a secret that has several lines.
			return "what stands before the “=” is not the name of an environment variable"
		}
		return ""
	}) {
		if slices.ContainsFunc(spec.Env, func(e EnvVar) bool { return e.Name == p.Name }) {
			r.problems.Add("secret_env", "%s stands in both; keep it in one", clip(p.Name))
		}
		spec.SecretEnv = append(spec.SecretEnv, p.Name)
		if p.Value != "" {
			(*secrets)[p.Name] = p.Value
		}
	}
}

func (f WorkloadForm) ports(r reader, runtime Runtime, spec *Spec) {
	lines := r.lines("ports", f["ports"])
	if len(lines) == 0 {
		spec.Ports = runtime.Ports
		return
	}
	if len(lines) > 10 {
		r.problems.Add("ports", "must be at most 10 ports")
		return
	}
	for i, l := range lines {
		name, text, ok := strings.Cut(l, "=")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		number, err := strconv.ParseInt(text, 10, 32)
		switch {
		case !ok:
			r.problems.Add("ports", "line %d has no “=”: write one name=number a line, such as http=8080", i+1)
			continue
		case len(validation.IsValidPortName(name)) > 0:
			r.problems.Add("ports", "line %d: a port's name is at most 15 lower-case letters, digits and hyphens with a letter among them", i+1)
		case err != nil || number < 1 || number > 65535:
			r.problems.Add("ports", "line %d: a port is a number from 1 to 65535", i+1)
		case slices.ContainsFunc(spec.Ports, func(p Port) bool { return p.Name == name || p.Number == int32(number) }):
			r.problems.Add("ports", "line %d repeats a name or a number", i+1)
		}
		spec.Ports = append(spec.Ports, Port{Name: name, Number: int32(number)})
	}
}

// NoVolumes, alone in the volumes field, asks for none where the runtime would
// have its own.
const NoVolumes = "none"

// volumes reads one "name=/mount/path size [storage class]" a line.
func (f WorkloadForm) volumes(r reader, runtime Runtime, spec *Spec) {
	lines := r.lines("volumes", f["volumes"])
	switch {
	case len(lines) == 0:
		spec.Volumes = runtime.Volumes
		return
	case len(lines) == 1 && lines[0] == NoVolumes:
		return
	}
	for i, l := range lines {
		name, rest, ok := strings.Cut(l, "=")
		words := strings.Fields(rest)
		if !ok || len(words) < 2 || len(words) > 3 {
			r.problems.Add("volumes", "line %d: write name=/mount/path size, such as data=/var/lib/data 10Gi, and after it a storage class if not the default", i+1)
			continue
		}
		v := Volume{Name: strings.TrimSpace(name), MountPath: words[0], Size: words[1]}
		if len(words) == 3 {
			v.StorageClass = words[2]
		}
		switch {
		case len(validation.IsDNS1123Label(v.Name)) > 0 || len(v.Name) > 12:
			r.problems.Add("volumes", "line %d: a volume's name is at most 12 lower-case letters, digits and hyphens", i+1)
		case !cleanAbsolute(v.MountPath) || strings.Contains(v.MountPath, ":"):
			r.problems.Add("volumes", "line %d: the mount path must be absolute, without “..”", i+1)
		case v.StorageClass != "" && len(validation.IsDNS1123Subdomain(v.StorageClass)) > 0:
			r.problems.Add("volumes", "line %d: %s is not a storage class", i+1, clip(v.StorageClass))
		case slices.ContainsFunc(spec.Volumes, func(o Volume) bool { return o.Name == v.Name || o.MountPath == v.MountPath }):
			r.problems.Add("volumes", "line %d repeats a name or a path", i+1)
		}
		inner := reader{Problems{}}
		if inner.bytes("size", v.Size, "10Gi"); len(inner.problems) > 0 {
			r.problems.Add("volumes", "line %d: the size %s", i+1, inner.problems["size"])
		}
		spec.Volumes = append(spec.Volumes, v)
	}
}

func (f WorkloadForm) files(r reader, spec *Spec) {
	size := 0
	for i := 1; i <= FileRows; i++ {
		pathField, contentField := "file_path_"+strconv.Itoa(i), "file_content_"+strconv.Itoa(i)
		p := r.line(pathField, f[pathField], 1024)
		content := strings.ReplaceAll(f[contentField], "\r\n", "\n")
		switch {
		case p == "" && content == "":
			continue
		case p == "":
			r.problems.Add(pathField, "must not be empty when there is content")
		case !cleanAbsolute(p) || p == "/":
			r.problems.Add(pathField, "must be an absolute path of a file, without “..”")
		case slices.ContainsFunc(spec.Files, func(o File) bool { return o.Path == p }):
			r.problems.Add(pathField, "repeats a path")
		}
		if size += len(content); size > 900<<10 { // a ConfigMap holds 1 MiB at most
			r.problems.Add(contentField, "all files together must be at most 900 KiB")
		}
		r.rawLines(contentField, content)
		spec.Files = append(spec.Files, File{Path: p, Content: content})
	}
}

func (f WorkloadForm) health(r reader, runtime Runtime, spec *Spec) {
	h := HealthCheck{Type: f["health_type"]}
	if runtime.Health != nil {
		h.PeriodSeconds, h.FailureThreshold = runtime.Health.PeriodSeconds, runtime.Health.FailureThreshold
	}
	switch h.Type {
	case "":
		spec.Health = runtime.Health
		if h := spec.Health; h != nil && h.Port != "" && !slices.ContainsFunc(spec.Ports, func(p Port) bool { return p.Name == h.Port }) {
			spec.Health = nil // the port it looks at was taken away
		}
		return
	case "none":
		return
	case "tcp", "http":
		h.Port = r.line("health_port", f["health_port"], 15)
		if h.Port == "" && len(spec.Ports) > 0 {
			h.Port = spec.Ports[0].Name
		}
		named := slices.ContainsFunc(spec.Ports, func(p Port) bool { return p.Name == h.Port })
		if n, err := strconv.Atoi(h.Port); !named && (err != nil || n < 1 || n > 65535) {
			r.problems.Add("health_port", "must be the name of one of the ports, or a number from 1 to 65535")
		}
		if h.Type == "http" {
			if h.Path = r.line("health_path", f["health_path"], 1024); h.Path == "" {
				h.Path = "/"
			}
			if !strings.HasPrefix(h.Path, "/") {
				r.problems.Add("health_path", "must begin with /")
			}
		}
	case "exec":
		if h.Command = r.rawLines("health_command", f["health_command"]); len(h.Command) == 0 {
			r.problems.Add("health_command", "must not be empty: one argument a line")
		}
	default:
		r.problems.Add("health_type", "choose none, tcp, http or exec")
	}
	spec.Health = &h
}

func cleanAbsolute(p string) bool { return strings.HasPrefix(p, "/") && path.Clean(p) == p }
