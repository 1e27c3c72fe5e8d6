package registry

import (
	"encoding/json"
	"strconv"
	"strings"

	"portolan/internal/fleet"
)

// FormOf writes a cluster as the text of its form's fields, so that parsing it
// again gives the same cluster. It never holds the kubeconfig.
func FormOf(c fleet.Cluster) fleet.ClusterForm {
	e := c.Exposure
	form := fleet.ClusterForm{
		"id": c.ID, "label": c.Label, "provider": string(c.Provider), "cluster_name": c.ClusterName,
		"credential_mode": string(c.CredentialMode), "kubeconfig_path": c.KubeconfigPath, "context": c.Context,
		"namespace": c.Namespace, "exposure_mode": string(e.Mode), "runtime_host": e.RuntimeHost,
		"runtime_node_port": port(e.RuntimeNodePort), "gateway_node_port": port(e.GatewayNodePort),
		"service_annotations": object(e.Annotations), "source_ranges": strings.Join(e.SourceRanges, ", "),
		"load_balancer_class": e.LoadBalancerClass, "load_balancer_timeout": "",
		"image_pull_secrets": strings.Join(c.ImagePullSecrets, ", "), "labels": object(c.Labels),
		"cloud_credential": "ambient", "aws_access_key_id": "", "azure_client_id": "", "azure_tenant_id": "",
		"allow_tls_skip": tick(c.Allows.TLSSkip), "allow_proxy": tick(c.Allows.Proxy),
		"region": c.Region, "enabled": tick(c.Enabled), "version": strconv.FormatInt(c.Version, 10),
	}
	if c.Cloud.Sealed() {
		form["cloud_credential"] = "sealed"
	}
	switch c.Cloud.Cloud {
	case fleet.CloudAWS:
		form["aws_access_key_id"] = c.Cloud.ID
	case fleet.CloudAzure:
		form["azure_client_id"], form["azure_tenant_id"] = c.Cloud.ID, c.Cloud.Tenant
	}
	if e.LoadBalancerTimeout > 0 {
		form["load_balancer_timeout"] = e.LoadBalancerTimeout.String()
	}
	for _, runtime := range fleet.Runtimes() {
		if runtime.OwnNamespace {
			form[fleet.NamespaceField(runtime.ID)] = c.RuntimeNamespaces[runtime.ID]
		}
	}
	return form
}

// tick is what a form sends for a box.
func tick(on bool) string {
	if on {
		return "true"
	}
	return ""
}

func port(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func object(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	text, err := json.Marshal(m)
	if err != nil {
		return "" // a map of strings: cannot fail
	}
	return string(text)
}
