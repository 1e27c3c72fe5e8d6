package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"portolan/internal/fleet"
	"portolan/views"
)

// secretFact is the setting that names the secrets.
const secretFact = "Secret environment"

// specFacts describes a spec, setting by setting; those without a value are
// left out. Secrets are names only.
func specFacts(s fleet.Spec) []views.Fact {
	var out []views.Fact
	add := func(name, value string) {
		if value != "" {
			out = append(out, views.Fact{Name: name, Value: value, Mono: true})
		}
	}
	add("Kind", string(s.Kind))
	add("Image", s.Image)
	add("Command", strings.Join(s.Command, " "))
	add("Arguments", strings.Join(s.Args, " "))
	add("Replicas", fmt.Sprint(s.Replicas))
	add("Ports", lines(s.Ports, func(p fleet.Port) string { return fmt.Sprintf("%s=%d", p.Name, p.Number) }))
	add("CPU", s.Resources.CPU)
	add("Memory", s.Resources.Memory)
	add("Ephemeral storage", s.Resources.EphemeralStorage)
	add("GPUs", s.Resources.GPU)
	add("Environment", lines(s.Env, func(e fleet.EnvVar) string { return e.Name + "=" + e.Value }))
	add(secretFact, lines(s.SecretEnv, func(name string) string { return name + "=••••" }))
	add("Volumes", lines(s.Volumes, func(v fleet.Volume) string {
		return join(" ", v.Name+"="+v.MountPath, v.Size, v.StorageClass)
	}))
	if recreates(s) {
		add("Update", "Recreate: the pod that holds the volume ends before the next one starts")
	}
	add("Files", lines(s.Files, func(f fleet.File) string {
		sum := sha256.Sum256([]byte(f.Content))
		return fmt.Sprintf("%s (%d bytes, %s)", f.Path, len(f.Content), hex.EncodeToString(sum[:4]))
	}))
	if h := s.Health; h != nil {
		add("Health check", join(" ", h.Type, h.Port, h.Path, strings.Join(h.Command, " ")))
	}
	add("Pull secrets", strings.Join(s.PullSecrets, ", "))
	add("Node selector", pairs(s.NodeSelector))
	add("Service annotations", pairs(s.ServiceAnnotations))
	add("Capabilities", strings.Join(s.Capabilities, ", "))
	return out
}

// recreates reports whether an update ends the old pod first: a volume that one
// node alone may write cannot be held by two pods.
func recreates(s fleet.Spec) bool { return s.Kind == fleet.KindDeployment && len(s.Volumes) > 0 }

func lines[T any](list []T, line func(T) string) string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = line(e)
	}
	return strings.Join(out, "\n")
}
