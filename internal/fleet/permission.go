package fleet

// Permission is one verb on one resource that Portolan needs in each of a
// cluster's namespaces.
type Permission struct {
	Group    string `json:"group,omitempty"` // API group; "" = core
	Resource string `json:"resource"`        // plural, with a sub-resource as pods/log
	Verb     string `json:"verb"`
	Optional bool   `json:"optional,omitempty"` // its absence only switches a feature off
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
// connection test asks for each row, and the published role grants them.
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
	add(false, "apps", "replicasets", "get", "list")
	add(false, "", "services", "get", "list", "watch", "create", "patch", "delete")
	add(false, "", "configmaps", "get", "list", "create", "patch", "delete")
	add(false, "", "secrets", "get", "list", "create", "patch", "delete")
	add(false, "", "persistentvolumeclaims", "get", "list", "create", "patch", "delete")
	add(false, "", "pods", "get", "list", "watch")
	add(false, "", "pods/log", "get")
	add(false, "", "events", "get", "list")
	add(false, "autoscaling", "horizontalpodautoscalers", "get", "list")
	add(true, "", "namespaces", "get") // its UID tells one cluster from another
	add(true, "", "pods/exec", "create")
	add(true, "metrics.k8s.io", "pods", "get", "list")
	return out
}
