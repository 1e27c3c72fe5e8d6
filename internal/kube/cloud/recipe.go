package cloud

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"portolan/internal/fleet"
)

// Stanza is the exec section of a kubeconfig's user.
type Stanza struct {
	Command string
	Args    []string
	Env     map[string]string
	Server  string // URL of the API server it is for
}

// Recipe is how the token that a stanza asks for is made.
type Recipe interface {
	// Kind names the token, such as "EKS token".
	Kind() string
	// Cloud is whose token it is.
	Cloud() fleet.Cloud
	// Ambient reports whether tokens are made from what this machine has, where
	// no credential is sealed with the cluster.
	Ambient() bool
	// Unknown says what to do when the API server does not accept the token.
	Unknown() string
	// refuse returns why this cannot be done with or without a sealed
	// credential, or nil.
	refuse(sealed bool) *Refusal
	// maker returns what makes tokens from a credential.
	maker(cred fleet.CloudCredential, o Options) (maker, error)
}

// maker makes one new token, from what the credential or this machine has now:
// it keeps neither tokens nor credentials that were found.
type maker func(context.Context) (Token, error)

// Token is a bearer token.
type Token struct {
	Value   string
	Expires time.Time // from then on it is not used
}

// Options say where tokens come from and may go. Where they come from, the zero
// value is right for everything but tests: a kubeconfig has no say in it.
type Options struct {
	// HTTP speaks to the clouds; nil = a client with timeouts, over the proxy
	// of the environment if there is one.
	HTTP *http.Client
	// Servers are those that tokens made from what this machine has may go to;
	// empty = any.
	Servers Servers
	// EKSLifetime is how long an EKS token is good for; 0 = what EKS allows.
	EKSLifetime time.Duration
	// STS is the URL of the security token service; "" = that of the region.
	STS string
	// GoogleTokens is the URL of Google's token endpoint; "" = the real one.
	GoogleTokens string
	// GoogleIAM is the URL of Google's service for the tokens of service
	// accounts that are impersonated; "" = the real one.
	GoogleIAM string
	// EntraAuthority is the URL of Microsoft Entra ID; "" = that of the
	// stanza's environment.
	EntraAuthority string
}

// requestTimeout bounds one request to a cloud.
const requestTimeout = 10 * time.Second

func (o Options) client() *http.Client {
	if o.HTTP != nil {
		return o.HTTP
	}
	return egress
}

// egress is the way to the clouds. It is the program's own traffic, like that
// of their command line tools, and not subject to where API servers may be.
var egress = &http.Client{
	Timeout: requestTimeout,
	Transport: &http.Transport{
		Proxy:                 proxyOf,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: requestTimeout,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   2,
	},
}

// proxyOf is the proxy of the environment, but never on the way to the service
// that gives this machine its own identity: a proxy would have another's.
func proxyOf(r *http.Request) (*url.URL, error) {
	if addr, err := netip.ParseAddr(r.URL.Hostname()); err == nil && addr.IsLinkLocalUnicast() || r.URL.Hostname() == "metadata.google.internal" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// Refusal is why a stanza's token cannot be made. What follows the words "The
// user X"; it quotes names of options and variables, never their values.
type Refusal struct{ What, Remedy string }

// ServiceAccountRemedy is the way out where a cloud's token cannot be had.
const ServiceAccountRemedy = "Or use a service account's token: the form prints the manifest and the commands that make one."

// Recognise returns how the token of a stanza is made, where a credential of
// the cloud sealed is sealed with the cluster; "" = none is. ours is false where
// the program is none of the clouds'.
func Recognise(s Stanza, sealed fleet.Cloud) (recipe Recipe, refused *Refusal, ours bool) {
	name := strings.TrimSuffix(path.Base(strings.ReplaceAll(s.Command, `\`, "/")), ".exe")
	switch name {
	case "aws":
		recipe, refused = readAWS(s)
	case "aws-iam-authenticator":
		recipe, refused = readAuthenticator(s)
	case "gke-gcloud-auth-plugin":
		recipe, refused = readGKE(s)
	case "kubelogin":
		recipe, refused = readAKS(s)
	default:
		return nil, nil, false
	}
	switch {
	case refused != nil:
		return nil, refused, true
	case sealed != "" && sealed != recipe.Cloud():
		return nil, &Refusal{
			What:   fmt.Sprintf("needs a token of %s, but the credential sealed with the cluster is of %s.", recipe.Cloud(), sealed),
			Remedy: fmt.Sprintf("Seal a credential of %s, or choose Portolan's own.", recipe.Cloud()),
		}, true
	}
	return recipe, recipe.refuse(sealed != ""), true
}
