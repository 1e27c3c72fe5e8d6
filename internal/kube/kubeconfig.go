package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

// ParseOptions says where a kubeconfig comes from, and so what it may do.
type ParseOptions struct {
	// Root and Path are set for a mounted kubeconfig: files it refers to are
	// looked for below Root, from the folder of Path. Without a Root no
	// reference to a file is accepted.
	Root *Root
	Path string

	// Context is the context that will be used; "" = the current one.
	Context string

	// Allows is what an admin has knowingly allowed it to say.
	Allows fleet.Allowances

	// Cloud is what tokens are made from for a kubeconfig of a managed
	// cluster; zero = what this machine has.
	Cloud fleet.CloudCredential

	// Destination is where tokens made from a sealed Cloud may go, as
	// Kubeconfig.Destination gave it; "" = wherever the kubeconfig leads.
	Destination string
}

// field is the form field at which problems of the file itself are shown.
func (o ParseOptions) field() string {
	if o.Root != nil {
		return "kubeconfig_path"
	}
	return "kubeconfig"
}

// Kubeconfig is a kubeconfig that has been read, and of which at least one
// context can be used.
type Kubeconfig struct {
	doc    *document
	opts   ParseOptions
	chosen *credential // of the context of opts
}

// Hash returns the hex SHA-256 of a kubeconfig's bytes, by which changes of it
// are noticed.
func Hash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Parse reads a kubeconfig and checks the context of opts with everything it
// leads to. Other contexts in the file may be ones that would be refused: they
// are never used. Errors are fleet.Errors with CodeInvalid whose Problems are
// keyed kubeconfig, kubeconfig_path or context; they quote no secret.
func Parse(raw []byte, opts ParseOptions) (*Kubeconfig, error) {
	doc, refused := openDocument(raw)
	if refused != nil {
		return nil, refused.at(opts.field())
	}
	k := &Kubeconfig{doc: doc, opts: opts}
	if k.chosen, refused = k.credential(opts.Context); refused != nil {
		return nil, refused.at(opts.field())
	}
	return k, nil
}

// openDocument reads the file and checks what does not depend on a context.
func openDocument(raw []byte) (*document, *refusal) {
	doc, refused := decode(raw)
	if refused != nil {
		return nil, refused
	}
	switch {
	case doc.Kind != "" && doc.Kind != "Config", doc.APIVersion != "" && doc.APIVersion != "v1":
		return nil, refuse("Paste the kubeconfig itself, as “kubectl config view --raw --minify --flatten” prints it.",
			"This is a Kubernetes object of another kind, not a kubeconfig (kind: Config, apiVersion: v1).")
	case len(doc.Contexts) == 0:
		return nil, refuse("Print one with “kubectl config view --raw --minify --flatten”.",
			"The kubeconfig has no contexts, so it leads nowhere.")
	}
	for what, names := range doc.names() {
		for i, name := range names {
			if name == "" {
				return nil, refuse("", "A %s of the kubeconfig has no name.", what)
			}
			if slices.Contains(names[:i], name) {
				return nil, refuse("", "The kubeconfig names the %s %s twice.", what, quote(name))
			}
		}
	}
	return doc, nil
}

func (d *document) names() map[string][]string {
	out := map[string][]string{}
	for _, c := range d.Clusters {
		out["cluster"] = append(out["cluster"], c.Name)
	}
	for _, u := range d.Users {
		out["user"] = append(out["user"], u.Name)
	}
	for _, c := range d.Contexts {
		out["context"] = append(out["context"], c.Name)
	}
	return out
}

// CurrentContext returns the context that is used where none is named: the
// file's current one, or the only one.
func (k *Kubeconfig) CurrentContext() string { return k.doc.current() }

func (d *document) current() string {
	if d.CurrentContext == "" && len(d.Contexts) == 1 {
		return d.Contexts[0].Name
	}
	return d.CurrentContext
}

// resolved is a context with the entries it names.
type resolved struct {
	name      string
	cluster   clusterEntry
	user      userEntry
	clusterID string
	userID    string
	namespace string
}

// resolve finds the context and what it names. The result is filled as far as
// it can be even where there is a refusal.
func (d *document) resolve(name string) (resolved, *refusal) {
	if name == "" {
		name = d.current()
	}
	r := resolved{name: name}
	if name == "" {
		return r, refuse("Choose one of: "+d.contextNames()+".", "The kubeconfig has several contexts and no current one.").inContext()
	}
	at := slices.IndexFunc(d.Contexts, func(c namedContext) bool { return c.Name == name })
	if at < 0 {
		return r, refuse("Choose one of: "+d.contextNames()+".", "The kubeconfig has no context %s.", quote(name)).inContext()
	}
	entry := d.Contexts[at].Context
	r.clusterID, r.userID, r.namespace = entry.Cluster, entry.User, entry.Namespace

	cluster := slices.IndexFunc(d.Clusters, func(c namedCluster) bool { return c.Name == entry.Cluster })
	user := slices.IndexFunc(d.Users, func(u namedUser) bool { return u.Name == entry.User })
	if cluster >= 0 {
		r.cluster = d.Clusters[cluster].Cluster
	}
	if user >= 0 {
		r.user = d.Users[user].User
	}
	switch {
	case cluster < 0:
		return r, refuse("Add the cluster, or choose another context.", "The context %s names the cluster %s, which the kubeconfig does not contain.", quote(name), quote(entry.Cluster))
	case user < 0:
		return r, refuse("Add the user, or choose another context.", "The context %s names the user %s, which the kubeconfig does not contain.", quote(name), quote(entry.User))
	}
	return r, nil
}

func (d *document) contextNames() string {
	var names []string
	for _, c := range d.Contexts {
		names = append(names, quote(c.Name))
		if len(names) == 8 && len(d.Contexts) > 8 {
			return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", len(d.Contexts)-8)
		}
	}
	return strings.Join(names, ", ")
}

// RESTConfig returns what is needed to speak to the API server of a context;
// "" = the one of Parse, else the current one. Everything is in memory: the
// result names no file, no program, and a proxy only where one is allowed. Where tokens are made, it
// holds no credential: see tokens.
func (k *Kubeconfig) RESTConfig(context string) (*rest.Config, error) {
	if context == "" {
		context = k.opts.Context
	}
	cred, refused := k.credential(context)
	if refused != nil {
		return nil, refused.at(k.opts.field())
	}
	cfg := &rest.Config{
		Host:        cred.server,
		BearerToken: cred.token,
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: cred.serverName,
			CAData:     cred.ca,
			CertData:   cred.cert,
			KeyData:    cred.key,
			Insecure:   cred.insecure,
		},
	}
	if cred.proxy != nil {
		cfg.Proxy = http.ProxyURL(cred.proxy)
	}
	return cfg, nil
}

// tokens returns what makes the tokens of the context of Parse; nil = its
// kubeconfig holds its credential itself. Errors are fleet.Errors.
func (k *Kubeconfig) tokens(o cloud.Options) (*cloud.Tokens, error) {
	cred, refused := k.credential(k.opts.Context)
	if refused != nil {
		return nil, refused.at(k.opts.field())
	}
	if cred.recipe == nil {
		return nil, nil
	}
	if k.ambient(cred) && !o.Servers.Empty() {
		if refused := cred.strays(o.Servers); refused != nil {
			return nil, refused.at(k.opts.field())
		}
	}
	return cloud.NewTokens(cred.recipe, k.opts.Cloud, o)
}

// strays says how a token could come to a server that is none of those listed. A
// kubeconfig with a certificate authority of its own makes whatever stands at
// its proxy-url the server that it names, and one that checks no certificate
// whatever answers.
func (c *credential) strays(listed cloud.Servers) *refusal {
	whose := "Tokens made from the " + c.recipe.Cloud().String() + " credentials of Portolan's own machine go only to the servers of PORTOLAN_CLOUD_SERVERS"
	switch {
	case !listed.Has(c.server):
		return refuse("Seal a credential with the cluster, or add the server to PORTOLAN_CLOUD_SERVERS if it is to be trusted with them.",
			"%s, and %s is none of them.", whose, shown(c.server))
	case c.insecure:
		return refuse("Seal a credential with the cluster, or put its certificate-authority-data in the place of insecure-skip-tls-verify.",
			"%s, and the kubeconfig believes whoever answers as %s.", whose, shown(c.server))
	case c.proxy != nil && !listed.Has(c.proxy.String()):
		return refuse("Seal a credential with the cluster, or add the proxy's host to PORTOLAN_CLOUD_SERVERS if it is to be trusted with them.",
			"%s, and the kubeconfig leads through the proxy %s, which is none of them.", whose, quote(c.proxy.Host))
	}
	return nil
}

// ambient reports whether tokens are made from what this machine has.
func (k *Kubeconfig) ambient(cred *credential) bool {
	return cred.recipe != nil && cred.recipe.Ambient() && k.opts.Cloud.Cloud == ""
}

// Destination identifies where the credential of the context of Parse goes: the
// server with how it is reached and recognised. It is a hex SHA-256.
func (k *Kubeconfig) Destination() (string, error) {
	cred, refused := k.credential(k.opts.Context)
	if refused != nil {
		return "", refused.at(k.opts.field())
	}
	return cred.destination(), nil
}

// Facts describes the credential of a context without revealing it; "" = the
// context of Parse, else the current one.
func (k *Kubeconfig) Facts(context string) fleet.CredentialFacts {
	if context == "" {
		context = k.opts.Context
	}
	cred, refused := k.credential(context)
	if refused != nil {
		r, _ := k.doc.resolve(context)
		return fleet.CredentialFacts{Context: r.name, Server: shown(r.cluster.Server)}
	}
	return cred.facts()
}

// credential checks everything a context leads to. The result is not changed.
func (k *Kubeconfig) credential(context string) (*credential, *refusal) {
	if k.chosen != nil && context == k.opts.Context {
		return k.chosen, nil
	}
	r, refused := k.doc.resolve(context)
	if refused != nil {
		return nil, refused
	}
	return k.opts.check(r)
}

// Inspection is what a form shows of a kubeconfig before it is saved.
type Inspection struct {
	Problem  string // why nothing in the file can be used; "" = see the contexts
	Current  string // the context used where none is named; "" = none
	Contexts []InspectedContext
}

// InspectedContext is one context of an Inspection.
type InspectedContext struct {
	Name      string
	Cluster   string
	User      string
	Namespace string
	Server    string
	Says      fleet.CredentialFacts
	Refusal   string // why it cannot be used; "" = it can
	Account   bool   // a way out of Refusal is the token of a service account
}

// Inspect lists the contexts of a kubeconfig with what would be refused.
func Inspect(raw []byte, opts ParseOptions) Inspection {
	doc, refused := openDocument(raw)
	if refused != nil {
		return Inspection{Problem: refused.sentence()}
	}
	out := Inspection{Current: doc.current()}
	for _, c := range doc.Contexts {
		r, refused := doc.resolve(c.Name)
		found := InspectedContext{Name: r.name, Cluster: r.clusterID, User: r.userID, Namespace: r.namespace, Server: shown(r.cluster.Server)}
		if refused == nil {
			var cred *credential
			if cred, refused = opts.check(r); refused == nil {
				found.Says = cred.facts()
			}
		}
		if refused != nil {
			found.Refusal, found.Account = refused.sentence(), refused.account()
		}
		out.Contexts = append(out.Contexts, found)
	}
	return out
}

// refusal is why a kubeconfig is not accepted, and the way out.
type refusal struct {
	message, remedy string
	context         bool // it is the choice of context that is wrong
}

func refuse(remedy, format string, args ...any) *refusal {
	return &refusal{message: fmt.Sprintf(format, args...), remedy: remedy}
}

func (r *refusal) inContext() *refusal {
	r.context = true
	return r
}

// account reports whether the remedy ends in a service account's token, and so
// promises what makes one.
func (r *refusal) account() bool {
	return strings.HasSuffix(r.remedy, serviceAccountRemedy) || strings.HasSuffix(r.remedy, cloud.ServiceAccountRemedy)
}

func (r *refusal) sentence() string {
	if r.remedy == "" {
		return r.message
	}
	return r.message + " " + r.remedy
}

// at turns the refusal into the error of a form field.
func (r *refusal) at(field string) error {
	if r.context {
		field = "context"
	}
	return &fleet.Error{
		Code:     fleet.CodeInvalid,
		Message:  r.message,
		Remedy:   r.remedy,
		Problems: fleet.Problems{field: r.sentence()},
	}
}

// refusalOf returns the message and the remedy of an error of Parse.
func refusalOf(err error) (message, remedy string) {
	var e *fleet.Error
	if errors.As(err, &e) {
		return e.Message, e.Remedy
	}
	return "The kubeconfig cannot be read.", ""
}
