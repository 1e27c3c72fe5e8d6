package kube_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/cloudtest"
	"portolan/internal/clustertest"
	"portolan/internal/fleet"
	"portolan/internal/kube"
	"portolan/internal/kube/cloud"
	"portolan/internal/kube/live"
)

// sky is a managed cluster and the stand-in for its cloud.
type sky struct {
	name   string
	admin  []byte // kubeconfig of an administrator
	stanza []byte // kubeconfig as the cloud's tool writes it
	sealed fleet.CloudCredential
	wrong  func(*sky) // makes it one with a secret that is not its own
	opts   kube.Options
	check  cloudtest.Check
	user   string // as whom the cluster knows the credential
}

// skies are the clouds' managed clusters, by the ways to their tokens.
var skies = map[string]string{"eks": "eks", "gke": "gke", "gke-impersonated": "gke", "aks": "aks", "aks-msi": "aks"}

// eachSky runs a test on the managed clusters of all clouds, whose tokens last
// as long as lifetime.
func eachSky(t *testing.T, lifetime time.Duration, test func(*testing.T, *sky)) {
	t.Parallel()
	for name, profile := range skies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, admin := clustertest.Kubeconfig(t, profile, "kwok")
			s := &sky{name: name, admin: admin, stanza: clustertest.ExecKubeconfig(t, profile, "kwok"), opts: opts}
			switch name {
			case "eks":
				// Each test has a key of its own: it would let in for the others.
				awsKey, awsSecret := strings.ToUpper("AKIA"+clustertest.UniqueName("")[1:]+"PORTOLAN"), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYportolanKEY"
				eks := &cloudtest.AWS{Cluster: clustertest.Name("eks", "kwok"), Keys: map[string]string{awsKey: awsSecret}, Lifetime: lifetime}
				s.check, s.user = eks.Check, "arn:aws:iam::123456789012:user/"+awsKey
				s.opts.Cloud.EKSLifetime = lifetime
				s.sealed = fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: awsKey, AWSSecretAccessKey: awsSecret}
				s.wrong = func(s *sky) { s.sealed.AWSSecretAccessKey = "not/the/secret" }
			case "gke":
				google := cloudtest.NewGoogle(t, lifetime)
				s.check, s.user = google.Check, google.Email
				s.opts.Cloud.GoogleTokens, s.opts.Cloud.HTTP = google.URL, google.HTTP
				s.sealed = fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: google.KeyJSON}
				s.wrong = func(s *sky) { s.sealed.GCPServiceAccount = cloudtest.NewGoogle(t, lifetime).KeyJSON }
			case "gke-impersonated":
				google := cloudtest.NewGoogle(t, lifetime)
				s.check, s.user = google.Check, google.Impersonated
				s.opts.Cloud.GoogleTokens, s.opts.Cloud.GoogleIAM, s.opts.Cloud.HTTP = google.URL, google.IAM, google.HTTP
				s.sealed = fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: google.KeyJSON}
				s.as(t, "--impersonate_service_account="+google.Impersonated)
				s.wrong = func(s *sky) { s.as(t, "--impersonate_service_account", "somebody@harbour.iam.gserviceaccount.com") }
			case "aks":
				entra := cloudtest.NewEntra(t, lifetime)
				s.check, s.user = entra.Check, entra.Client
				s.opts.Cloud.EntraAuthority, s.opts.Cloud.HTTP = entra.URL, entra.HTTP
				s.sealed = fleet.CloudCredential{Cloud: fleet.CloudAzure, AzureTenantID: entra.Tenant, AzureClientID: entra.Client, AzureClientSecret: entra.Secret}
				s.wrong = func(s *sky) { s.sealed.AzureClientSecret = "not~the.secret" }
			case "aks-msi":
				// By client id, from the metadata service of the machine.
				entra := cloudtest.NewEntra(t, lifetime)
				machine := cloudtest.NewIdentities(t, entra, lifetime)
				s.check, s.user = entra.Check, machine.Assigned
				s.opts.Cloud.HTTP = machine.HTTP
				s.as(t, "get-token", "--login", "msi", "--client-id", machine.Client, "--server-id", cloudtest.AKSServer)
				s.wrong = func(s *sky) { s.as(t, "get-token", "-l", "msi", "--client-id", "77777777-0000-4000-8000-000000000000") }
			}
			clustertest.Authenticate(t, profile, "kwok", cloudtest.Authenticator(t, s.check))
			test(t, s)
		})
	}
}

// as gives the stanza other arguments.
func (s *sky) as(t *testing.T, args ...string) {
	s.stanza = clustertest.Edit(t, s.stanza, func(c *api.Config) {
		for _, user := range c.AuthInfos {
			user.Exec.Args = args
		}
	})
}

// tokens makes tokens as clients do.
func (s *sky) tokens(t *testing.T) *cloud.Tokens {
	t.Helper()
	config, err := clientcmd.Load(s.stanza)
	if err != nil {
		t.Fatal(err)
	}
	exec := config.AuthInfos[config.Contexts[config.CurrentContext].AuthInfo].Exec
	recipe, refused, ours := cloud.Recognise(cloud.Stanza{Command: exec.Command, Args: exec.Args}, s.sealed.Cloud)
	if refused != nil || !ours {
		t.Fatalf("the stanza of %s is refused: %+v", s.name, refused)
	}
	tokens, err := cloud.NewTokens(recipe, s.sealed, s.opts.Cloud)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// present asks the real API server whose a token is, and returns its status.
func (s *sky) present(t *testing.T, token string) int {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: config.CAData}, BearerToken: token})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(config.Host + "/api/v1/namespaces/default")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestCloudTokensAreTakenAndBadOnesRefused(t *testing.T) {
	const lifetime = 12 * time.Second // of which a slow machine may take some on the way
	eachSky(t, lifetime, func(t *testing.T, s *sky) {
		namespace := clustertest.Namespace(t, clustertest.Client(t, s.admin))
		test := kube.NewTester(s.opts).Run(t.Context(), kube.TestRequest{Cluster: clusterRow(namespace), Kubeconfig: s.stanza, Cloud: s.sealed, Deadline: patience}, nil)
		if test.State != fleet.TestOK || test.Identity != s.user {
			logChecks(t, test)
			t.Fatalf("state %s as %q, want ok as %q", test.State, test.Identity, s.user)
		}

		good, err := s.tokens(t).Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.present(t, good.Value); got != http.StatusOK {
			t.Errorf("a good token: %d, want 200", got)
		}
		altered := []byte(good.Value)
		altered[len(altered)-8] ^= 1 // in the signature; of an opaque token, anywhere
		if got := s.present(t, string(altered)); got != http.StatusUnauthorized {
			t.Errorf("an altered token: %d, want 401", got)
		}

		// The API server remembers for ten seconds whom it has let in, so the
		// one that ends has not been shown before.
		over := time.NewTicker(50 * time.Millisecond)
		defer over.Stop()
		old := good
		for old.Value == good.Value { // one that is signed in the same second is the same
			<-over.C
			if old, err = s.tokens(t).Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for began := time.Now(); ; <-over.C {
			if _, err := s.check(old.Value); err != nil {
				break
			}
			if time.Since(began) > 3*lifetime {
				t.Fatal("the token does not end")
			}
		}
		if got := s.present(t, old.Value); got != http.StatusUnauthorized {
			t.Errorf("a token after its end: %d, want 401", got)
		}
	})
}

func TestAWrongCloudCredentialIsToldInTheCloudsWords(t *testing.T) {
	words := map[string]string{"eks": "access entry", "gke": "invalid_grant", "gke-impersonated": "PERMISSION_DENIED", "aks": "AADSTS7000215", "aks-msi": "identity not found"}
	eachSky(t, time.Minute, func(t *testing.T, s *sky) {
		stage := fleet.StageCredential
		if s.name == "eks" {
			stage = fleet.StageAuthenticate // no cloud is asked before
		}
		right := s.sealed
		s.wrong(s)
		test := kube.NewTester(s.opts).Run(t.Context(), kube.TestRequest{Cluster: clusterRow("default"), Kubeconfig: s.stanza, Cloud: s.sealed, Deadline: patience}, nil)
		check(t, test, stage, fleet.CheckFailed, words[s.name])
		for _, c := range test.Checks {
			for _, secret := range []string{"not/the/secret", "not~the.secret", "PRIVATE KEY", "k8s-aws-v1.", right.AzureClientSecret} {
				if secret != "" && strings.Contains(c.Message+c.Remedy, secret) {
					t.Errorf("%s shows a secret: %s %s", c.Stage, c.Message, c.Remedy)
				}
			}
		}
	})
}

// TestAttack02TheMachinesTokensGoToNoOtherServer: a kubeconfig that names a
// cloud's program gets a token of Portolan's own to wherever it says.
func TestAttack02TheMachinesTokensGoToNoOtherServer(t *testing.T) {
	t.Parallel()
	entra := cloudtest.NewEntra(t, time.Hour)
	machine := cloudtest.NewIdentities(t, entra, time.Hour)
	raw := kubeconfigWith("", "    exec: {command: kubelogin, args: [get-token, -l, msi]}\n")
	var asked atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	raw = string(clustertest.Edit(t, []byte(raw), func(c *api.Config) {
		for _, cluster := range c.Clusters {
			cluster.Server, cluster.CertificateAuthorityData = server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		}
	}))
	run := func(servers ...string) fleet.ConnectionTest {
		t.Helper()
		list, err := cloud.ParseServers(servers)
		if err != nil {
			t.Fatal(err)
		}
		limited := kube.Options{Cloud: cloud.Options{HTTP: machine.HTTP, Servers: list}}
		return kube.NewTester(limited).Run(t.Context(), kube.TestRequest{Cluster: clusterRow("default"), Kubeconfig: []byte(raw), Deadline: patience}, nil)
	}
	check(t, run("*.azmk8s.io", "10.0.0.0/8"), fleet.StageCredential, fleet.CheckFailed, "PORTOLAN_CLOUD_SERVERS")
	if machine.Given() > 0 || asked.Load() > 0 {
		t.Errorf("%d tokens were fetched, %d requests were made", machine.Given(), asked.Load())
	}
	check(t, run(), fleet.StageCredential, fleet.CheckWarning, "none of the addresses of Azure clusters")
	check(t, run("*.azmk8s.io", "127.0.0.1"), fleet.StageCredential, fleet.CheckOK, "AKS token")
}

// TestAttack02AListedNameIsNotEnough: whoever else answers to it, by a proxy or
// because no certificate is checked, gets none of the machine's tokens.
func TestAttack02AListedNameIsNotEnough(t *testing.T) {
	t.Parallel()
	entra := cloudtest.NewEntra(t, time.Hour)
	machine := cloudtest.NewIdentities(t, entra, time.Hour)
	var asked atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer proxy.Close()
	run := func(change func(*api.Cluster), servers ...string) fleet.ConnectionTest {
		t.Helper()
		raw := clustertest.Edit(t, []byte(kubeconfigWith("", "    exec: {command: kubelogin, args: [get-token, -l, msi]}\n")), func(c *api.Config) {
			for _, cluster := range c.Clusters {
				cluster.Server = "https://harbour-dns-0a1b2c3d.hcp.eastus2.azmk8s.io"
				change(cluster)
			}
		})
		list, err := cloud.ParseServers(servers)
		if err != nil {
			t.Fatal(err)
		}
		row := clusterRow("default")
		row.Allows = fleet.Allowances{Proxy: true, TLSSkip: true}
		limited := kube.Options{Cloud: cloud.Options{HTTP: machine.HTTP, Servers: list}}
		return kube.NewTester(limited).Run(t.Context(), kube.TestRequest{Cluster: row, Kubeconfig: raw, Deadline: patience}, nil)
	}
	through := func(c *api.Cluster) { c.ProxyURL = proxy.URL }
	check(t, run(through, "*.azmk8s.io"), fleet.StageCredential, fleet.CheckFailed, "proxy")
	check(t, run(func(c *api.Cluster) {
		c.InsecureSkipTLSVerify, c.CertificateAuthorityData = true, nil
	}, "*.azmk8s.io"), fleet.StageCredential, fleet.CheckFailed, "whoever answers")
	if machine.Given() > 0 || asked.Load() > 0 {
		t.Errorf("%d tokens were fetched, %d requests were made", machine.Given(), asked.Load())
	}
	check(t, run(through, "*.azmk8s.io", "127.0.0.1"), fleet.StageCredential, fleet.CheckOK, "AKS token")
}

// strict stands before an API server, lets in whom check knows, and ends what
// is under way when its token does, as some providers' front ends do.
type strict struct {
	*httptest.Server
	again   atomic.Int64 // requests whose token had been refused, or followed by another, before they were sent
	mu      sync.Mutex
	tokens  map[string]bool // that were let in
	latest  string          // of them
	refused map[string]bool
}

// seen is how many tokens have been let in.
func (s *strict) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tokens)
}

// refuse notes that a token has ended when it arrives. On a slow machine that may
// have happened on the way, but not to one that its only sender, which sends one
// request after the other, knows to be refused or has replaced.
func (s *strict) refuse(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused[token] || s.tokens[token] && s.latest != token {
		s.again.Add(1)
	}
	s.refused[token] = true
}

func newStrict(t *testing.T, admin []byte, check cloudtest.Check) *strict {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Transport: upstream, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Header.Del("Authorization")
	}}
	s := &strict{tokens: map[string]bool{}, refused: map[string]bool{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := check(token); err != nil {
			s.refuse(token)
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		s.tokens[token], s.latest = true, token
		s.mu.Unlock()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			again := time.NewTicker(50 * time.Millisecond)
			defer again.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-again.C:
				}
				if _, err := check(token); err != nil {
					cancel()
				}
			}
		}()
		defer func() { _ = recover() }() // how a proxy ends an answer half-way
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// lead returns the kubeconfig, leading to the strict front end.
func (s *strict) lead(t *testing.T, raw []byte) []byte {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if !x509.NewCertPool().AppendCertsFromPEM(ca) {
		t.Fatal("no certificate")
	}
	return clustertest.Edit(t, raw, func(c *api.Config) {
		for _, cluster := range c.Clusters {
			cluster.Server, cluster.CertificateAuthorityData = s.URL, ca
		}
	})
}

// sealedSource is a Source of one kubeconfig with a sealed cloud credential.
type sealedSource struct {
	raw  []byte
	cred fleet.CloudCredential
}

func (s sealedSource) Kubeconfig(context.Context, *fleet.Cluster) ([]byte, error) { return s.raw, nil }

func (s sealedSource) CloudCredential(context.Context, *fleet.Cluster) (fleet.CloudCredential, error) {
	return s.cred, nil
}

func TestAWatchOutlivesItsTokens(t *testing.T) {
	const lifetime, lifetimes = 3 * time.Second, 3
	eachSky(t, lifetime, func(t *testing.T, s *sky) {
		front := newStrict(t, s.admin, s.check)
		kubectl := clustertest.Client(t, s.admin)
		namespace := clustertest.Namespace(t, kubectl)
		row := clusterRow(namespace)
		if s.sealed.Cloud != "" {
			row.Cloud = s.sealed.Identity()
		}
		clients := kube.NewClients(sealedSource{front.lead(t, s.stanza), s.sealed}, s.opts)
		defer clients.Close()

		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		client, err := clients.Get(ctx, &row)
		if err != nil {
			t.Fatal(err)
		}
		_, version, err := live.List[live.Meta](ctx, client.API, live.ConfigMaps, namespace, live.Query{Fields: "metadata.name=none"})
		if err != nil {
			t.Fatal(err)
		}
		var made atomic.Int64
		var making sync.WaitGroup
		making.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			// At least so long, and longer where the machine is slow.
			for began := time.Now(); ctx.Err() == nil && (time.Since(began) < lifetimes*lifetime || front.seen() <= lifetimes); <-tick.C {
				name := fmt.Sprintf("n%04d", made.Load())
				if _, err := kubectl.CoreV1().ConfigMaps(namespace).Create(ctx, &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
					t.Error(err)
					break
				}
				made.Add(1)
			}
			_, err := kubectl.CoreV1().ConfigMaps(namespace).Create(ctx, &core.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "the-end"}}, metav1.CreateOptions{})
			if err != nil {
				t.Error(err)
				cancel()
			}
		})

		var seen []string
		watches, done := 0, false
		for !done && ctx.Err() == nil {
			// The same client all the time, as the observer has it.
			watches++
			err := live.Watch(ctx, client.API, live.ConfigMaps, namespace, live.Query{}, version, func(change live.Change, o *struct {
				Metadata struct{ Name, ResourceVersion string } `json:"metadata"`
			}) error {
				version = o.Metadata.ResourceVersion
				if change == live.Added && strings.HasPrefix(o.Metadata.Name, "n") {
					seen = append(seen, o.Metadata.Name)
				}
				if done = o.Metadata.Name == "the-end"; done {
					return context.Canceled
				}
				return nil
			})
			if err != nil && !done {
				t.Logf("watch %d ended: %v", watches, err)
			}
		}
		making.Wait() // the watch may see the end before whoever made it hears of it
		if !done {
			t.Fatalf("the watch saw %d of %d and no end", len(seen), made.Load())
		}
		for i, name := range seen {
			if want := fmt.Sprintf("n%04d", i); name != want {
				t.Fatalf("saw %s, want %s: a gap", name, want)
			}
		}
		if n := made.Load(); int64(len(seen)) != n {
			t.Errorf("saw %d of %d", len(seen), n)
		}
		if n := front.again.Load(); n > 0 {
			t.Errorf("%d requests carried a token that had ended", n)
		}
		t.Logf("%d objects seen in %d watches with %d tokens", len(seen), watches, front.seen())
	})
}
