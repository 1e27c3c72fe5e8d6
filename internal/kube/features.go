package kube

import (
	"context"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The optional stages never fail a test: what they find missing switches a
// feature off, with their message as the reason.

// metrics asks for the metrics API, from which CPU and memory come.
func (r *run) metrics(ctx context.Context) outcome {
	a, err := r.ask(ctx, http.MethodGet, "/apis/metrics.k8s.io/v1beta1", nil, nil)
	switch {
	case err != nil || a.code >= 500:
		return warned("Look into the log of the metrics server.", "The metrics API does not answer, so no CPU and memory use is shown.")
	case a.code == http.StatusNotFound:
		return warned("Install metrics-server.", "The cluster has no metrics API, so no CPU and memory use is shown.")
	case !a.ok():
		return warned("Apply the manifest at "+r.manifest()+".", "%s may not ask for metrics, so no CPU and memory use is shown.", capital(r.who()))
	}
	for _, verb := range []string{"get", "list"} {
		if ok, missing := r.may("metrics.k8s.io", "pods", verb); !ok {
			return warned("Apply the manifest at "+r.manifest()+".", "%s may not %s the metrics of pods in %s, so no CPU and memory use is shown.", capital(r.who()), verb, strings.Join(missing, ", "))
		}
	}
	return passed("The metrics API answers.")
}

// exec looks at the right to exec into pods.
func (r *run) exec(context.Context) outcome {
	if ok, missing := r.may("", "pods/exec", "create"); !ok {
		return warned("Apply the manifest at "+r.manifest()+".", "%s may not exec into pods in %s.", capital(r.who()), strings.Join(missing, ", "))
	}
	return passed("%s may exec into pods.", capital(r.who()))
}

// storage looks for the class that volumes get where none is named.
func (r *run) storage(ctx context.Context) outcome {
	classes, a, err := r.names(ctx, "/apis/storage.k8s.io/v1/storageclasses")
	switch {
	case a.is(http.StatusForbidden):
		return warned("Name a storage class with each volume, or allow the identity to list them.", "The identity may not see the storage classes, so none is offered.")
	case err != nil || !a.ok():
		return warned("", "The storage classes could not be read.")
	case len(classes.Items) == 0:
		return warned("Install a storage provisioner.", "The cluster has no storage class, so volumes will wait until somebody makes one.")
	}
	var names []string
	for _, class := range classes.Items {
		if class.Metadata.Annotations.DefaultClass == "true" {
			return passed("Volumes get the class %s where none is named.", plain(class.Metadata.Name, 200))
		}
		names = append(names, class.Metadata.Name)
	}
	return warned("Name one with each volume, or mark one as the default.", "No storage class is the default; there are: %s.", plain(strings.Join(names, ", "), 200))
}

// policyEngines are the DaemonSets by which engines that enforce network
// policies are recognised, from their own manifests.
var policyEngines = map[string]string{
	"calico-node": "Calico", "canal": "Canal", "cilium": "Cilium", "anetd": "GKE Dataplane V2", "antrea-agent": "Antrea",
	"kube-router": "kube-router", "azure-npm": "Azure network policy manager", "kindnet": "kindnet", "kube-network-policies": "kube-network-policies",
}

// network looks for something that enforces network policies: the API takes
// them whether or not anything does.
func (r *run) network(ctx context.Context) outcome {
	if strings.Contains(r.test.ServerVersion, "+k3s") || strings.Contains(r.test.ServerVersion, "+rke2") {
		return passed("k3s and RKE2 enforce network policies themselves.")
	}
	const remedy = "Where policies matter, make sure of it yourself: the API accepts them in any case."
	sets, a, err := r.names(ctx, "/apis/apps/v1/namespaces/"+metav1.NamespaceSystem+"/daemonsets")
	if err != nil || !a.ok() {
		return warned(remedy, "The identity may not see what runs in %s, so it is unknown whether network policies are enforced.", metav1.NamespaceSystem)
	}
	for _, set := range sets.Items {
		if engine, ok := policyEngines[set.Metadata.Name]; ok {
			return passed("%s enforces network policies.", engine)
		}
	}
	return warned(remedy, "Nothing that enforces network policies was recognised.")
}
