package adapter

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// blueprint is all that a workload's objects are made from. Building them is
// pure: the same blueprint gives the same objects.
type blueprint struct {
	cluster      fleet.Cluster
	workload     fleet.Workload
	spec         fleet.Spec
	secrets      map[string]string
	installation string
	// secretRelease is the release that last changed the secret values: it
	// rolls the pods when they change, and tells nothing about them.
	secretRelease string
	replicas      int32
	keptSizes     map[string]resource.Quantity // of claims that are there and cannot be made as small as wanted
}

func (j *job) blueprint() *blueprint {
	return &blueprint{
		cluster: j.Cluster, workload: j.Workload, spec: j.Spec, secrets: j.Secrets, installation: j.Installation,
		keptSizes: map[string]resource.Quantity{},
	}
}

func (b *blueprint) name() string      { return b.workload.Name }
func (b *blueprint) bootstrap() string { return b.name() + "-bootstrap" }
func (b *blueprint) files() string     { return b.name() + "-files" }
func (b *blueprint) secret() string    { return b.name() + "-env" }
func (b *blueprint) headless() string  { return b.name() + "-headless" }
func (b *blueprint) stateful() bool    { return b.workload.Kind == fleet.KindStatefulSet }

// labels returns the labels of every object; those of the cluster give way to
// Portolan's own.
func (b *blueprint) labels() map[string]string {
	out := maps.Clone(b.cluster.Labels)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, map[string]string{
		live.LabelName:         b.workload.Name,
		live.LabelInstance:     b.workload.Name,
		live.LabelManagedBy:    live.Manager,
		live.LabelWorkload:     b.workload.ID,
		live.LabelTarget:       b.workload.ClusterID,
		live.LabelRuntime:      b.workload.Runtime,
		live.LabelInstallation: b.installation,
	})
	return out
}

// selector is what the pods are found by. It names the workload's id, so that
// it can never fit another's pods.
func (b *blueprint) selector() map[string]string {
	return map[string]string{live.LabelWorkload: b.workload.ID, live.LabelInstallation: b.installation}
}

func (b *blueprint) release() map[string]string {
	return map[string]string{live.AnnotationRelease: strconv.Itoa(b.workload.Release)}
}

// needs returns the objects that pods cannot start without.
func (b *blueprint) needs() []object { return append(b.settings(), b.claims()...) }

// settings returns the ConfigMaps and the Secret.
func (b *blueprint) settings() []object {
	var out []object
	if b.spec.Bootstrap != "" {
		out = append(out, b.configMap(b.bootstrap(), map[string]string{bootstrapKey: b.spec.Bootstrap}))
	}
	if len(b.spec.Files) > 0 {
		data := map[string]string{}
		for i, f := range b.spec.Files {
			data[fileKey(i)] = f.Content
		}
		out = append(out, b.configMap(b.files(), data))
	}
	if len(b.spec.SecretEnv) > 0 {
		annotations := b.release()
		annotations[live.AnnotationSecretRelease] = b.secretRelease
		out = append(out, b.object(live.Secrets, b.secret(), coreapply.Secret(b.secret(), b.workload.Namespace).
			WithLabels(b.labels()).WithAnnotations(annotations).
			WithType(corev1.SecretTypeOpaque).WithData(b.secretData())))
	}
	return out
}

func (b *blueprint) configMap(name string, data map[string]string) object {
	return b.object(live.ConfigMaps, name, coreapply.ConfigMap(name, b.workload.Namespace).
		WithLabels(b.labels()).WithAnnotations(b.release()).WithData(data))
}

func (b *blueprint) secretData() map[string][]byte {
	out := map[string][]byte{}
	for _, name := range b.spec.SecretEnv {
		out[name] = []byte(b.secrets[name])
	}
	return out
}

// controller returns the Deployment or StatefulSet.
func (b *blueprint) controller() object {
	selector := metaapply.LabelSelector().WithMatchLabels(b.selector())
	if b.stateful() {
		return b.object(live.StatefulSets, b.name(), appsapply.StatefulSet(b.name(), b.workload.Namespace).
			WithLabels(b.labels()).WithAnnotations(b.release()).
			WithSpec(appsapply.StatefulSetSpec().
				WithReplicas(b.replicas).WithServiceName(b.headless()).WithSelector(selector).
				WithPodManagementPolicy("Parallel").WithMinReadySeconds(b.minReady()).WithTemplate(b.pod())))
	}
	// What rolls is written out: a field that was only defaulted belongs to
	// nobody, and would forbid a later change to Recreate.
	strategy := appsapply.DeploymentStrategy().WithType("RollingUpdate").WithRollingUpdate(
		appsapply.RollingUpdateDeployment().WithMaxUnavailable(intstr.FromInt32(0)).WithMaxSurge(intstr.FromString("25%")))
	if len(b.spec.Volumes) > 0 {
		strategy = appsapply.DeploymentStrategy().WithType("Recreate") // two pods cannot hold a ReadWriteOnce volume
	}
	return b.object(live.Deployments, b.name(), appsapply.Deployment(b.name(), b.workload.Namespace).
		WithLabels(b.labels()).WithAnnotations(b.release()).
		WithSpec(appsapply.DeploymentSpec().
			WithReplicas(b.replicas).WithSelector(selector).WithStrategy(strategy).
			WithProgressDeadlineSeconds(600).WithMinReadySeconds(b.minReady()).WithTemplate(b.pod())))
}

// minReady is how many seconds a pod must stay ready to count as available.
// Without a health check a container is ready the moment it starts, so one
// that ends at once would pass for running.
func (b *blueprint) minReady() int32 {
	if b.spec.Health == nil {
		return 3
	}
	return 0
}

// checksum changes when a file or the bootstrap script does.
func (b *blueprint) checksum() string {
	sum := sha256.New()
	write := func(s string) { fmt.Fprintf(sum, "%d:%s", len(s), s) }
	write(b.spec.Bootstrap)
	for _, f := range b.spec.Files {
		write(f.Path)
		write(f.Content)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

// object wraps an apply configuration. The configurations hold only what JSON
// can say, so the conversion cannot fail.
func (b *blueprint) object(r live.Resource, name string, config any) object {
	want, err := runtime.DefaultUnstructuredConverter.ToUnstructured(config)
	if err != nil {
		panic(fmt.Sprintf("adapter: %s/%s: %v", r.Kind, name, err))
	}
	return object{Resource: r, name: name, want: want}
}

// quantity parses what validation has let through; what it cannot read it
// leaves for the API server to refuse.
func quantity(s string) resource.Quantity {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return resource.Quantity{}
	}
	return q
}

// names lists every name that the workload's objects have or may have had.
func (b *blueprint) names() map[live.Resource][]string {
	out := map[live.Resource][]string{
		live.Deployments:  {b.name()},
		live.StatefulSets: {b.name()},
		live.Services:     {b.name(), b.headless()},
		live.ConfigMaps:   {b.bootstrap(), b.files()},
		live.Secrets:      {b.secret()},
	}
	for _, v := range b.spec.Volumes {
		out[live.Claims] = append(out[live.Claims], claim(b.name(), v.Name))
	}
	slices.Sort(out[live.Claims])
	return out
}
