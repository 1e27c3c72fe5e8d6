package kube

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
	"portolan/internal/kube/live"
)

// Source gives the kubeconfig of a cluster: the mounted file with what it
// refers to inlined (Root.Kubeconfig), or the unsealed one. It returns
// fleet.Errors where a person can do something about it.
type Source interface {
	Kubeconfig(ctx context.Context, cluster *fleet.Cluster) ([]byte, error)
	// CloudCredential gives what is sealed for the tokens of a managed
	// cluster; it is asked only where cluster.Cloud says that something is.
	CloudCredential(ctx context.Context, cluster *fleet.Cluster) (fleet.CloudCredential, error)
}

// Options are common to clients and connection tests.
type Options struct {
	Version string // of Portolan, for the User-Agent
	Policy  AddressPolicy
	Cloud   cloud.Options
}

// Client speaks to one API server with one credential. It is safe for use by
// several goroutines; all of them share one HTTP/2 connection.
type Client struct {
	ClusterID string
	Hash      string // of the kubeconfig it was made from
	Facts     fleet.CredentialFacts

	REST *rest.Config // for what needs a connection of its own, such as exec
	HTTP *http.Client // carries the credential; has no overall timeout, so that streams last
	API  *live.API

	endpoint endpoint
	base     *http.Transport
}

// NewClient makes a client from a kubeconfig that Parse accepted.
func NewClient(k *Kubeconfig, opts Options) (*Client, error) {
	cfg, err := k.RESTConfig("")
	if err != nil {
		return nil, err
	}
	harden(cfg, opts.Policy, opts.Version)
	tokens, err := k.tokens(opts.Cloud)
	if err != nil {
		return nil, err
	}
	if tokens != nil {
		cfg.WrapTransport = tokens.Authorize
	}
	base, err := baseTransport(cfg)
	if err != nil {
		return nil, err
	}
	client, err := httpClient(cfg, newBreaker(bounded(base)))
	if err != nil {
		return nil, err
	}
	api, err := live.NewAPI(cfg, client)
	if err != nil {
		return nil, err
	}
	return &Client{Facts: k.Facts(""), REST: cfg, HTTP: client, API: api, endpoint: k.chosen.endpoint(), base: base}, nil
}

// Is reports whether this is the known cluster, as a connection test decides it.
func (c *Client) Is(ctx context.Context, known fleet.ClusterIdentity) (bool, error) {
	if known.UID == "" {
		return true, nil
	}
	seen := unchanged
	uid, err := c.NamespaceUID(ctx, known.Namespace)
	switch {
	case apierrors.IsForbidden(err):
		seen = hidden
	case apierrors.IsNotFound(err):
		seen = gone
	case err != nil:
		return false, err
	case uid != known.UID:
		seen = remade
	}
	return c.endpoint.leadsTo(known, seen), nil
}

// NamespaceUID returns the UID of a namespace, which tells one cluster from
// another.
func (c *Client) NamespaceUID(ctx context.Context, namespace string) (string, error) {
	var ns struct {
		live.Meta `json:"metadata"`
	}
	err := live.Get(ctx, c.API, live.Namespaces, "", namespace, &ns)
	return ns.UID, err
}

// close lets running requests end and drops the connections that are idle.
func (c *Client) close() { c.base.CloseIdleConnections() }

// Clients keeps one Client per cluster, credential and context: nobody ever
// gets a client that was made from another credential.
type Clients struct {
	source Source
	opts   Options

	mu     sync.Mutex
	byID   map[string]entry
	making singleflight.Group
}

type entry struct {
	key    key
	client *Client
	used   time.Time
}

// clientIdle is how long a client that nobody asks for is kept: another process
// may have removed its cluster.
const clientIdle = 15 * time.Minute

// credentialTimeout bounds a read of the database.
const credentialTimeout = 10 * time.Second

// key says what a client was made from.
type key struct {
	clusterID, hash, cloud, destination, context string
	allows                                       fleet.Allowances
}

// NewClients returns an empty cache over source.
func NewClients(source Source, opts Options) *Clients {
	return &Clients{source: source, opts: opts, byID: map[string]entry{}}
}

// Get returns the client for the present configuration of a cluster. It
// connects to nothing. Errors are fleet.Errors: CodeUnavailable where the
// kubeconfig cannot be read or used, or is another than the row's: what a row
// allows counts for its own credential, and a newer row must be read then.
func (c *Clients) Get(ctx context.Context, cluster *fleet.Cluster) (*Client, error) {
	if client := c.cached(keyOf(cluster, cluster.CredentialHash)); client != nil {
		return client, nil
	}
	raw, err := c.source.Kubeconfig(ctx, cluster)
	if err != nil {
		return nil, unusable(cluster, err)
	}
	// The bytes decide, not the row: a mounted file may have changed since the
	// row's hash was taken.
	k := keyOf(cluster, Hash(raw))
	if cluster.CredentialMode == fleet.CredentialEncrypted && cluster.CredentialHash != "" && k.hash != cluster.CredentialHash {
		return nil, unusable(cluster, errReplaced)
	}
	made, err, _ := c.making.Do(fmt.Sprintf("%#v", k), func() (any, error) {
		if client := c.cached(k); client != nil {
			return client, nil
		}
		options := ParseOptions{Context: cluster.Context, Allows: cluster.Allows}
		if cluster.Cloud.Sealed() {
			options.Destination = cluster.Cloud.Destination
			// Others wait for this, too: it does not end because the first to ask left.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), credentialTimeout)
			defer cancel()
			if options.Cloud, err = c.source.CloudCredential(ctx, cluster); err != nil {
				return nil, unusable(cluster, err)
			}
			if options.Cloud.Identity().Hash != k.cloud {
				return nil, unusable(cluster, errReplaced)
			}
		}
		config, err := Parse(raw, options)
		if err != nil {
			return nil, unusable(cluster, err)
		}
		client, err := NewClient(config, c.opts)
		if err != nil {
			return nil, unusable(cluster, err)
		}
		client.ClusterID, client.Hash = cluster.ID, k.hash
		c.keep(k, client)
		return client, nil
	})
	if err != nil {
		return nil, err
	}
	return made.(*Client), nil
}

// errReplaced is not lasting: the row that is read next has the new credential.
var errReplaced = fleet.Unavailable("Its credential was replaced at this moment. Try again.")

func keyOf(cluster *fleet.Cluster, hash string) key {
	return key{
		clusterID: cluster.ID, hash: hash, cloud: cluster.Cloud.Hash, destination: cluster.Cloud.Destination,
		context: cluster.Context, allows: cluster.Allows,
	}
}

func (c *Clients) cached(k key) *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byID[k.clusterID]
	if !ok || e.key != k {
		return nil
	}
	e.used = time.Now()
	c.byID[k.clusterID] = e
	return e.client
}

func (c *Clients) keep(k key, client *Client) {
	var old []*Client
	now := time.Now()
	c.mu.Lock()
	if before := c.byID[k.clusterID].client; before != nil {
		old = append(old, before)
	}
	c.byID[k.clusterID] = entry{key: k, client: client, used: now}
	for id, e := range c.byID {
		if now.Sub(e.used) > clientIdle {
			old = append(old, e.client)
			delete(c.byID, id)
		}
	}
	c.mu.Unlock()
	for _, client := range old {
		client.close()
	}
}

// Forget drops the client of a cluster whose row or credential has changed.
// Requests that are under way end by themselves.
func (c *Clients) Forget(clusterID string) {
	c.mu.Lock()
	old := c.byID[clusterID].client
	delete(c.byID, clusterID)
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// Close drops every client.
func (c *Clients) Close() {
	c.mu.Lock()
	old := c.byID
	c.byID = map[string]entry{}
	c.mu.Unlock()
	for _, e := range old {
		e.client.close()
	}
}

// unusable says that a cluster cannot be spoken to, and keeps the reason.
func unusable(cluster *fleet.Cluster, err error) error {
	message, remedy := refusalOf(err)
	return &fleet.Error{
		Code:    fleet.CodeUnavailable,
		Message: "Cluster " + cluster.ID + " cannot be reached: " + message,
		Remedy:  remedy,
		Err:     err,
	}
}
