package fleet

// Permission is one verb on one resource that Portolan needs in each of a
// cluster's namespaces.
type Permission struct {
	Group    string `json:"group,omitempty"` // API group; "" = core
	Resource string `json:"resource"`        // plural, with a sub-resource as pods/log
	Verb     string `json:"verb"`
	Optional bool   `json:"optional,omitempty"` // its absence only switches a feature off
	Feature  string `json:"-"`                  // what it is for, where no life of a workload needs it
}

// String names the permission as messages do: "create services",
// "patch deployments.apps".
func (p Permission) String() string {
	if p.Group == "" {
		return p.Verb + " " + p.Resource
	}
	return p.Verb + " " + p.Resource + "." + p.Group
}

// Permissions is the one table of what Portolan does in a namespace: the
// connection test asks for each row, and the published role grants them. Only
// what is asked of an API server stands here: what is watched is listed first,
// and an apply of what is not there yet needs create beside patch.
var Permissions = permissionTable()

func permissionTable() []Permission {
	var out []Permission
	add := func(optional bool, group, resource string, verbs ...string) {
		for _, verb := range verbs {
			out = append(out, Permission{Group: group, Resource: resource, Verb: verb, Optional: optional})
		}
	}
	add(false, "apps", "deployments", "get", "list", "watch", "create", "patch", "delete")
	add(false, "apps", "statefulsets", "get", "list", "watch", "create", "patch", "delete")
	add(false, "apps", "replicasets", "list")
	add(false, "", "services", "get", "list", "watch", "create", "patch", "delete") // watch: for a load balancer's address
	add(false, "", "configmaps", "get", "list", "create", "patch", "delete")
	add(false, "", "secrets", "get", "list", "create", "patch", "delete")
	add(false, "", "persistentvolumeclaims", "get", "list", "create", "patch", "delete")
	add(false, "", "pods", "get", "list", "watch")
	add(false, "", "pods/log", "get")
	add(false, "", "events", "list")
	add(false, "autoscaling", "horizontalpodautoscalers", "list")
	add(true, "", "namespaces", "get") // its UID tells one cluster from another
	feature := func(name, group, resource string, verbs ...string) {
		add(true, group, resource, verbs...)
		for i := len(out) - len(verbs); i < len(out); i++ {
			out[i].Feature = name
		}
	}
	feature("exec into pods", "", "pods/exec", "create")
	feature("CPU and memory use", "metrics.k8s.io", "pods", "get", "list")
	return out
}
