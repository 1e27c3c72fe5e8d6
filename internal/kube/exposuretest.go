package kube

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"portolan/internal/fleet"
)

// exposure lets the API server judge a Service as deploy would make it,
// without keeping it.
func (r *run) exposure(ctx context.Context) outcome {
	exposure := r.req.Cluster.Exposure
	for _, cidr := range exposure.SourceRanges {
		if _, err := netip.ParsePrefix(strings.TrimSpace(cidr)); err != nil {
			return failed("Write them as 10.0.0.0/8, separated by commas.", "The source range %s is no network in CIDR form.", quote(cidr))
		}
	}
	if exposure.Mode == fleet.ExposureNodePort {
		for _, port := range []int32{exposure.RuntimeNodePort, exposure.GatewayNodePort} {
			// A dry run allocates nothing, so the API server does not say this.
			if port != 0 && (port < 30000 || port > 32767) {
				return warned("Choose ports from 30000–32767, or make sure that the API server's --service-node-port-range has these.",
					"The fixed node port %d is outside the usual range, 30000–32767.", port)
			}
		}
	}
	var note string
	if ns, ok := r.presentNamespace(); ok {
		if tried := r.tryService(ctx, ns); tried.state != fleet.CheckOK {
			return tried
		} else if tried.message != "" {
			note = " " + tried.message
		}
	} else {
		note = " It could not be tried, as no namespace is there yet."
	}
	switch exposure.Mode {
	case fleet.ExposureNodePort:
		if exposure.RuntimeHost != "" {
			return passed("Workloads get node ports; links lead to %s.%s", exposure.RuntimeHost, note)
		}
		if address := r.nodeAddress(ctx); address != "" {
			return passed("Workloads get node ports on nodes such as %s; without a runtime host their pages show the port and no link.%s", address, note)
		}
		return warned("Set the runtime host to a name or address by which the nodes are reached.",
			"Workloads get node ports, but there is no runtime host and the nodes may not be seen: there will be no links to workloads.%s", note)
	case fleet.ExposureLoadBalancer:
		class := "the cluster's own load balancers"
		if exposure.LoadBalancerClass != "" {
			class = "load balancers of the class " + quote(exposure.LoadBalancerClass)
		}
		return passed("Workloads get %s.%s", class, note)
	default:
		return passed("Workloads are reached inside the cluster only.%s", note)
	}
}

func (r *run) presentNamespace() (string, bool) {
	for _, ns := range r.req.Cluster.Namespaces() {
		if !r.absent[ns] {
			return ns, true
		}
	}
	return "", false
}

// tryService dry-runs the creation of a Service. Its ok outcome carries a note
// or nothing.
func (r *run) tryService(ctx context.Context, namespace string) outcome {
	a, err := r.ask(ctx, http.MethodPost, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/services?dryRun=All", r.sampleService(), nil)
	if err != nil {
		if ctx.Err() != nil {
			return r.silent(err)
		}
		return passed("It could not be tried: the API server did not answer.")
	}
	message := strings.TrimSuffix(plain(a.status.Message, 240), ".")
	switch {
	case a.ok(), a.is(http.StatusConflict):
		return passed("")
	case a.is(http.StatusUnprocessableEntity) && strings.Contains(message, "already allocated"):
		return passed("A fixed node port is taken already; a workload that finds it taken gets a free one.")
	case a.is(http.StatusUnprocessableEntity), a.is(http.StatusBadRequest) && !strings.Contains(message, "dry run"):
		return failed("Correct the exposure settings of the cluster.", "The API server does not accept a Service with these settings: %s.", message)
	case a.is(http.StatusForbidden):
		return warned("Check quotas and admission policies in the namespace "+namespace+".", "A Service such as deploy makes would be refused now: %s.", message)
	default:
		return passed("It could not be tried (%d).", a.code)
	}
}

func (r *run) sampleService() core.Service {
	e := r.req.Cluster.Exposure
	labels := map[string]string{
		"app.kubernetes.io/name": probeName, "app.kubernetes.io/instance": probeName, "app.kubernetes.io/managed-by": "portolan",
	}
	for k, v := range r.req.Cluster.Labels {
		labels[k] = v
	}
	svc := core.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: probeName, Labels: labels},
		Spec: core.ServiceSpec{
			Type:     core.ServiceTypeClusterIP,
			Selector: map[string]string{"app.kubernetes.io/instance": probeName},
			Ports: []core.ServicePort{
				{Name: "runtime", Port: 8080, TargetPort: intstr.FromInt32(8080)},
				{Name: "gateway", Port: 8081, TargetPort: intstr.FromInt32(8081)},
			},
		},
	}
	switch e.Mode {
	case fleet.ExposureNodePort:
		svc.Spec.Type = core.ServiceTypeNodePort
		svc.Spec.Ports[0].NodePort, svc.Spec.Ports[1].NodePort = e.RuntimeNodePort, e.GatewayNodePort
	case fleet.ExposureLoadBalancer:
		svc.Spec.Type = core.ServiceTypeLoadBalancer
		svc.Annotations = e.Annotations
		for _, cidr := range e.SourceRanges {
			svc.Spec.LoadBalancerSourceRanges = append(svc.Spec.LoadBalancerSourceRanges, strings.TrimSpace(cidr))
		}
		if e.LoadBalancerClass != "" {
			svc.Spec.LoadBalancerClass = &e.LoadBalancerClass
		}
	}
	return svc
}

// nodeAddress returns an address of some node, or "" where nodes may not be
// seen.
func (r *run) nodeAddress(ctx context.Context) string {
	var nodes struct {
		Items []struct {
			Status struct {
				Addresses []core.NodeAddress `json:"addresses"`
			} `json:"status"`
		} `json:"items"`
	}
	a, err := r.ask(ctx, http.MethodGet, "/api/v1/nodes?limit=1", nil, &nodes)
	if err != nil || !a.ok() || len(nodes.Items) == 0 {
		return ""
	}
	found := map[core.NodeAddressType]string{}
	for _, address := range nodes.Items[0].Status.Addresses {
		found[address.Type] = plain(address.Address, 100)
	}
	for _, kind := range []core.NodeAddressType{core.NodeExternalIP, core.NodeInternalIP, core.NodeHostName} {
		if found[kind] != "" {
			return found[kind]
		}
	}
	return ""
}
