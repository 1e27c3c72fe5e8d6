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
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := silent.Addr().String()
	silent.Close()
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
		"refused":             {fails(&http.Transport{}, "https://"+closed), ": the connection failed.", "look for a firewall"},
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
