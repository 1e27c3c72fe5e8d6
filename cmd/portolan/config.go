package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/cloud"
	"portolan/internal/seal"
)

// databaseConfig says where the rows are.
type databaseConfig struct {
	DatabaseURL string `env:"PORTOLAN_DATABASE_URL" placeholder:"URL" help:"PostgreSQL, as postgres://user:password@host/database."`
}

// logConfig says what is logged.
type logConfig struct {
	LogLevel string `env:"PORTOLAN_LOG_LEVEL" enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: ${enum}."`
}

// logger writes lines of key=value pairs to standard error.
func (c logConfig) logger() *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // kong's enum allows no other words
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// clusterConfig is what every process that speaks to clusters needs.
type clusterConfig struct {
	KubeconfigsDir string        `env:"PORTOLAN_KUBECONFIGS_DIR" default:"kubeconfigs" help:"Folder of the mounted kubeconfigs."`
	EncryptionKeys string        `env:"PORTOLAN_ENCRYPTION_KEYS" placeholder:"ID:KEY,…" help:"Keys for what is sealed in the database, as id:base64-of-32-bytes, separated by commas. The first one seals."`
	AllowCIDRs     []string      `name:"allow-cidrs" env:"PORTOLAN_ALLOW_CIDRS" placeholder:"CIDR,…" help:"Addresses that API servers may have; empty: any but the ones that are always refused."`
	DenyCIDRs      []string      `name:"deny-cidrs" env:"PORTOLAN_DENY_CIDRS" placeholder:"CIDR,…" help:"Addresses that API servers may not have."`
	CloudServers   []string      `name:"cloud-servers" env:"PORTOLAN_CLOUD_SERVERS" placeholder:"HOST,…" help:"API servers (host names, *.domains, CIDRs) that tokens made from Portolan's own cloud credentials may go to; empty: any, with a warning where it is none of the cloud's."`
	TestInterval   time.Duration `env:"PORTOLAN_TEST_INTERVAL" default:"10m" help:"How often the connection tests of clusters run again by themselves."`
	TestDeadline   time.Duration `env:"PORTOLAN_TEST_DEADLINE" default:"15s" help:"Bound on a whole connection test."`
	MaxTests       int           `env:"PORTOLAN_MAX_TESTS" default:"32" help:"Connection tests that this process runs at a time."`
}

func (c clusterConfig) keyring() (*seal.Keyring, error) {
	ring, err := seal.ParseKeyring(c.EncryptionKeys)
	if err != nil {
		return nil, fmt.Errorf("PORTOLAN_ENCRYPTION_KEYS: %w", err)
	}
	return ring, nil
}

// check refuses settings by which clusters would be tested without a pause, or
// never.
func (c clusterConfig) check() error {
	switch {
	case c.TestInterval <= 0:
		return fmt.Errorf("PORTOLAN_TEST_INTERVAL: must be more than 0, not %s", c.TestInterval)
	case c.TestDeadline <= 0:
		return fmt.Errorf("PORTOLAN_TEST_DEADLINE: must be more than 0, not %s", c.TestDeadline)
	case c.MaxTests <= 0:
		return fmt.Errorf("PORTOLAN_MAX_TESTS: must be more than 0, not %d", c.MaxTests)
	}
	return nil
}

func (c clusterConfig) policy() (kube.AddressPolicy, error) {
	allow, err := prefixes("PORTOLAN_ALLOW_CIDRS", c.AllowCIDRs)
	if err != nil {
		return kube.AddressPolicy{}, err
	}
	deny, err := prefixes("PORTOLAN_DENY_CIDRS", c.DenyCIDRs)
	return kube.AddressPolicy{Allow: allow, Deny: deny}, err
}

func (c clusterConfig) cloudServers() (cloud.Servers, error) {
	servers, err := cloud.ParseServers(c.CloudServers)
	if err != nil {
		return servers, fmt.Errorf("PORTOLAN_CLOUD_SERVERS: %w", err)
	}
	return servers, nil
}

func prefixes(name string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not a CIDR such as 10.0.0.0/8", name, text)
		}
		if p.Addr().Is4In6() { // addresses are compared as IPv4, which it would never match
			return nil, fmt.Errorf("%s: write %q as IPv4, such as 10.0.0.0/8", name, text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// webConfig is what the web pages need.
type webConfig struct {
	Listen         string   `env:"PORTOLAN_LISTEN" default:"127.0.0.1:8080" help:"Address of the web pages."`
	MetricsListen  string   `env:"PORTOLAN_METRICS_LISTEN" placeholder:"ADDRESS" help:"Address of /metrics, /healthz and /readyz, apart from the pages; empty: none (a worker then uses 127.0.0.1:9464)."`
	PublicURL      string   `env:"PORTOLAN_PUBLIC_URL" placeholder:"URL" help:"Address that browsers use, such as https://portolan.example.com. With https, cookies are marked Secure."`
	TrustedProxies []string `env:"PORTOLAN_TRUSTED_PROXIES" placeholder:"CIDR,…" help:"Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."`
	TLSCert        string   `name:"tls-cert" env:"PORTOLAN_TLS_CERT" placeholder:"FILE" help:"Certificate chain (PEM) with which the pages are served by TLS; read again when it changes."`
	TLSKey         string   `name:"tls-key" env:"PORTOLAN_TLS_KEY" placeholder:"FILE" help:"Private key (PEM) of that certificate."`
	AdminEmail     string   `env:"PORTOLAN_ADMIN_EMAIL" placeholder:"EMAIL" help:"First admin, made at the first start in place of /setup."`
	AdminPassword  string   `env:"PORTOLAN_ADMIN_PASSWORD" placeholder:"PASSWORD" help:"Password of that admin."`
}

// retentionConfig says how long the past is kept: workers remove it, pages tell
// of it.
type retentionConfig struct {
	RetainAudit      kept `env:"PORTOLAN_RETAIN_AUDIT" default:"365d" placeholder:"TIME" help:"How long entries of the audit log are kept, such as 90d or 12h; 0: for ever (${default})."`
	RetainOperations kept `env:"PORTOLAN_RETAIN_OPERATIONS" default:"180d" placeholder:"TIME" help:"How long finished operations are kept; a workload's latest one stays; 0: for ever (${default})."`
	RetainEvents     kept `env:"PORTOLAN_RETAIN_EVENTS" default:"30d" placeholder:"TIME" help:"How long the events of finished operations are kept; 0: as long as the operation (${default})."`
	RetainTests      kept `env:"PORTOLAN_RETAIN_TESTS" default:"90d" placeholder:"TIME" help:"How long connection tests are kept, of which there are 50 a cluster at most; a cluster's latest one stays; 0: for ever (${default})."`
}

func (c retentionConfig) retention() fleet.Retention {
	return fleet.Retention{
		Audit: time.Duration(c.RetainAudit), Operations: time.Duration(c.RetainOperations),
		Events: time.Duration(c.RetainEvents), Tests: time.Duration(c.RetainTests),
	}
}

// kept is a time that may be given in days.
type kept time.Duration

// UnmarshalText reads what fleet.ParseKept does.
func (k *kept) UnmarshalText(text []byte) error {
	d, err := fleet.ParseKept(string(text))
	*k = kept(d)
	return err
}

// workerConfig is what the work on operations needs.
type workerConfig struct {
	TakeoverAfter time.Duration `env:"PORTOLAN_TAKEOVER_AFTER" default:"10s" help:"An operation whose worker has shown no life for that long is taken over."`
	Workers       int           `env:"PORTOLAN_WORKERS" default:"32" help:"Operations that this process works on at a time."`
}

// secretVariables may come from a file named by the variable with _FILE behind
// it, as container platforms hand secrets over.
var secretVariables = []string{
	"PORTOLAN_DATABASE_URL", "PORTOLAN_ENCRYPTION_KEYS", "PORTOLAN_ADMIN_EMAIL", "PORTOLAN_ADMIN_PASSWORD",
}

// maxSecretFile bounds what is read of such a file.
const maxSecretFile = 1 << 20

// secretsFromFiles sets each secret variable from the file that its _FILE
// variable names. Both set is an error: one of them is a mistake.
func secretsFromFiles(environ func() []string, set func(name, value string) error) error {
	env := map[string]string{}
	for _, entry := range environ() {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	for _, name := range secretVariables {
		path := env[name+"_FILE"]
		if path == "" {
			continue
		}
		if env[name] != "" {
			return fmt.Errorf("%s and %s_FILE are both set: keep one", name, name)
		}
		value, err := readSecret(path)
		if err != nil {
			return fmt.Errorf("%s_FILE: %w", name, err)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(text))
	if value == "" {
		return "", errors.New("the file is empty")
	}
	return value, nil
}
