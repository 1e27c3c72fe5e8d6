package fleet

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// ClusterForm is a cluster as typed: the text of each form field, by the
// field's name. Absent counts as empty.
type ClusterForm map[string]string

// NamespaceField names the form field of a runtime's own namespace.
func NamespaceField(runtimeID string) string { return runtimeID + "_namespace" }

// Parse returns the cluster that the form describes, without credential hash
// and version, or an Error whose Problems name the fields.
func (f ClusterForm) Parse() (Cluster, error) {
	r := reader{Problems{}}
	c := Cluster{
		ID:          f["id"],
		Label:       r.required("label", f["label"], 80),
		ClusterName: r.line("cluster_name", f["cluster_name"], 253),
		Context:     r.line("context", f["context"], 253),
		Namespace:   r.label63("namespace", f["namespace"]),
		Region:      r.line("region", f["region"], 80),
		Enabled:     f["enabled"] != "",
		Allows:      f.Allows(),
	}
	if !ValidClusterID(c.ID) {
		switch {
		case c.ID == "":
			r.problems.Add("id", "must not be empty")
		case contains(reservedClusterIDs, c.ID):
			r.problems.Add("id", "%s is a reserved word; choose another", clip(c.ID))
		default:
			r.problems.Add("id", "must be 2 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit")
		}
	}
	if c.Namespace == "" {
		r.problems.Add("namespace", "must not be empty")
	}
	c.Provider = Provider(f["provider"])
	if !slices.Contains(Providers, c.Provider) {
		r.problems.Add("provider", "choose one of the providers")
	}
	switch c.CredentialMode = CredentialMode(f["credential_mode"]); c.CredentialMode {
	case CredentialMounted:
		c.KubeconfigPath = r.required("kubeconfig_path", f["kubeconfig_path"], 1024)
	case CredentialEncrypted:
	default:
		r.problems.Add("credential_mode", "choose mounted or encrypted")
	}
	for _, runtime := range Runtimes() {
		if name := NamespaceField(runtime.ID); runtime.OwnNamespace {
			if ns := r.label63(name, f[name]); ns != "" {
				if c.RuntimeNamespaces == nil {
					c.RuntimeNamespaces = map[string]string{}
				}
				c.RuntimeNamespaces[runtime.ID] = ns
			}
		}
	}
	c.Exposure = f.exposure(r)
	c.ImagePullSecrets = r.names("image_pull_secrets", f["image_pull_secrets"])
	c.Labels = r.labels("labels", f["labels"])
	return c, r.problems.Err()
}

// Allows returns what the form allows its kubeconfig to say.
func (f ClusterForm) Allows() Allowances {
	return Allowances{TLSSkip: f["allow_tls_skip"] != "", Proxy: f["allow_proxy"] != ""}
}

// exposure reads the fields of the chosen mode and passes over the others:
// what is not visible must not be able to be wrong.
func (f ClusterForm) exposure(r reader) Exposure {
	e := Exposure{Mode: ExposureMode(f["exposure_mode"])}
	switch e.Mode {
	case ExposureClusterIP:
	case ExposureNodePort:
		e.RuntimeHost = r.line("runtime_host", f["runtime_host"], 253)
		if e.RuntimeHost != "" && !validHost(e.RuntimeHost) {
			r.problems.Add("runtime_host", "must be a host name or an IP address, without scheme or port")
		}
		e.RuntimeNodePort = int32(r.number("runtime_node_port", f["runtime_node_port"], 1, 65535))
		e.GatewayNodePort = int32(r.number("gateway_node_port", f["gateway_node_port"], 1, 65535))
		if e.RuntimeNodePort != 0 && e.RuntimeNodePort == e.GatewayNodePort {
			r.problems.Add("gateway_node_port", "must differ from the runtime's node port")
		}
	case ExposureLoadBalancer:
		e.Annotations = r.notOurs("service_annotations", r.annotations("service_annotations", f["service_annotations"]))
		e.SourceRanges = r.cidrs("source_ranges", f["source_ranges"])
		e.LoadBalancerClass = r.line("load_balancer_class", f["load_balancer_class"], 253)
		if e.LoadBalancerClass != "" && len(validation.IsQualifiedName(e.LoadBalancerClass)) > 0 {
			r.problems.Add("load_balancer_class", "must be a name such as internal-vip or example.com/internal-vip")
		}
		e.LoadBalancerTimeout = r.duration("load_balancer_timeout", f["load_balancer_timeout"], 10*time.Second, 24*time.Hour)
		if e.LoadBalancerTimeout == 0 {
			e.LoadBalancerTimeout = DefaultLoadBalancerTimeout
		}
	default:
		r.problems.Add("exposure_mode", "choose how Services are reached")
	}
	return e
}

func validHost(s string) bool {
	return len(validation.IsDNS1123Subdomain(strings.ToLower(s))) == 0 || len(validation.IsValidIP(nil, s)) == 0
}
