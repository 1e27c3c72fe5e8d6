package cloud_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"portolan/internal/cloudtest"
	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

const keyID, secret = "AKIAIOSFODNN7PORTOLAN", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYportolanKEY"

func tokens(t *testing.T, stanza cloud.Stanza, cred fleet.CloudCredential, o cloud.Options) *cloud.Tokens {
	t.Helper()
	recipe, refused, ours := cloud.Recognise(stanza, cred.Cloud)
	if refused != nil || !ours {
		t.Fatalf("refused: %+v", refused)
	}
	made, err := cloud.NewTokens(recipe, cred, o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestEKSAssumesTheRoleOfTheStanza(t *testing.T) {
	t.Parallel()
	const role = "arn:aws:iam::123456789012:role/deployers/pilot"
	aws := &cloudtest.AWS{Cluster: "harbour", Keys: map[string]string{keyID: secret}}
	sts := cloudtest.NewSTS(t, aws, role)
	cred := fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: keyID, AWSSecretAccessKey: secret}
	options := cloud.Options{STS: sts.URL, HTTP: sts.Client()}
	for name, stanza := range map[string]cloud.Stanza{
		"aws":                   {Command: "/usr/local/bin/aws", Args: []string{"--region", "eu-west-1", "eks", "get-token", "--cluster-name", "harbour", "--role-arn", role}},
		"aws-iam-authenticator": {Command: "aws-iam-authenticator", Args: []string{"token", "-i", "harbour", "-r", role}, Server: "https://0A.gr7.eu-west-1.eks.amazonaws.com"},
	} {
		token, err := tokens(t, stanza, cred, options).Token(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		user, err := aws.Check(token.Value)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if user.Username == "arn:aws:iam::123456789012:user/"+keyID {
			t.Errorf("%s: the token is of the key itself, not of the role", name)
		}
	}

	stanza := cloud.Stanza{Command: "aws", Args: []string{"--region", "eu-west-1", "eks", "get-token", "--cluster-name", "harbour", "--role-arn", role + "s"}}
	_, err := tokens(t, stanza, cred, options).Token(t.Context())
	var shown *fleet.Error
	if !errors.As(err, &shown) || shown.Code != fleet.CodeUnavailable {
		t.Fatalf("for another role: %v", err)
	}
	if want := "No EKS token could be made from the access key " + keyID + " by assuming the role " + role + "s. AWS says: AccessDenied: not authorized to perform sts:AssumeRole."; shown.Message != want {
		t.Errorf("says %q, want %q", shown.Message, want)
	}
}

// TestOnlyARefusalIsPutDownToTheRole: a role that is missing is one reason among
// several why there is no token by impersonation.
func TestOnlyARefusalIsPutDownToTheRole(t *testing.T) {
	t.Parallel()
	google := cloudtest.NewGoogle(t, time.Hour)
	cred := fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: google.KeyJSON}
	stanza := cloud.Stanza{Command: "gke-gcloud-auth-plugin", Args: []string{"--impersonate_service_account", google.Impersonated}}
	const denied = `{"error": {"status": "PERMISSION_DENIED", "message": "no"}}`
	for name, c := range map[string]struct {
		status       int
		body         string
		says, remedy string
	}{
		"refused":       {http.StatusForbidden, denied, "Google says: PERMISSION_DENIED: no.", "Token Creator"},
		"absent":        {http.StatusNotFound, denied, "Google says: ", "Token Creator"},
		"too often":     {http.StatusTooManyRequests, `{}`, "Google says: 429 Too Many Requests.", "Try again"},
		"broken":        {http.StatusInternalServerError, `{}`, "Google says: 500 ", "Try again"},
		"a proxy":       {http.StatusForbidden, "<html>", "Google says: 403 Forbidden.", "HTTPS_PROXY"},
		"another thing": {http.StatusOK, "<html>", ": an answer that cannot be read.", "HTTPS_PROXY"},
		"nothing in it": {http.StatusOK, "{}", ": an answer that cannot be read.", "HTTPS_PROXY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			iam := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			t.Cleanup(iam.Close)
			options := cloud.Options{GoogleTokens: google.URL, GoogleIAM: iam.URL, HTTP: google.HTTP}
			_, err := tokens(t, stanza, cred, options).Token(t.Context())
			var shown *fleet.Error
			if !errors.As(err, &shown) {
				t.Fatalf("says %v", err)
			}
			if !strings.Contains(shown.Message, c.says) || !strings.Contains(shown.Remedy, c.remedy) ||
				strings.Contains(shown.Remedy, "Token Creator") != (c.remedy == "Token Creator") {
				t.Errorf("says %q, %q", shown.Message, shown.Remedy)
			}
		})
	}
}

func TestOneTokenIsMadeForAll(t *testing.T) {
	t.Parallel()
	google := cloudtest.NewGoogle(t, time.Hour)
	cred := fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: google.KeyJSON}
	made := tokens(t, cloud.Stanza{Command: "gke-gcloud-auth-plugin"}, cred, cloud.Options{GoogleTokens: google.URL, HTTP: google.HTTP})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := made.Token(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := google.Given(); n != 1 {
		t.Errorf("%d tokens were fetched", n)
	}
}

// counted counts the requests that go through it.
type counted struct {
	next http.RoundTripper
	n    atomic.Int64
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

func TestAFailureIsNotHammered(t *testing.T) {
	t.Parallel()
	entra := cloudtest.NewEntra(t, time.Hour)
	way := &counted{next: entra.HTTP.Transport}
	cred := fleet.CloudCredential{Cloud: fleet.CloudAzure, AzureTenantID: entra.Tenant, AzureClientID: entra.Client, AzureClientSecret: "wrong"}
	made := tokens(t, cloud.Stanza{Command: "kubelogin", Args: []string{"get-token"}}, cred, cloud.Options{EntraAuthority: entra.URL, HTTP: &http.Client{Transport: way}})
	began := time.Now()
	if _, err := made.Token(t.Context()); err == nil {
		t.Fatal("a token from a wrong secret")
	}
	first := way.n.Load()
	for range 20 {
		if _, err := made.Token(t.Context()); err == nil {
			t.Fatal("a token from a wrong secret")
		}
	}
	// On a slow machine the time comes for another try.
	if n, tries := way.n.Load(), 1+int64(time.Since(began)/(2*time.Second)); n > first*tries {
		t.Errorf("%d requests for one failure, then %d in %s", first, n, time.Since(began))
	}
}

// Not parallel: the environment is the whole process's.
func TestRotatedCredentialsOfTheMachineAreTakenUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	for name, value := range map[string]string{
		"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_CONFIG_FILE": file + ".none", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	} {
		t.Setenv(name, value)
	}
	rotate := func(id string) {
		text := "[default]\naws_access_key_id = " + id + "\naws_secret_access_key = " + secret + "\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) { // time passes at once
		aws := &cloudtest.AWS{Cluster: "harbour", Keys: map[string]string{}}
		stanza := cloud.Stanza{Command: "aws", Args: []string{"--region", "eu-west-1", "eks", "get-token", "--cluster-name", "harbour"}}
		made := tokens(t, stanza, fleet.CloudCredential{}, cloud.Options{})
		if _, err := made.Token(t.Context()); err == nil {
			t.Fatal("a token without a credential")
		}
		rotate(keyID)
		aws.Keys[keyID] = secret
		<-time.After(time.Minute)
		server := made.Authorize(roundTripper(func(r *http.Request) (*http.Response, error) {
			status := http.StatusOK
			if _, err := aws.Check(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); err != nil {
				status = http.StatusUnauthorized
			}
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		}))
		answers := func() int {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://harbour.example", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := server.RoundTrip(req)
			if err != nil {
				t.Fatalf("after the credential came: %v", err)
			}
			return resp.StatusCode
		}
		if got := answers(); got != http.StatusOK {
			t.Fatalf("with the first key: %d", got)
		}

		const next = keyID + "NEXT"
		rotate(next)
		aws.Keys = map[string]string{next: secret}
		<-time.After(time.Minute)
		if got := answers(); got != http.StatusUnauthorized {
			t.Fatalf("with the deleted key: %d", got)
		}
		if got := answers(); got != http.StatusOK {
			t.Errorf("with the key that took its place: %d", got)
		}
	})
}

func TestACloudThatIsSilentHoldsNobody(t *testing.T) {
	t.Parallel()
	google := cloudtest.NewGoogle(t, time.Hour)
	silent := roundTripper(func(r *http.Request) (*http.Response, error) {
		<-t.Context().Done() // longer than anybody waits
		return nil, r.Context().Err()
	})
	cred := fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: google.KeyJSON}
	made := tokens(t, cloud.Stanza{Command: "gke-gcloud-auth-plugin"}, cred, cloud.Options{HTTP: &http.Client{Transport: silent}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := made.Token(ctx); fleet.CodeOf(err) != fleet.CodeUnavailable {
		t.Errorf("%v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestVariablesOfTerraformAreRefusedByName: with the option left aside, a token
// would be made from another application than the stanza asks for, or from none.
func TestVariablesOfTerraformAreRefusedByName(t *testing.T) {
	t.Parallel()
	const option = "--use-azurerm-env-vars"
	for _, login := range []string{"spn", "workloadidentity", "msi"} {
		stanza := cloud.Stanza{Command: "kubelogin", Args: []string{"get-token", "-l", login, option}}
		_, refused, _ := cloud.Recognise(stanza, "")
		if refused == nil || !strings.Contains(refused.What, option) || !strings.Contains(refused.Remedy, "AZURE_CLIENT_ID") {
			t.Errorf("%s: %+v", login, refused)
		}
		// A sealed application logs in, whatever the stanza says of its own.
		if _, refused, _ := cloud.Recognise(stanza, fleet.CloudAzure); refused != nil {
			t.Errorf("%s, with an application: %+v", login, refused)
		}
		stanza.Args[len(stanza.Args)-1] += "=false"
		if _, refused, _ := cloud.Recognise(stanza, ""); refused != nil {
			t.Errorf("%s, %v: %+v", login, stanza.Args, refused)
		}
	}
}
