package views

import "portolan/views/ui"

// provider is what the cluster form knows about a kind of cluster: starting
// values only, which the person may change.
type provider struct {
	value, label string
	id           string // example
	exposure     string
	hint         string // an option that people of this provider often need
}

// The annotation and the classes are those that the providers document for
// their load balancers.
var providers = []provider{
	{"kubernetes", "Kubernetes", "my-cluster", "cluster-ip", ""},
	{"kind", "kind", "kind-local", "node-port", ""},
	{"k3s", "K3s", "k3s-local", "node-port", ""},
	{"aks", "AKS", "aks-eastus2", "load-balancer", `An internal address: annotation {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}`},
	{"gke", "GKE", "gke-us-central1", "load-balancer", "A load balancer with a regional backend service: class networking.gke.io/l4-rbs"},
	{"eks", "EKS", "eks-us-east-1", "load-balancer", "EKS Auto Mode: class eks.amazonaws.com/nlb"},
}

// providerLabel is a provider as people write it.
func providerLabel(value string) string {
	for _, p := range providers {
		if p.value == value {
			return p.label
		}
	}
	return value
}

var credentialModes = []ui.Choice{
	{Value: "mounted", Label: "Mounted file"},
	{Value: "encrypted", Label: "Stored encrypted"},
}

var exposureModes = []ui.Choice{
	{Value: "cluster-ip", Label: "cluster-ip"},
	{Value: "node-port", Label: "node-port"},
	{Value: "load-balancer", Label: "load-balancer"},
}
