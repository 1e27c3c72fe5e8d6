package cloud_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"portolan/internal/cloudtest"
	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

// noAnswer is a way to a cloud on which none of its answers comes.
type noAnswer struct {
	way          http.RoundTripper
	says, remedy string
}

// noAnswers are what networks do, as errors that http.Transport gave for them,
// so that nothing is waited for.
func noAnswers(t *testing.T) map[string]noAnswer {
	t.Helper()
	fails := func(transport *http.Transport, address string) http.RoundTripper {
		t.Helper()
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
			t.Fatalf("%s answers", address)
		}
		return roundTripper(func(*http.Request) (*http.Response, error) { return nil, err })
	}
	answers := func(status int) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {"text/html"}}, Request: r,
				Body: io.NopCloser(strings.NewReader("<html><p>Please accept the rules of this network.</html>")),
			}, nil
		})
	}
	between := httptest.NewUnstartedServer(http.NotFoundHandler())
	between.Config.ErrorLog = log.New(io.Discard, "", 0)
	between.StartTLS()
	t.Cleanup(between.Close)
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(cut.Close)
	unresolved := &http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}}
	return map[string]noAnswer{
		"no name":             {fails(unresolved, "https://clouds.example"), ": the name clouds.example could not be resolved.", "look for a firewall"},
		"refused":             {fails(&http.Transport{}, "https://127.0.0.1:1"), ": the connection failed.", "look for a firewall"},
		"cut off":             {fails(&http.Transport{}, cut.URL), ": the request failed.", "look for a firewall"},
		"another certificate": {fails(&http.Transport{}, between.URL), "certificate signed by unknown authority", "SSL_CERT_FILE"},
		"a page":              {answers(http.StatusOK), ": an answer that cannot be read.", "look for a firewall"},
		"a refusing page":     {answers(http.StatusForbidden), "Forbidden", "look for a firewall"},
	}
}

// fails returns why there is no token, while time passes at once.
func fails(t *testing.T, stanza cloud.Stanza, cred fleet.CloudCredential, o cloud.Options) (shown *fleet.Error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		_, err := tokens(t, stanza, cred, o).Token(t.Context())
		if !errors.As(err, &shown) || shown.Code != fleet.CodeUnavailable {
			t.Fatalf("says %v", err)
		}
	})
	return shown
}

// Not parallel: the environment is the whole process's.
func TestWhatIsNoAnswerIsNotPutDownToTheApplication(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("a.pod's.token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	const tenant, client = "11111111-2222-4333-8444-555555555555", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
	sealed := fleet.CloudCredential{Cloud: fleet.CloudAzure, AzureTenantID: tenant, AzureClientID: client, AzureClientSecret: "a-secret"}
	for name, way := range noAnswers(t) {
		o := cloud.Options{HTTP: &http.Client{Transport: way.way}}
		for whose, shown := range map[string]*fleet.Error{
			"the sealed application " + client: fails(t, cloud.Stanza{Command: "kubelogin", Args: []string{"get-token"}}, sealed, o),
			"the workload identity of Portolan's own pod": fails(t, cloud.Stanza{
				Command: "kubelogin", Args: []string{"get-token", "-l", "workloadidentity", "--tenant-id", tenant, "--client-id", client},
			}, fleet.CloudCredential{}, o),
		} {
			if !strings.HasPrefix(shown.Message, "No AKS token could be made from "+whose) || !strings.Contains(shown.Message, way.says) ||
				!strings.Contains(shown.Remedy, way.remedy) || strings.Contains(shown.Remedy, "Seal") || strings.Contains(shown.Remedy, "secret") {
				t.Errorf("%s: %q, %q", name, shown.Message, shown.Remedy)
			}
		}
	}

	// What Entra ID itself says of a tenant is said of the tenant, at the first request too.
	refuses := roundTripper(func(r *http.Request) (*http.Response, error) {
		const text = `{"error": "invalid_tenant", "error_description": "AADSTS90002: Tenant 'x' not found. Trace ID: 0"}`
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(text))}, nil
	})
	shown := fails(t, cloud.Stanza{Command: "kubelogin", Args: []string{"get-token"}}, sealed, cloud.Options{HTTP: &http.Client{Transport: refuses}})
	if !strings.Contains(shown.Message, "AADSTS90002: Tenant 'x' not found.") || !strings.HasPrefix(shown.Remedy, "Check the tenant") {
		t.Errorf("an unknown tenant: %q, %q", shown.Message, shown.Remedy)
	}

	// What the machine lacks is no answer either.
	entra := cloudtest.NewEntra(t, time.Hour)
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file+".none")
	shown = fails(t, cloud.Stanza{Command: "kubelogin", Args: []string{"get-token", "-l", "workloadidentity", "--tenant-id", entra.Tenant, "--client-id", entra.Client}},
		fleet.CloudCredential{}, cloud.Options{EntraAuthority: entra.URL, HTTP: entra.Inside()})
	if !strings.Contains(shown.Remedy, "a pod with a federated workload identity") {
		t.Errorf("without a token of the pod: %q, %q", shown.Message, shown.Remedy)
	}
}

// Not parallel: the environment is the whole process's.
func TestWhatIsNoAnswerIsNotPutDownToTheServiceAccount(t *testing.T) {
	key := cloudtest.NewGoogle(t, time.Hour).KeyJSON
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	for name, way := range noAnswers(t) {
		for whose, cred := range map[string]fleet.CloudCredential{
			"the sealed service account ":             {Cloud: fleet.CloudGoogle, GCPServiceAccount: key},
			"Portolan's own Google Cloud credentials": {},
		} {
			shown := fails(t, cloud.Stanza{Command: "gke-gcloud-auth-plugin"}, cred, cloud.Options{HTTP: &http.Client{Transport: way.way}})
			if !strings.HasPrefix(shown.Message, "No GKE token could be made from "+whose) || !strings.Contains(shown.Message, way.says) ||
				!strings.Contains(shown.Remedy, way.remedy) {
				t.Errorf("%s: %q, %q", name, shown.Message, shown.Remedy)
			}
		}
	}
}

// Not parallel: the environment is the whole process's.
func TestOnlyWhatWasNotFoundIsSaidToBeMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "aws")
	if err := os.WriteFile(file+".pod", []byte("token.of.the-pod"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_EC2_METADATA_DISABLED",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file+".none")
	t.Setenv("AWS_CONFIG_FILE", file+".none")
	const role, other = "arn:aws:iam::123456789012:role/portolan", "arn:aws:iam::123456789012:role/pilot"
	plain := cloud.Stanza{Command: "aws", Args: []string{"--region", "eu-west-1", "eks", "get-token", "--cluster-name", "harbour"}}
	roled := plain
	roled.Args = append(roled.Args, "--role-arn", other)
	sealed := fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: keyID, AWSSecretAccessKey: secret}
	webIdentity := func(t *testing.T) {
		t.Setenv("AWS_ROLE_ARN", role)
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file+".pod")
	}
	none := func(*testing.T) {}
	keys := func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", keyID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	}
	for name, c := range map[string]struct {
		machine func(*testing.T)
		stanza  cloud.Stanza
		cred    fleet.CloudCredential
		whose   string // "" = nothing is found
	}{
		"sealed":              {none, roled, sealed, "the access key " + keyID + " by assuming the role " + other},
		"a pod":               {webIdentity, plain, fleet.CloudCredential{}, "the web identity of Portolan's own pod"},
		"a pod, and a role":   {webIdentity, roled, fleet.CloudCredential{}, "the web identity of Portolan's own pod"},
		"a key, and a role":   {keys, roled, fleet.CloudCredential{}, "Portolan's own AWS credentials by assuming the role " + other},
		"nothing":             {none, plain, fleet.CloudCredential{}, ""},
		"nothing, and a role": {none, roled, fleet.CloudCredential{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.machine(t)
			for way, w := range noAnswers(t) {
				shown := fails(t, c.stanza, c.cred, cloud.Options{HTTP: &http.Client{Transport: w.way}})
				says, remedy := "No EKS token could be made from "+c.whose+": ", w.remedy
				if way == "a refusing page" {
					w.says = ": an answer that cannot be read."
				}
				if c.whose == "" {
					says, w.says, remedy = "No EKS token could be made: ", "no AWS credentials were found.", "Seal an access key"
				}
				if !strings.HasPrefix(shown.Message, says) || !strings.Contains(shown.Message, w.says) || !strings.Contains(shown.Remedy, remedy) ||
					strings.Contains(shown.Remedy, "Seal") != (c.whose == "") {
					t.Errorf("%s: %q, %q", way, shown.Message, shown.Remedy)
				}
			}
		})
	}

	t.Run("refused", func(t *testing.T) {
		webIdentity(t)
		sts := cloudtest.InsideWebIdentity(&cloudtest.AWS{Cluster: "harbour"}, role, "another.token", time.Hour)
		shown := fails(t, roled, fleet.CloudCredential{}, cloud.Options{HTTP: sts})
		want := "No EKS token could be made from the web identity of Portolan's own pod. AWS says: AccessDenied: not authorized to perform sts:AssumeRoleWithWebIdentity."
		if shown.Message != want || !strings.Contains(shown.Remedy, "OpenID Connect provider") || strings.Contains(shown.Remedy, "key") {
			t.Errorf("%q, %q", shown.Message, shown.Remedy)
		}
	})
}
