package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"portolan/internal/fleet"
)

// Sealer encrypts kubeconfigs at rest; purpose and subject bind a value to the
// row it belongs to.
type Sealer interface {
	CanSeal() bool
	Seal(plaintext []byte, purpose, subject string) (keyID string, sealed []byte, err error)
	Open(keyID string, sealed []byte, purpose, subject string) ([]byte, error)
}

// Kubeconfigs reads kubeconfigs: those of the mounted folder, and any bytes
// that claim to be one.
type Kubeconfigs interface {
	// Clean returns path relative to the folder; an Error with a problem at
	// "kubeconfig_path" when it leads out of it.
	Clean(path string) (string, error)
	// Read returns the bytes of a file in the folder.
	Read(rel string) ([]byte, error)
	// List returns the kubeconfigs in the folder.
	List() ([]Found, error)
	// Inspect returns the contexts of a kubeconfig, or an Error with a problem
	// at the field that brought it.
	Inspect(raw []byte, r Reading) ([]Context, error)
	// Check returns nil when the context of r may be used.
	Check(raw []byte, r Reading) error
	// Facts describes the credential of the context of r without revealing it;
	// an Error as of Check.
	Facts(raw []byte, r Reading) (fleet.CredentialFacts, error)
	// Destination identifies the server that the context of r leads to, with how
	// it is reached and recognised; an Error as of Check.
	Destination(raw []byte, r Reading) (string, error)
}

// Reading says where a kubeconfig comes from, and so what it may do.
type Reading struct {
	Mode    fleet.CredentialMode
	Path    string // of a mounted one
	Context string // "" = the current one
	Allows  fleet.Allowances
	Cloud   fleet.Cloud // of the sealed cloud credential; "" = none
}

// reading is how the kubeconfig of a cluster is read.
func reading(c *fleet.Cluster) Reading {
	return Reading{Mode: c.CredentialMode, Path: c.KubeconfigPath, Context: c.Context, Allows: c.Allows, Cloud: c.Cloud.Cloud}
}

// Context is one context of a kubeconfig.
type Context struct {
	Name    string
	Cluster string
	User    string
	Server  string
	Current bool
	Says    fleet.CredentialFacts // of its credential; zero where Refusal
	Refusal string                // why Portolan does not use it; "" = it would
	Account bool                  // a way out of Refusal is a service account's token, as RBAC makes it
}

// Found is a kubeconfig in the mounted folder.
type Found struct {
	Path     string // relative to the folder
	Hash     string // hex SHA-256 of its bytes; "" = not readable
	Contexts []Context
	Used     int    // further contexts of it, which clusters use
	Problem  string // why it cannot be read; "" = it can
}

// TestRequest is what a connection test needs.
type TestRequest struct {
	Cluster         fleet.Cluster
	Kubeconfig      []byte
	KubeconfigError error                 // reading it failed: the credential stage reports that
	Cloud           fleet.CloudCredential // sealed with the cluster; zero = this machine's
	Pinned          fleet.ClusterIdentity // what earlier tests saw
	Deadline        time.Duration
	// Yield, if not nil, is called before each piece of a test that nobody waits
	// for, and lets people's pages go first for a moment. Such a test asks
	// little, and what it can of the API server's cache.
	Yield func(context.Context)
}

// Tester runs the stages of a connection test. progress is called as they
// begin and end; the checks of what it is given go on changing when it returns.
type Tester interface {
	Test(ctx context.Context, r TestRequest, progress func(fleet.ConnectionTest)) fleet.ConnectionTest
	// Manifest returns the YAML of the least role for the cluster, which identity
	// is given as well; "" = nobody.
	Manifest(c fleet.Cluster, identity string) ([]byte, error)
}

// Options are what a Registry works with.
type Options struct {
	Store       Store
	Sealer      Sealer
	Kubeconfigs Kubeconfigs
	Tester      Tester
	Logger      *slog.Logger
	// TestDeadline bounds a whole connection test; 0 = 15 s.
	TestDeadline time.Duration
	// TestInterval is how often tests run again by themselves; 0 = 10 min.
	TestInterval time.Duration
	// TrialWait bounds the wait for another test of a cluster before that of a new
	// credential, which may take as long as tests do; 0 = 30 s.
	TrialWait time.Duration
	// PollInterval is how often mounted files are looked at; 0 = 2 s.
	PollInterval time.Duration
	// MaxTests bounds the tests that run at a time in this process; 0 = 32. A
	// quarter of them is kept free for those of single clusters that people ask
	// for.
	MaxTests int
	// Changed, if not nil, hears of every cluster whose row or credential this
	// process has changed or removed.
	Changed func(id string)
}

// Registry holds the use cases of clusters.
type Registry struct {
	Options
	slots    *slots
	pages    pages
	pace     *rate.Limiter // of tests that nobody waits for
	starting sync.Mutex    // held while due tests are looked for and started
	running  sync.WaitGroup
	ctx      context.Context // of the tests that run in the background
	stop     context.CancelFunc
}

// New returns a Registry. Close ends its background tests.
func New(o Options) *Registry {
	if o.TestDeadline == 0 {
		o.TestDeadline = 15 * time.Second
	}
	if o.TestInterval == 0 {
		o.TestInterval = 10 * time.Minute
	}
	if o.TrialWait == 0 {
		o.TrialWait = 30 * time.Second
	}
	if o.PollInterval == 0 {
		o.PollInterval = 2 * time.Second
	}
	if o.MaxTests == 0 {
		o.MaxTests = 32
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Registry{Options: o, slots: newSlots(o.MaxTests), pace: rate.NewLimiter(rate.Every(unwatchedPace), 1), ctx: ctx, stop: stop}
}

// Close ends the tests that still run, and waits for them.
func (r *Registry) Close() {
	r.stop()
	r.running.Wait()
}

// Kubeconfig returns the bytes of a cluster's kubeconfig.
func (r *Registry) Kubeconfig(ctx context.Context, c *fleet.Cluster) ([]byte, error) {
	if c.CredentialMode == fleet.CredentialMounted {
		return r.Kubeconfigs.Read(c.KubeconfigPath)
	}
	cred, err := r.Store.Credential(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	raw, err := r.Sealer.Open(cred.KeyID, cred.Sealed, fleet.PurposeKubeconfig, c.ID)
	if err != nil {
		return nil, fleet.Unopened("The kubeconfig of "+c.Label, cred.KeyID, err)
	}
	return raw, nil
}

// Found returns the kubeconfigs of the mounted folder with those of their
// contexts that no cluster uses, neither by the path nor as a copy of the file.
func (r *Registry) Found(ctx context.Context) ([]Found, error) {
	files, err := r.Kubeconfigs.List()
	if err != nil || len(files) == 0 {
		return nil, err
	}
	var paths, hashes []string
	for _, f := range files {
		paths = append(paths, f.Path)
		if f.Hash != "" {
			hashes = append(hashes, f.Hash)
		}
	}
	uses, err := r.Store.KubeconfigUses(ctx, paths, hashes)
	if err != nil {
		return nil, err
	}
	var out []Found
	for _, f := range files {
		of := slices.DeleteFunc(slices.Clone(uses), func(u fleet.KubeconfigUse) bool {
			return u.Path != f.Path && (f.Hash == "" || u.Hash != f.Hash)
		})
		all := len(f.Contexts)
		f.Contexts = slices.DeleteFunc(f.Contexts, func(c Context) bool {
			return slices.ContainsFunc(of, func(u fleet.KubeconfigUse) bool {
				return u.Context == c.Name || u.Context == "" && (c.Current || all == 1)
			})
		})
		f.Used = all - len(f.Contexts)
		if len(of) == 0 || len(f.Contexts) > 0 {
			out = append(out, f)
		}
	}
	return out, nil
}

// RBAC returns the YAML of the least role that the cluster's present
// configuration needs. Where the latest test has told people to apply it, it is for
// the identity of that test as well, unless that is too long to be known whole.
func (r *Registry) RBAC(ctx context.Context, id string) ([]byte, error) {
	s, err := r.Store.ClusterStatus(ctx, id)
	if err != nil {
		return nil, err
	}
	identity := ""
	if t := s.Test; t != nil && t.Fingerprint == s.Cluster.Fingerprint() {
		if failed := t.Failed(); failed != nil && failed.NeedsManifest(id) && !strings.HasSuffix(t.Identity, "…") {
			identity = t.Identity
		}
	}
	return r.Tester.Manifest(s.Cluster, identity)
}

// RBACOf is RBAC for a cluster that is not registered yet, from its form. It is
// nil while the form's namespaces are none.
func (r *Registry) RBACOf(form fleet.ClusterForm) []byte {
	c, err := form.Parse()
	for field := range problemsOf(err) {
		if strings.HasSuffix(field, "namespace") {
			return nil
		}
	}
	if !fleet.ValidClusterID(c.ID) {
		c.ID = ""
	}
	text, err := r.Tester.Manifest(c, "")
	if err != nil {
		return nil
	}
	return text
}

// CheckTarget returns the cluster, after a fresh look at its mounted file or its
// sealed kubeconfig, and an Error when it is not a target now.
func (r *Registry) CheckTarget(ctx context.Context, id string) (fleet.Status, error) {
	s, err := r.Store.ClusterStatus(ctx, id)
	if err != nil {
		return s, err
	}
	if err := r.noticeFile(ctx, &s.Cluster); err != nil {
		return s, err
	}
	if why := s.WhyNotTarget(); why != "" {
		e := fleet.Conflict("%s is not an execution target now: %s.", s.Cluster.Label, why)
		e.Remedy = "Choose another target, or ask an admin to look at the cluster's connection test."
		e.Problems = fleet.Problems{"target": "not a target now: " + why}
		return s, e
	}
	return s, r.CheckSealed(ctx, &s.Cluster)
}

// CheckSealed returns an Error that says which key is missing or wrong where
// the sealed kubeconfig or cloud credential of a cluster does not open.
func (r *Registry) CheckSealed(ctx context.Context, c *fleet.Cluster) error {
	if c.CredentialMode == fleet.CredentialEncrypted {
		if _, err := r.Kubeconfig(ctx, c); err != nil {
			return err
		}
	}
	_, err := r.CloudCredential(ctx, c)
	return err
}

// AnyTarget reports whether there is a target at all.
func (r *Registry) AnyTarget(ctx context.Context) (bool, error) {
	all, err := r.Store.AllClusters(ctx)
	if err != nil {
		return false, err
	}
	for i := range all {
		if all[i].IsTarget() {
			return true, nil
		}
	}
	return false, nil
}

// refreshHash looks at a mounted file and stores its hash when it has changed.
func (r *Registry) refreshHash(ctx context.Context, c *fleet.Cluster) error {
	if c.CredentialMode != fleet.CredentialMounted {
		return nil
	}
	raw, err := r.Kubeconfigs.Read(c.KubeconfigPath)
	return r.storeHash(ctx, c, raw, err)
}

// storeHash stores the hash of what reading the mounted file gave.
func (r *Registry) storeHash(ctx context.Context, c *fleet.Cluster, raw []byte, readErr error) error {
	hash := ""
	if readErr == nil {
		hash = hashOf(raw)
	}
	if hash == c.CredentialHash {
		return nil
	}
	c.CredentialHash = hash
	r.describe(c, raw)
	return r.Store.SetCredentialHash(ctx, c.ID, c.KubeconfigPath, hash, c.Credential)
}

// describe notes what a kubeconfig says of itself; nothing of one that cannot be
// used.
func (r *Registry) describe(c *fleet.Cluster, raw []byte) {
	var err error
	if c.Credential, err = r.Kubeconfigs.Facts(raw, reading(c)); err != nil {
		c.Credential = fleet.CredentialFacts{}
	}
}

// hashOf identifies the bytes of a kubeconfig without revealing them: only
// secrets with far too much randomness to be guessed make one worth hiding.
func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// changed tells whoever keeps something of the cluster that it is outdated.
func (r *Registry) changed(id string) {
	if r.Changed != nil {
		r.Changed(id)
	}
}

func (r *Registry) audit(actor fleet.Actor, action, id string) fleet.AuditEntry {
	return fleet.AuditEntry{
		At: time.Now(), Actor: actor.Email, Address: actor.Address,
		Action: "cluster." + action, Target: "cluster/" + id, Outcome: "ok",
	}
}

// refused records an attempt that was turned away, and returns why.
func (r *Registry) refused(ctx context.Context, actor fleet.Actor, action, id string, why error) error {
	var shown *fleet.Error
	if !errors.As(why, &shown) {
		return why
	}
	entry := r.audit(actor, action, id)
	entry.Outcome, entry.Reason = "refused", shown.Message
	// Also when whoever tried has hung up.
	if err := r.Store.Audit(context.WithoutCancel(ctx), entry.Folded()); err != nil {
		r.Logger.ErrorContext(ctx, "write audit entry", "err", err)
	}
	return why
}
