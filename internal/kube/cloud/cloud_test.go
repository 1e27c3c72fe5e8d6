package cloud_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
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
	if _, err := made.Token(t.Context()); err == nil {
		t.Fatal("a token from a wrong secret")
	}
	first := way.n.Load()
	for range 20 {
		if _, err := made.Token(t.Context()); err == nil {
			t.Fatal("a token from a wrong secret")
		}
	}
	if n := way.n.Load(); n != first {
		t.Errorf("%d requests for one failure, then %d", first, n)
	}
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
