package main

import (
	"time"

	"k8s.io/client-go/tools/clientcmd/api"
)

// profile is how a provider's clusters differ where Portolan can see it.
type profile struct {
	// token: its kubeconfigs carry a bearer token, not a client certificate.
	token bool
	// plugin is the exec stanza that its own tool puts into kubeconfigs; nil if none.
	plugin func(cluster string) *api.ExecConfig
	// storageClass is its default StorageClass.
	storageClass string
	// balancer is how its load balancers come about.
	balancer balancer
}

// balancer is a provider's load-balancer controller.
type balancer struct {
	// hostname: the address is a host name, not an IP.
	hostname bool
	// delay is what an address takes to come.
	delay time.Duration
	// classes are the loadBalancerClass values it answers to, besides none.
	classes []string
}

// profiles are the providers, by the word Portolan has for them. The names of
// classes are those of the providers' documentation.
var profiles = map[string]profile{
	"k3s": {
		storageClass: "local-path",
		balancer:     balancer{delay: 200 * time.Millisecond},
	},
	"aks": {
		plugin: func(string) *api.ExecConfig {
			return execConfig("kubelogin", "get-token", "--login", "devicecode",
				"--server-id", "6dae42f8-4368-4678-94ff-3960e28e3630")
		},
		storageClass: "default",
		balancer:     balancer{delay: 1500 * time.Millisecond},
	},
	"gke": {
		token: true,
		plugin: func(string) *api.ExecConfig {
			plugin := execConfig("gke-gcloud-auth-plugin")
			plugin.ProvideClusterInfo = true
			return plugin
		},
		storageClass: "standard-rwo",
		balancer: balancer{delay: time.Second, classes: []string{
			"networking.gke.io/l4-rbs",
			"networking.gke.io/l4-regional-external",
			"networking.gke.io/l4-regional-internal",
		}},
	},
	"eks": {
		token: true,
		plugin: func(cluster string) *api.ExecConfig {
			return execConfig("aws", "--region", "eu-west-1", "eks", "get-token", "--cluster-name", cluster, "--output", "json")
		},
		storageClass: "gp3",
		balancer: balancer{hostname: true, delay: 1500 * time.Millisecond, classes: []string{
			"service.k8s.aws/nlb",
			"eks.amazonaws.com/nlb",
		}},
	},
}

func execConfig(command string, args ...string) *api.ExecConfig {
	return &api.ExecConfig{
		APIVersion:      "client.authentication.k8s.io/v1beta1",
		Command:         command,
		Args:            args,
		InteractiveMode: api.IfAvailableExecInteractiveMode,
	}
}
