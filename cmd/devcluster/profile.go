package main

import "time"

// profile is how a provider's clusters differ where Portolan can see it.
type profile struct {
	// token: its kubeconfigs carry a bearer token, not a client certificate.
	token bool
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
		storageClass: "default",
		balancer:     balancer{delay: 1500 * time.Millisecond},
	},
	"gke": {
		token:        true,
		storageClass: "standard-rwo",
		balancer: balancer{delay: time.Second, classes: []string{
			"networking.gke.io/l4-rbs",
			"networking.gke.io/l4-regional-external",
			"networking.gke.io/l4-regional-internal",
		}},
	},
	"eks": {
		token:        true,
		storageClass: "gp3",
		balancer: balancer{hostname: true, delay: 1500 * time.Millisecond, classes: []string{
			"service.k8s.aws/nlb",
			"eks.amazonaws.com/nlb",
		}},
	},
}
