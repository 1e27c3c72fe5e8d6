package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Provider says where a cluster comes from. It chooses the form's starting
// values and hints; nothing that runs workloads branches on it.
type Provider string

const (
	ProviderKubernetes Provider = "kubernetes"
	ProviderKind       Provider = "kind"
	ProviderK3s        Provider = "k3s"
	ProviderAKS        Provider = "aks"
	ProviderGKE        Provider = "gke"
	ProviderEKS        Provider = "eks"
)

// Providers lists every Provider in the order forms show them.
var Providers = []Provider{ProviderKubernetes, ProviderKind, ProviderK3s, ProviderAKS, ProviderGKE, ProviderEKS}

// CredentialMode says where a cluster's kubeconfig is kept.
type CredentialMode string

const (
	CredentialMounted   CredentialMode = "mounted"   // a file under the kubeconfigs root
	CredentialEncrypted CredentialMode = "encrypted" // sealed in the database
)

// ExposureMode says how a workload's Service is reached.
type ExposureMode string

const (
	ExposureClusterIP    ExposureMode = "cluster-ip"
	ExposureNodePort     ExposureMode = "node-port"
	ExposureLoadBalancer ExposureMode = "load-balancer"
)

// ExposureModes lists every ExposureMode in the order forms show them.
var ExposureModes = []ExposureMode{ExposureClusterIP, ExposureNodePort, ExposureLoadBalancer}

// Exposure is how the Services of a cluster's workloads are reached. Only the
// fields of its Mode have a meaning; the others are empty.
type Exposure struct {
	Mode                ExposureMode      `json:"mode"`
	RuntimeHost         string            `json:"runtimeHost,omitempty"`         // node-port: the host that links point to
	RuntimeNodePort     int32             `json:"runtimeNodePort,omitempty"`     // node-port: fixed port for the port named runtime; 0 = any
	GatewayNodePort     int32             `json:"gatewayNodePort,omitempty"`     // node-port: fixed port for the port named gateway; 0 = any
	Annotations         map[string]string `json:"annotations,omitempty"`         // load-balancer: on the Service
	SourceRanges        []string          `json:"sourceRanges,omitempty"`        // load-balancer: CIDRs
	LoadBalancerClass   string            `json:"loadBalancerClass,omitempty"`   // load-balancer: spec.loadBalancerClass
	LoadBalancerTimeout time.Duration     `json:"loadBalancerTimeout,omitempty"` // load-balancer: how long an address may take
}

// DefaultLoadBalancerTimeout bounds the wait for a load balancer's address
// where the cluster names none.
const DefaultLoadBalancerTimeout = 20 * time.Minute

// Allowances are what an admin has knowingly allowed the kubeconfig of a cluster
// to say. Otherwise it is refused.
type Allowances struct {
	TLSSkip bool // insecure-skip-tls-verify: the credential goes to whoever answers
	Proxy   bool // proxy-url: connections go through another machine
}

// Cluster is one row of the registry.
type Cluster struct {
	ID          string // chosen once, never changed; appears in k8s:<id>
	Label       string
	Provider    Provider
	ClusterName string // as the cloud or the kubeconfig calls it

	CredentialMode CredentialMode
	KubeconfigPath string // mounted: relative to the kubeconfigs root
	Context        string // "" = the kubeconfig's current context
	CredentialHash string // hex SHA-256 of the kubeconfig's bytes; "" = not readable when last looked at

	// Credential is what the kubeconfig itself says; zero = not looked at yet,
	// or it cannot be used.
	Credential CredentialFacts

	Allows Allowances // what the kubeconfig may say

	Cloud       CloudIdentity     // of the cloud credential that is sealed with it
	SealedCloud *SealedCredential // to be stored with it; nil = what is stored stays, while Cloud is Sealed

	Namespace         string            // fallback
	RuntimeNamespaces map[string]string // by runtime id; absent = the fallback

	Exposure         Exposure
	ImagePullSecrets []string
	Labels           map[string]string // put on everything made there
	Region           string
	Enabled          bool

	Version   int64 // counts the saves, for optimistic locking
	CreatedAt time.Time
	UpdatedAt time.Time
}

// KubeconfigUse is that a cluster uses a kubeconfig.
type KubeconfigUse struct {
	Path    string // of a mounted one; "" = it is stored
	Hash    string // Cluster.CredentialHash
	Context string // "" = the current one
}

// MountedFile is the mounted kubeconfig of a cluster.
type MountedFile struct {
	ClusterID string
	Path      string
	Hash      string // as it was last seen, "" = not readable: Cluster.CredentialHash
}

// TargetName is how operators and forms name the cluster as a target.
func (c *Cluster) TargetName() string { return TargetPrefix + c.ID }

// NamespaceFor returns the namespace in which workloads of runtime are made.
func (c *Cluster) NamespaceFor(runtime string) string {
	if ns := c.RuntimeNamespaces[runtime]; ns != "" {
		return ns
	}
	return c.Namespace
}

// Namespaces returns every namespace the configuration names, the fallback
// first, each once, in a stable order.
func (c *Cluster) Namespaces() []string {
	out := []string{c.Namespace}
	for _, runtime := range sortedKeys(c.RuntimeNamespaces) {
		ns := c.RuntimeNamespaces[runtime]
		if ns != "" && !contains(out, ns) {
			out = append(out, ns)
		}
	}
	return out
}

// Fingerprint identifies what a connection test is about: the credential's
// bytes, the context, the namespaces and the exposure. A test counts for a
// cluster only while the fingerprints are equal.
func (c *Cluster) Fingerprint() string {
	runtimes := map[string]string{}
	for runtime, ns := range c.RuntimeNamespaces {
		if ns != "" {
			runtimes[runtime] = ns
		}
	}
	// Map keys are sorted by encoding/json, so equal configurations encode equally.
	text, err := json.Marshal(struct {
		Mode, Path, Hash, Context, Namespace string
		Runtimes                             map[string]string
		Exposure                             Exposure
		Cloud, CloudDestination              string `json:",omitempty"`
		AllowTLSSkip, AllowProxy             bool   `json:",omitempty"`
	}{
		string(c.CredentialMode), c.KubeconfigPath, c.CredentialHash, c.Context, c.Namespace, runtimes, c.Exposure, c.Cloud.Hash, c.Cloud.Destination,
		c.Allows.TLSSkip, c.Allows.Proxy,
	})
	if err != nil {
		panic(err) // only strings, numbers and maps of strings: cannot fail
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// ClusterInUse is the Error of deleting a cluster that workloads refer to.
func ClusterInUse(id string, workloads []string) error {
	const shown = 20
	text := strings.Join(workloads[:min(shown, len(workloads))], ", ")
	if more := len(workloads) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	e := Conflict("%s cannot be deleted: workloads run there: %s.", id, text)
	e.Remedy = "Delete the workloads first, or, where the cluster is gone for good, forget them on their pages. To keep them, disable the cluster so that nothing new is deployed to it."
	return e
}
