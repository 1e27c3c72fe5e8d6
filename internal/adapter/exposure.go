package adapter

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"

	"portolan/internal/fleet"
	"portolan/internal/kube/live"
)

// The names of the ports that take a cluster's fixed node ports.
const (
	portRuntime = "runtime"
	portGateway = "gateway"
)

// fixedNodePorts returns the node ports that the cluster asks for, by the name
// of the port.
func (b *blueprint) fixedNodePorts() map[string]int32 {
	out := map[string]int32{}
	e := b.cluster.Exposure
	if e.Mode != fleet.ExposureNodePort {
		return out
	}
	for name, number := range map[string]int32{portRuntime: e.RuntimeNodePort, portGateway: e.GatewayNodePort} {
		if number != 0 {
			out[name] = number
		}
	}
	return out
}

// service returns the Service in the cluster's present exposure, with the
// fixed node ports given.
func (b *blueprint) service(fixed map[string]int32) object {
	e := b.cluster.Exposure
	spec := coreapply.ServiceSpec().WithSelector(b.selector()).WithType(corev1.ServiceTypeClusterIP)
	annotations := map[string]string{}
	maps.Copy(annotations, b.spec.ServiceAnnotations)
	switch e.Mode {
	case fleet.ExposureNodePort:
		spec.WithType(corev1.ServiceTypeNodePort)
	case fleet.ExposureLoadBalancer:
		spec.WithType(corev1.ServiceTypeLoadBalancer).WithLoadBalancerSourceRanges(e.SourceRanges...)
		if e.LoadBalancerClass != "" {
			spec.WithLoadBalancerClass(e.LoadBalancerClass)
		}
		maps.Copy(annotations, e.Annotations)
	}
	maps.Copy(annotations, b.release()) // what Portolan says of itself stands
	for _, p := range b.spec.Ports {
		port := servicePort(p)
		if number := fixed[p.Name]; number != 0 && e.Mode == fleet.ExposureNodePort {
			port.WithNodePort(number)
		}
		spec.WithPorts(port)
	}
	return b.object(live.Services, b.name(), coreapply.Service(b.name(), b.workload.Namespace).
		WithLabels(b.labels()).WithAnnotations(annotations).WithSpec(spec))
}

// inner returns the Service as it would be without a way in from outside: the
// state through which a load balancer's class can be changed.
func (b *blueprint) inner() object {
	inner := *b
	inner.cluster.Exposure = fleet.Exposure{Mode: fleet.ExposureClusterIP}
	return inner.service(nil)
}

// headlessService gives the pods of a StatefulSet their names.
func (b *blueprint) headlessService() object {
	spec := coreapply.ServiceSpec().WithSelector(b.selector()).WithType(corev1.ServiceTypeClusterIP).
		WithClusterIP(corev1.ClusterIPNone).WithPublishNotReadyAddresses(true)
	for _, p := range b.spec.Ports {
		spec.WithPorts(servicePort(p))
	}
	return b.object(live.Services, b.headless(), coreapply.Service(b.headless(), b.workload.Namespace).
		WithLabels(b.labels()).WithAnnotations(b.release()).WithSpec(spec))
}

func servicePort(p fleet.Port) *coreapply.ServicePortApplyConfiguration {
	return coreapply.ServicePort().WithName(p.Name).WithPort(p.Number).WithProtocol(corev1.ProtocolTCP)
}
