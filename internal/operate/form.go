package operate

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"portolan/internal/fleet"
)

// Form returns the text of the edit form of a workload, from the release that
// is wanted now. Secret values are left blank.
func (o *Operator) Form(ctx context.Context, workloadID string) (fleet.WorkloadForm, fleet.WorkloadState, error) {
	state, err := o.Store.Workload(ctx, workloadID)
	if err != nil {
		return nil, state, err
	}
	release, err := o.Store.Release(ctx, workloadID, state.Workload.Release)
	if err != nil {
		return nil, state, err
	}
	form := FormOf(release.Spec)
	form["name"], form["target"], form["runtime"] = state.Workload.Name, state.Workload.Target(), state.Workload.Runtime
	form["replicas"] = strconv.Itoa(int(state.Workload.Replicas))
	form["release"], form["replicas_before"] = strconv.Itoa(state.Workload.Release), form["replicas"] // what it was made from
	return form, state, nil
}

// FormOf writes a spec as the text of the form's fields, so that parsing it
// again gives the same spec.
func FormOf(s fleet.Spec) fleet.WorkloadForm {
	form := fleet.WorkloadForm{
		"workload_kind": strings.ToLower(string(s.Kind)),
		"image":         s.Image,
		"command":       strings.Join(s.Command, "\n"),
		"args":          strings.Join(s.Args, "\n"),
		"replicas":      strconv.Itoa(int(s.Replicas)),
		"cpu":           s.Resources.CPU, "memory": s.Resources.Memory,
		"ephemeral_storage": s.Resources.EphemeralStorage, "gpu": s.Resources.GPU,
		"pull_secrets":        strings.Join(s.PullSecrets, "\n"),
		"node_selector":       pairs(s.NodeSelector),
		"service_annotations": pairs(s.ServiceAnnotations),
		"volumes":             fleet.NoVolumes,
		"health_type":         "none",
	}
	var env, secrets, ports, volumes []string
	for _, e := range s.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	for _, name := range s.SecretEnv {
		secrets = append(secrets, name+"=")
	}
	for _, p := range s.Ports {
		ports = append(ports, p.Name+"="+strconv.Itoa(int(p.Number)))
	}
	for _, v := range s.Volumes {
		volumes = append(volumes, strings.TrimSpace(v.Name+"="+v.MountPath+" "+v.Size+" "+v.StorageClass))
	}
	form["env"], form["secret_env"], form["ports"] = strings.Join(env, "\n"), strings.Join(secrets, "\n"), strings.Join(ports, "\n")
	if len(volumes) > 0 {
		form["volumes"] = strings.Join(volumes, "\n")
	}
	for i, file := range s.Files {
		n := strconv.Itoa(i + 1)
		form["file_path_"+n], form["file_content_"+n] = file.Path, file.Content
	}
	if h := s.Health; h != nil {
		form["health_type"], form["health_port"], form["health_path"] = h.Type, h.Port, h.Path
		form["health_command"] = strings.Join(h.Command, "\n")
	}
	return form
}

// pairs writes one key=value a line, or JSON where a value would not come back
// from that: each line of one that has several would be read as another pair.
func pairs(m map[string]string) string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if value := m[key]; strings.Contains(value, "\n") || strings.TrimSpace(value) != value {
			if text, err := json.Marshal(m); err == nil {
				return string(text)
			}
		}
		lines = append(lines, key+"="+m[key])
	}
	return strings.Join(lines, "\n")
}
