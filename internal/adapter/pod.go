package adapter

import (
	"cmp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

const (
	bootstrapKey    = "bootstrap.sh"
	bootstrapPath   = "/portolan/bootstrap"
	bootstrapVolume = "portolan-bootstrap"
	filesVolume     = "portolan-files"
)

func fileKey(i int) string            { return "file-" + strconv.Itoa(i+1) }
func volumeName(volume string) string { return "volume-" + volume }

// pod is the pod template. It gets the least that runs: no service-account
// token, no privilege, the runtime's seccomp profile, no capability that the
// spec does not name.
func (b *blueprint) pod() *coreapply.PodTemplateSpecApplyConfiguration {
	spec := coreapply.PodSpec().
		WithAutomountServiceAccountToken(false).
		WithEnableServiceLinks(false).
		WithSecurityContext(coreapply.PodSecurityContext().
			WithSeccompProfile(coreapply.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithContainers(b.mainContainer())
	for _, c := range b.spec.Sidecars {
		spec.WithContainers(b.extraContainer(c))
	}
	for _, c := range b.spec.InitContainers {
		spec.WithInitContainers(b.extraContainer(c))
	}
	var pull []string
	for _, name := range slices.Concat(b.cluster.ImagePullSecrets, b.spec.PullSecrets) {
		if name != "" && !slices.Contains(pull, name) {
			pull = append(pull, name)
			spec.WithImagePullSecrets(coreapply.LocalObjectReference().WithName(name))
		}
	}
	if len(b.spec.NodeSelector) > 0 {
		spec.WithNodeSelector(b.spec.NodeSelector)
	}
	if b.spec.Bootstrap != "" {
		spec.WithVolumes(coreapply.Volume().WithName(bootstrapVolume).
			WithConfigMap(coreapply.ConfigMapVolumeSource().WithName(b.bootstrap()).WithDefaultMode(0o755)))
	}
	if len(b.spec.Files) > 0 {
		spec.WithVolumes(coreapply.Volume().WithName(filesVolume).
			WithConfigMap(coreapply.ConfigMapVolumeSource().WithName(b.files())))
	}
	for _, v := range b.spec.Volumes {
		spec.WithVolumes(coreapply.Volume().WithName(volumeName(v.Name)).
			WithPersistentVolumeClaim(coreapply.PersistentVolumeClaimVolumeSource().WithClaimName(claim(b.name(), v.Name))))
	}

	annotations := map[string]string{}
	if b.spec.Bootstrap != "" || len(b.spec.Files) > 0 {
		annotations[live.AnnotationConfigChecksum] = b.checksum()
	}
	if len(b.spec.SecretEnv) > 0 {
		annotations[live.AnnotationSecretRelease] = b.secretRelease
	}
	return coreapply.PodTemplateSpec().WithLabels(b.labels()).WithAnnotations(annotations).WithSpec(spec)
}

func (b *blueprint) mainContainer() *coreapply.ContainerApplyConfiguration {
	s := &b.spec
	c := coreapply.Container().WithName(b.name()).WithImage(s.Image).
		WithCommand(s.Command...).WithArgs(s.Args...).
		WithEnv(environment(s.Env)...).
		WithSecurityContext(confined(s.Capabilities)).
		WithResources(resources(s.Resources))
	for _, name := range s.SecretEnv {
		c.WithEnv(coreapply.EnvVar().WithName(name).WithValueFrom(coreapply.EnvVarSource().
			WithSecretKeyRef(coreapply.SecretKeySelector().WithName(b.secret()).WithKey(name))))
	}
	for _, p := range s.Ports {
		c.WithPorts(coreapply.ContainerPort().WithName(p.Name).WithContainerPort(p.Number).WithProtocol(corev1.ProtocolTCP))
	}
	if s.Bootstrap != "" {
		c.WithVolumeMounts(coreapply.VolumeMount().WithName(bootstrapVolume).WithMountPath(bootstrapPath).WithReadOnly(true))
	}
	for i, f := range s.Files {
		c.WithVolumeMounts(coreapply.VolumeMount().WithName(filesVolume).WithMountPath(f.Path).WithSubPath(fileKey(i)).WithReadOnly(true))
	}
	for _, v := range s.Volumes {
		c.WithVolumeMounts(coreapply.VolumeMount().WithName(volumeName(v.Name)).WithMountPath(v.MountPath))
	}
	if s.Health != nil {
		// Where neither says otherwise, a start may take five minutes but is
		// noticed soon.
		startup := probe(s.Health).WithPeriodSeconds(cmp.Or(s.Health.PeriodSeconds, 2))
		c.WithStartupProbe(startup.WithFailureThreshold(cmp.Or(s.Health.FailureThreshold, 300 / *startup.PeriodSeconds)))
		c.WithReadinessProbe(probe(s.Health).WithPeriodSeconds(cmp.Or(s.Health.PeriodSeconds, 5)).WithFailureThreshold(3))
	}
	return c
}

func (b *blueprint) extraContainer(x fleet.Container) *coreapply.ContainerApplyConfiguration {
	return coreapply.Container().WithName(x.Name).WithImage(x.Image).
		WithCommand(x.Command...).WithArgs(x.Args...).WithEnv(environment(x.Env)...).
		WithSecurityContext(confined(nil))
}

// environment keeps the last value of each name: a list of variables in which
// one stands twice cannot be applied.
func environment(vars []fleet.EnvVar) []*coreapply.EnvVarApplyConfiguration {
	var out []*coreapply.EnvVarApplyConfiguration
	for i, v := range vars {
		if !slices.ContainsFunc(vars[i+1:], func(later fleet.EnvVar) bool { return later.Name == v.Name }) {
			out = append(out, coreapply.EnvVar().WithName(v.Name).WithValue(v.Value))
		}
	}
	return out
}

func confined(capabilities []string) *coreapply.SecurityContextApplyConfiguration {
	kept := coreapply.Capabilities().WithDrop("ALL")
	for _, c := range capabilities {
		kept.WithAdd(corev1.Capability(c))
	}
	return coreapply.SecurityContext().WithAllowPrivilegeEscalation(false).WithPrivileged(false).WithCapabilities(kept)
}

// resources asks for exactly what the container may use.
func resources(r fleet.Resources) *coreapply.ResourceRequirementsApplyConfiguration {
	list := corev1.ResourceList{}
	for name, text := range map[corev1.ResourceName]string{
		corev1.ResourceCPU: r.CPU, corev1.ResourceMemory: r.Memory,
		corev1.ResourceEphemeralStorage: r.EphemeralStorage, "nvidia.com/gpu": r.GPU,
	} {
		if text != "" {
			list[name] = quantity(text)
		}
	}
	out := coreapply.ResourceRequirements()
	if len(list) > 0 {
		out.WithRequests(list).WithLimits(list)
	}
	return out
}

func probe(h *fleet.HealthCheck) *coreapply.ProbeApplyConfiguration {
	p := coreapply.Probe()
	port := intstr.Parse(h.Port)
	switch h.Type {
	case "http":
		path := h.Path
		if path == "" {
			path = "/"
		}
		return p.WithHTTPGet(coreapply.HTTPGetAction().WithPath(path).WithPort(port)).WithTimeoutSeconds(5)
	case "exec":
		return p.WithExec(coreapply.ExecAction().WithCommand(h.Command...)).WithTimeoutSeconds(10)
	default:
		return p.WithTCPSocket(coreapply.TCPSocketAction().WithPort(port)).WithTimeoutSeconds(5)
	}
}
