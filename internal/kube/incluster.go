package kube

import (
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"portolan/internal/kube/cloud"
)

// accountDir is where a pod finds its service account's token and the authority
// of its cluster's API server.
var accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// inCluster reports whether a user is the service account of Portolan's own
// pod. Its token is read anew again and again, and so it is not part of the
// kubeconfig.
func inCluster(u userEntry) bool { return path.Clean(u.TokenFile) == accountDir+"/token" }

// refuseInCluster says why the pod's token is not sent to a cluster: it goes to
// the API server of the pod's own cluster and nowhere else, whoever wrote the
// kubeconfig.
func refuseInCluster(r resolved) *refusal {
	u, err := url.Parse(r.cluster.Server)
	own := []string{"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	if host := os.Getenv("KUBERNETES_SERVICE_HOST"); host != "" {
		own = append(own, host)
	}
	switch {
	case err != nil || !slices.Contains(own, strings.ToLower(u.Hostname())):
		return refuse("Its server is https://kubernetes.default.svc.", "The user %s is the service account of Portolan's own pod, whose token is sent to no other cluster.", quote(r.userID))
	case path.Clean(r.cluster.CAFile) != accountDir+"/ca.crt" || r.cluster.CAData != "" || r.cluster.ServerName != "" || r.cluster.Insecure || r.cluster.ProxyURL != "":
		return refuse("Give it certificate-authority: "+accountDir+"/ca.crt, and nothing else besides its server.", "The user %s is the service account of Portolan's own pod, but the cluster %s is not described as its own.", quote(r.userID), quote(r.clusterID))
	case r.user.Exec != nil || r.user.Token != "" || r.user.CertData != "" || r.user.CertFile != "" || r.user.KeyData != "" || r.user.KeyFile != "":
		return refuse("Keep one of them.", "The user %s has both the token of Portolan's own pod and another credential.", quote(r.userID))
	}
	return nil
}

// loadInCluster reads the authority of the pod's own cluster.
func (o ParseOptions) loadInCluster(r resolved) (*credential, *refusal) {
	c := &credential{context: r.name, server: strings.TrimSuffix(r.cluster.Server, "/"), recipe: cloud.InCluster(accountDir + "/token")}
	var err error
	if c.ca, err = os.ReadFile(accountDir + "/ca.crt"); err != nil {
		return nil, refuse("Run Portolan in a pod of the cluster, with its service account's token mounted; elsewhere use another credential.",
			"The user %s is the service account of Portolan's own pod, but it does not run in one.", quote(r.userID))
	}
	if c.roots = certificates(c.ca); len(c.roots) == 0 {
		return nil, refuse("", "The authority of Portolan's own cluster is no certificate in PEM form.")
	}
	return c, nil
}
