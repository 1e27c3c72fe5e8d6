package cloud_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"portolan/internal/cloudtest"
	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

var managed = cloud.Stanza{Command: "kubelogin", Args: []string{"get-token", "--login", "msi", "--server-id", cloudtest.AKSServer}}

// source is one way to tokens, with what stands at its other end.
type source struct {
	stanza   cloud.Stanza
	cred     fleet.CloudCredential
	options  cloud.Options
	check    cloudtest.Check
	given    func() int // nil = none is fetched
	lifetime time.Duration
}

// sources are all ways that can be gone without a network.
func sources(t *testing.T) map[string]source {
	const hour = time.Hour
	google, entra := cloudtest.NewGoogle(t, hour), cloudtest.NewEntra(t, 75*time.Minute)
	other, machine := cloudtest.NewGoogle(t, hour), cloudtest.NewIdentities(t, entra, 24*hour)
	aws := &cloudtest.AWS{Cluster: "harbour", Keys: map[string]string{keyID: secret}}
	const role = "arn:aws:iam::123456789012:role/pilot"
	roled := cloud.Stanza{Command: "aws", Args: []string{"--region", "eu-west-1", "eks", "get-token", "--cluster-name", "harbour", "--role-arn", role}}
	return map[string]source{
		"EKS by assumed role": {
			stanza: roled, cred: fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: keyID, AWSSecretAccessKey: secret},
			options: cloud.Options{HTTP: cloudtest.InsideSTS(aws, role)}, check: aws.Check, lifetime: 15 * time.Minute,
		},
		"EKS by access key": {
			stanza: cloud.Stanza{Command: "aws", Args: []string{"--region", "eu-west-1", "eks", "get-token", "--cluster-name", "harbour"}},
			cred:   fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: keyID, AWSSecretAccessKey: secret},
			check:  aws.Check, lifetime: 15 * time.Minute,
		},
		"GKE by service account key": {
			stanza:  cloud.Stanza{Command: "gke-gcloud-auth-plugin"},
			cred:    fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: google.KeyJSON},
			options: cloud.Options{GoogleTokens: google.URL, HTTP: google.Inside()}, check: google.Check, given: google.Given, lifetime: hour,
		},
		"GKE by impersonation": {
			stanza:  cloud.Stanza{Command: "gke-gcloud-auth-plugin", Args: []string{"--impersonate_service_account", other.Impersonated}},
			cred:    fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: other.KeyJSON},
			options: cloud.Options{GoogleTokens: other.URL, GoogleIAM: other.IAM, HTTP: other.Inside()}, check: other.Check, lifetime: hour,
			given: func() int { return other.Given() / 2 }, // its own, and the other account's
		},
		"AKS by application": {
			stanza:  cloud.Stanza{Command: "kubelogin", Args: []string{"get-token"}},
			cred:    fleet.CloudCredential{Cloud: fleet.CloudAzure, AzureTenantID: entra.Tenant, AzureClientID: entra.Client, AzureClientSecret: entra.Secret},
			options: cloud.Options{EntraAuthority: entra.URL, HTTP: entra.Inside()}, check: entra.Check, given: entra.Given, lifetime: entra.Lifetime,
		},
		"AKS by managed identity": {
			stanza: managed, options: cloud.Options{HTTP: machine.HTTP}, check: entra.Check, given: machine.Given, lifetime: machine.Lifetime,
		},
	}
}

func TestTokensAreRenewedWellBeforeTheyEnd(t *testing.T) {
	t.Parallel()
	for name, s := range sources(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.outlived(t)
		})
	}
}

// Not parallel: the environment is the whole process's.
func TestTokensOfTheMachineAreRenewedWellBeforeTheyEnd(t *testing.T) {
	google := cloudtest.NewGoogle(t, time.Hour)
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, []byte(google.LocalKeyJSON(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file+".none")
	t.Setenv("AWS_CONFIG_FILE", file+".none")
	const role, pod = "arn:aws:iam::123456789012:role/portolan", "token.of.the-pod"
	if err := os.WriteFile(file+".pod", []byte(pod), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ROLE_ARN", role)
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file+".pod")
	aws := &cloudtest.AWS{Cluster: "harbour", Keys: map[string]string{}}
	for name, s := range map[string]source{
		"GKE": {
			stanza: cloud.Stanza{Command: "gke-gcloud-auth-plugin"}, options: cloud.Options{HTTP: google.Inside()},
			check: google.Check, given: google.Given, lifetime: time.Hour,
		},
		"EKS": {
			stanza:  cloud.Stanza{Command: "aws", Args: []string{"--region", "eu-west-1", "eks", "get-token", "--cluster-name", "harbour"}},
			options: cloud.Options{HTTP: cloudtest.InsideWebIdentity(aws, role, pod, 25*time.Minute)}, check: aws.Check, lifetime: 15 * time.Minute,
		},
	} {
		t.Run(name, s.outlived)
	}
}

// outlived asks for tokens during three of their lifetimes.
func (s source) outlived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // hours pass at once
		made := tokens(t, s.stanza, s.cred, s.options)
		seen := map[string]time.Time{} // when each token was first given out
		step := s.lifetime / 120
		for began := time.Now(); time.Since(began) < 3*s.lifetime; <-time.After(step) {
			token, err := made.Token(t.Context())
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(began), err)
			}
			synctest.Wait() // for the next one, where it is being made
			if _, err := s.check(token.Value); err != nil {
				t.Fatalf("after %s: %v", time.Since(began), err)
			}
			if seen[token.Value].IsZero() {
				seen[token.Value] = time.Now()
			}
			// The cloud may be out of reach for a fifth of a token's life.
			if age := time.Since(seen[token.Value]); age > s.lifetime*4/5 {
				t.Fatalf("after %s, a token of %s is given out, good for %s", time.Since(began), age, s.lifetime)
			}
		}
		if n := len(seen); n < 3 || n > 6 {
			t.Errorf("%d tokens in three lifetimes", n)
		}
		if s.given != nil && s.given() != len(seen) {
			t.Errorf("%d tokens were fetched, %d were used", s.given(), len(seen))
		}
	})
}

func TestAManagedIdentityIsTheOneOfTheStanza(t *testing.T) {
	t.Parallel()
	entra := cloudtest.NewEntra(t, time.Hour)
	machine := cloudtest.NewIdentities(t, entra, time.Hour)
	as := func(args ...string) (string, error) {
		stanza := managed
		stanza.Args = append(args, stanza.Args...)
		token, err := tokens(t, stanza, fleet.CloudCredential{}, cloud.Options{HTTP: machine.HTTP}).Token(t.Context())
		if err != nil {
			return "", err
		}
		user, err := entra.Check(token.Value)
		if err != nil {
			t.Fatal(err)
		}
		return user.Username, nil
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"none named":     {nil, machine.System},
		"by client id":   {[]string{"--client-id", machine.Client}, machine.Assigned},
		"by resource id": {[]string{"--identity-resource-id=" + machine.Resource}, machine.Assigned},
	} {
		if got, err := as(test.args...); err != nil || got != test.want {
			t.Errorf("%s: as %q, want %q (%v)", name, got, test.want, err)
		}
	}
	_, err := as("--client-id", "77777777-0000-4000-8000-000000000000")
	var shown *fleet.Error
	if !errors.As(err, &shown) || shown.Code != fleet.CodeUnavailable {
		t.Fatalf("an identity that the machine has not: %v", err)
	}
	if want := "No AKS token could be made from the managed identity of Portolan's own machine. The machine's identity service says: identity not found."; shown.Message != want {
		t.Errorf("says %q, want %q", shown.Message, want)
	}
}

// TestAttack09NoTokenIsSharedBetweenClusters: Microsoft's library keeps those of
// managed identities for the whole process.
func TestAttack09NoTokenIsSharedBetweenClusters(t *testing.T) {
	t.Parallel()
	for name, s := range sources(t) {
		if s.given == nil {
			continue // made, not fetched
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one, other := tokens(t, s.stanza, s.cred, s.options), tokens(t, s.stanza, s.cred, s.options)
				first, err := one.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				second, err := other.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if first.Value == second.Value {
					t.Error("two clusters have the same token")
				}

				// One that the API server does not take is not given out again.
				refusing := one.Authorize(roundTripper(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody}, nil
				}))
				<-time.After(time.Minute)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://harbour.example", nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := refusing.RoundTrip(req); err != nil {
					t.Fatal(err)
				}
				if next, err := one.Token(t.Context()); err != nil || next.Value == first.Value {
					t.Errorf("a refused token is given out again (%v)", err)
				}
				synctest.Wait()
			})
		})
	}
}
