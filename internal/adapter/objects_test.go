package adapter

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

func decoded[T any](t *testing.T, o object) *T {
	t.Helper()
	out := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.want, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func ofRuntime(t *testing.T, id string) *blueprint {
	t.Helper()
	r, ok := fleet.RuntimeByID(id)
	if !ok {
		t.Fatalf("no runtime %s", id)
	}
	return &blueprint{
		installation: "inst", secretRelease: "1", replicas: 1,
		cluster:  fleet.Cluster{ID: "c", Labels: map[string]string{"team": "x", live.LabelWorkload: "forged"}, ImagePullSecrets: []string{"cluster-pull"}},
		workload: fleet.Workload{ID: "id", Name: "web", ClusterID: "c", Namespace: "ns", Runtime: id, Kind: fleet.KindDeployment, Release: 3},
		spec: fleet.Spec{
			Image: r.Image, Command: r.Command, Args: r.Args, Ports: r.Ports, Volumes: r.Volumes, Bootstrap: r.Bootstrap,
			Health: r.Health, Capabilities: r.Capabilities, Resources: fleet.Resources{CPU: "1", Memory: "2Gi"},
			Env: []fleet.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}}, SecretEnv: []string{"TOKEN"}, PullSecrets: []string{"own-pull", "cluster-pull"},
			InitContainers: []fleet.Container{{Name: "init", Image: "i"}}, Sidecars: []fleet.Container{{Name: "side", Image: "s"}},
		},
		secrets: map[string]string{"TOKEN": "hunter2"},
	}
}

func TestPodsGetTheLeast(t *testing.T) {
	t.Parallel()
	for _, r := range fleet.Runtimes() {
		b := ofRuntime(t, r.ID)
		d := decoded[appsv1.Deployment](t, b.controller())
		pod := d.Spec.Template.Spec
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
			t.Errorf("%s: a service-account token is mounted", r.ID)
		}
		if pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: seccomp %v", r.ID, pod.SecurityContext.SeccompProfile)
		}
		for i, c := range append(append([]corev1.Container{}, pod.Containers...), pod.InitContainers...) {
			s := c.SecurityContext
			if s == nil || *s.AllowPrivilegeEscalation || *s.Privileged || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
				t.Errorf("%s: container %s has %+v", r.ID, c.Name, s)
			}
			want := 0
			if i == 0 {
				want = len(r.Capabilities)
			}
			if len(s.Capabilities.Add) != want {
				t.Errorf("%s: container %s keeps %v", r.ID, c.Name, s.Capabilities.Add)
			}
		}
		main := pod.Containers[0]
		if main.Resources.Requests.Cpu().Cmp(*main.Resources.Limits.Cpu()) != 0 || main.Resources.Requests.Memory().Cmp(*main.Resources.Limits.Memory()) != 0 || main.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: resources %+v", r.ID, main.Resources)
		}
		if len(main.Env) != 2 || main.Env[0].Value != "2" || main.Env[1].ValueFrom.SecretKeyRef.Name != "web-env" {
			t.Errorf("%s: environment %+v", r.ID, main.Env)
		}
		if len(pod.ImagePullSecrets) != 2 || pod.ImagePullSecrets[0].Name != "cluster-pull" {
			t.Errorf("%s: pull secrets %v", r.ID, pod.ImagePullSecrets)
		}
		if d.Labels[live.LabelWorkload] != "id" || d.Labels["team"] != "x" || d.Annotations[live.AnnotationRelease] != "3" {
			t.Errorf("%s: labels %v", r.ID, d.Labels)
		}
		if (len(r.Volumes) > 0) != (d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType) {
			t.Errorf("%s: with %d volumes it is rolled by %s", r.ID, len(r.Volumes), d.Spec.Strategy.Type)
		}
		if (r.Health != nil) != (main.StartupProbe != nil) {
			t.Errorf("%s: startup probe %+v", r.ID, main.StartupProbe)
		}
	}
}

func TestOnlyTheSecretHoldsSecretValues(t *testing.T) {
	t.Parallel()
	b := ofRuntime(t, "openclaw")
	for _, o := range append(b.needs(), b.controller(), b.service(nil), b.headlessService()) {
		text, err := json.Marshal(o.want)
		if err != nil {
			t.Fatal(err)
		}
		// hunter2, and what it is in base64
		holds := strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "aHVudGVyMg==")
		if holds != (o.Resource == live.Secrets) {
			t.Errorf("%s: holds a secret value: %v", o, holds)
		}
	}
}

func TestAnObjectThatAppearsBetweenLookAndApplyIsNotChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "k3s", "kwok")
	wl, spec := w.demo("web")
	var later errgroup.Group
	client, err := w.adapter.clients.Get(t.Context(), &w.cluster)
	if err != nil {
		t.Fatal(err)
	}
	spec.Files = []fleet.File{{Path: "/etc/a", Content: "ours"}}
	spec.SecretEnv = []string{"TOKEN"}
	spec.Volumes = []fleet.Volume{{Name: "data", MountPath: "/data", Size: "1Gi"}}
	j := &job{
		StepRequest: fleet.StepRequest{Cluster: w.cluster, Workload: *wl, Spec: *spec, Installation: w.installation},
		api:         client.API, opts: w.adapter.opts, now: w.adapter.now, later: &later,
	}
	b := &blueprint{cluster: w.cluster, workload: *wl, spec: *spec, secrets: map[string]string{"TOKEN": "x"}, installation: w.installation, secretRelease: "1", replicas: 1}

	// Theirs have the same shape and say nothing of whose they are.
	theirs := *b
	theirs.workload.ID = "somebody-else"
	ours := append(b.needs(), b.controller(), b.service(nil))
	for i, o := range append(theirs.needs(), theirs.controller(), theirs.service(nil)) {
		other := *j
		other.Workload.ID = "somebody-else"
		metadata := o.want["metadata"].(map[string]any)
		if o.Resource != live.Deployments { // whose selector names its owner
			delete(metadata, "labels")
			if spec, ok := o.want["spec"].(map[string]any); ok {
				delete(spec, "selector")
			}
		}
		if err := other.create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if err := later.Wait(); err != nil {
			t.Fatal(err)
		}
		before, err := j.look(t.Context(), o.Resource, o.name, "application/json")
		if err != nil {
			t.Fatal(err)
		}
		_, err = j.apply(t.Context(), ours[i], nil) // as if nothing had been there a moment ago
		var f *fleet.Failure
		if s := (story{err: err}); s.failure() != nil {
			f = s.failure()
		}
		if f == nil || f.Reason != fleet.ReasonConflict {
			t.Errorf("%s: %v", o, err)
		}
		after, err := j.look(t.Context(), o.Resource, o.name, "application/json")
		if err != nil {
			t.Fatal(err)
		}
		// The cluster itself writes to a Deployment and binds a claim.
		still := o.Resource != live.Deployments && o.Resource != live.Claims
		if before.Generation != after.Generation || before.Labels != after.Labels || still && before.ResourceVersion != after.ResourceVersion {
			t.Errorf("%s was changed", o)
		}
	}
}
