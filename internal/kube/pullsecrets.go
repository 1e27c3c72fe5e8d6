package kube

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	core "k8s.io/api/core/v1"
)

// pullSecrets looks whether the cluster's pull secrets are in each namespace. It
// asks for their names and types alone: what is in them is none of its business.
func (r *run) pullSecrets(ctx context.Context) outcome {
	names := r.req.Cluster.ImagePullSecrets
	if len(names) == 0 {
		return skipped("The cluster has no image pull secrets.")
	}
	var missing, wrong, later []string
	for _, ns := range r.req.Cluster.Namespaces() {
		if r.absent[ns] {
			later = append(later, ns)
			continue
		}
		for _, name := range names {
			at := name + " in " + ns
			there, a, err := r.secretLike(ctx, ns, "metadata.name="+name)
			if err != nil || !a.ok() {
				return warned("", "Whether the image pull secrets are there could not be told: %s", r.explain(a, err).message)
			}
			if !there {
				missing = append(missing, at)
				continue
			}
			usable := false
			for _, kind := range []core.SecretType{core.SecretTypeDockerConfigJson, core.SecretTypeDockercfg} {
				found, a, err := r.secretLike(ctx, ns, "metadata.name="+name+",type="+string(kind))
				usable = usable || err == nil && a.ok() && found
			}
			if !usable {
				wrong = append(wrong, at)
			}
		}
	}
	const remedy = "Make it with “kubectl create secret docker-registry”, or take its name off the cluster; until then private images cannot be pulled there."
	switch {
	case len(missing) > 0:
		return warned(remedy, "There is no image pull secret %s.", strings.Join(missing, ", "))
	case len(wrong) > 0:
		return warned(remedy, "Not of the type kubernetes.io/dockerconfigjson, so nothing is pulled with it: %s.", strings.Join(wrong, ", "))
	case len(later) > 0:
		return warned(remedy, "The image pull secrets are still to be made in %s, which the first deploy makes.", strings.Join(later, ", "))
	}
	return passed("The image pull secrets are there: %s.", strings.Join(names, ", "))
}

// secretLike reports whether a namespace has a secret that the selector fits.
func (r *run) secretLike(ctx context.Context, namespace, fields string) (bool, *answer, error) {
	var list nameList
	a, err := r.ask(ctx, http.MethodGet, "/api/v1/namespaces/"+url.PathEscape(namespace)+"/secrets?limit=1&fieldSelector="+url.QueryEscape(fields), nil, &list)
	return len(list.Items) > 0, a, err
}
