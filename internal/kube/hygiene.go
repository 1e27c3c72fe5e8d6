package kube

import (
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"portolan/internal/kube/cloud"
)

const serviceAccountRemedy = "Use a kubeconfig that holds a service account's token or a client certificate itself; the form prints the manifest and the commands that make such a token."

// check accepts a context with what it names, or says what is wrong with it.
// A kubeconfig is code until proven otherwise: whatever could run a program,
// read a file, take another way through the network or speak for someone else
// is refused.
func (o ParseOptions) check(r resolved) (*credential, *refusal) {
	if refused := o.refuseCluster(r); refused != nil {
		return nil, refused
	}
	if refused := o.refuseUser(r); refused != nil {
		return nil, refused
	}
	if inCluster(r.user) {
		return o.loadInCluster(r)
	}
	return o.load(r)
}

func (o ParseOptions) refuseCluster(r resolved) *refusal {
	c, name := r.cluster, quote(r.clusterID)
	switch {
	case c.Insecure && !o.Allows.TLSSkip:
		return refuse("Give the cluster's certificate-authority-data instead. If you mean it, tick that the TLS check may be skipped.",
			"The cluster %s has insecure-skip-tls-verify: its credential would be handed to whoever answers.", name)
	case c.Insecure && (c.CAData != "" || c.CAFile != ""):
		return refuse("Remove insecure-skip-tls-verify.", "The cluster %s has both insecure-skip-tls-verify and a certificate authority.", name)
	case c.ProxyURL != "" && !o.Allows.Proxy:
		return refuse("Remove proxy-url. If you mean it, tick that a proxy may be used.", "The cluster %s has a proxy-url, which is not accepted as it is.", name)
	case c.CAFile != "" && o.Root == nil && !inCluster(r.user):
		return fileRefusal("cluster", name, "certificate-authority")
	}
	return refuseServer(name, c.Server)
}

// refuseServer checks the address of an API server.
func refuseServer(cluster, server string) *refusal {
	if server == "" {
		return refuse("", "The cluster %s has no server.", cluster)
	}
	u, err := url.Parse(server)
	switch {
	case err != nil || strings.ContainsFunc(server, unicode.IsSpace):
		return refuse("It should look like https://host:6443.", "The server of the cluster %s is not a URL.", cluster)
	case u.Scheme == "http":
		return refuse("Use the https address of the API server.", "The server of the cluster %s is plain http, over which the credential could be read by anyone on the way.", cluster)
	case u.Scheme != "https" || u.Hostname() == "":
		return refuse("It should look like https://host:6443.", "The server of the cluster %s is not an https URL.", cluster)
	case u.User != nil:
		return refuse("Remove the part before “@”.", "The server URL of the cluster %s contains a user name or password.", cluster)
	case u.RawQuery != "" || u.Fragment != "":
		return refuse("Remove what follows “?” or “#”.", "The server URL of the cluster %s contains a query or a fragment.", cluster)
	}
	if likeAddress(u.Hostname()) {
		return refuse("Write an IPv4 address as four decimal numbers.", "The server of the cluster %s looks like an address, but is not one.", cluster)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return refuse("", "The server URL of the cluster %s has a port outside 1–65535.", cluster)
		}
	}
	return nil
}

// likeAddress reports whether host ends in a number without being an address.
// Some resolvers and proxies take such a host for an IPv4 address all the same,
// in octal, hexadecimal or fewer parts (WHATWG URL standard, host parsing).
func likeAddress(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndex(host, ".")+1:])
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// readProxy returns the proxy that a cluster names; nil = none.
func readProxy(cluster, text string) (*url.URL, *refusal) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || strings.ContainsFunc(text, unicode.IsSpace) || u.Hostname() == "" || likeAddress(u.Hostname()):
		return nil, refuse("It should look like http://proxy:3128.", "The proxy-url of the cluster %s is not a URL.", cluster)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
		return nil, refuse("Use a proxy of one of these kinds.", "The proxy-url of the cluster %s is none of http, https and socks5.", cluster)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, refuse("It should look like http://proxy:3128.", "The proxy-url of the cluster %s has more than a host and a port.", cluster)
	}
	return u, nil
}

func (o ParseOptions) refuseUser(r resolved) *refusal {
	u, name := r.user, quote(r.userID)
	if u.Exec != nil {
		if _, refused := o.readExec(r); refused != nil {
			return refused
		}
	}
	switch {
	case u.Exec != nil && (u.Token != "" || u.TokenFile != "" || u.CertData != "" || u.CertFile != ""):
		return refuse("Keep one of them.", "The user %s has both an exec section and a credential of its own.", name)
	case given(u.AuthProvider):
		return refuse(authProviderRemedy(u.AuthProvider), "The user %s has an auth-provider, which is not accepted (Kubernetes itself no longer knows them).", name)
	case given(u.Impersonate), given(u.ImpersonateUID), given(u.ImpersonateGroup), given(u.ImpersonateExtra):
		return refuse("Remove as, as-uid, as-groups and as-user-extra, and use the wanted identity's own credential.",
			"The user %s impersonates somebody else.", name)
	case u.Username != "" || u.Password != "":
		return refuse(serviceAccountRemedy, "The user %s has a user name and password, which API servers no longer accept.", name)
	}
	if inCluster(u) {
		return refuseInCluster(r)
	}
	if o.Root == nil {
		for field, value := range map[string]string{"client-certificate": u.CertFile, "client-key": u.KeyFile, "tokenFile": u.TokenFile} {
			if value != "" {
				return fileRefusal("user", name, field)
			}
		}
	}
	return nil
}

// authProviderRemedy is the way out for each of the providers that kubectl once
// had.
func authProviderRemedy(provider yaml.Node) string {
	name := ""
	if n := mapValue(&provider, "name"); n != nil {
		name = n.Value
	}
	switch name {
	case "gcp":
		return "Fetch the kubeconfig anew (gcloud container clusters get-credentials): gcloud now writes a gke-gcloud-auth-plugin section, which is accepted."
	case "azure":
		return "Run “kubelogin convert-kubeconfig -l spn” (or workloadidentity, msi) on it: the section that it writes is accepted."
	case "oidc":
		return "Put its id-token into the user as token, which is accepted until it ends. " + serviceAccountRemedy
	}
	return serviceAccountRemedy
}

func given(n yaml.Node) bool {
	return n.Kind != 0 && n.Tag != "!!null" && (n.Kind != yaml.ScalarNode || n.Value != "")
}

func fileRefusal(what, name, field string) *refusal {
	return refuse("Print it with the contents in place: “kubectl config view --raw --minify --flatten”.",
		"The %s %s refers to a file (%s). A pasted kubeconfig cannot bring files along, and those of a mounted one must be inside the kubeconfigs folder.", what, name, field)
}

// readExec returns how the token of a cloud's stanza is made in its program's
// place, or why it cannot be.
func (o ParseOptions) readExec(r resolved) (cloud.Recipe, *refusal) {
	exec, user := r.user.Exec, quote(r.userID)
	stanza := cloud.Stanza{Command: exec.Command, Args: exec.Args, Env: map[string]string{}, Server: r.cluster.Server}
	for _, e := range exec.Env {
		stanza.Env[e.Name] = e.Value
	}
	recipe, refused, ours := cloud.Recognise(stanza, o.Cloud.Cloud)
	switch {
	case !ours:
		return nil, refuse(serviceAccountRemedy,
			"The user %s gets its credential by running the program %s. Portolan runs no programs named in kubeconfigs.", user, quote(path.Base(exec.Command)))
	case refused != nil:
		return nil, refuse(refused.Remedy, "The user %s %s", user, refused.What)
	}
	return recipe, nil
}

// quote shows a name from a kubeconfig in a sentence.
func quote(name string) string { return "“" + plain(name, 80) + "”" }

// plain makes text from outside fit for one line of a message: no control
// characters, at most limit runes.
func plain(text string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			r = ' '
		}
		if n++; n > limit {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// shown returns a server URL without what may be secret in it.
func shown(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return plain(u.String(), 300)
}
