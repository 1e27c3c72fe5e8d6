package cloud_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

func TestServersAreComparedByNameAndAddress(t *testing.T) {
	t.Parallel()
	s, err := cloud.ParseServers([]string{"*.EKS.amazonaws.com", " api.harbour.example. ", "10.0.0.0/8", "203.0.113.7", "::ffff:198.51.100.7", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	for server, want := range map[string]bool{
		"https://0A.gr7.eu-west-1.eks.amazonaws.com":  true,
		"https://0A.gr7.EU-west-1.EKS.amazonaws.com.": true,
		"https://api.harbour.example:6443/path":       true,
		"https://10.1.2.3:6443":                       true,
		"https://[::ffff:10.1.2.3]:6443":              true,
		"https://203.0.113.7":                         true,
		"https://198.51.100.7":                        true,
		"https://[::ffff:198.51.100.7]":               true,
		"https://[2001:db8::1]:443":                   true,
		"https://eks.amazonaws.com":                   false,
		"https://evileks.amazonaws.com":               false,
		"https://x.eks.amazonaws.com.evil.example":    false,
		"https://x.api.harbour.example":               false,
		"https://evil.example/.eks.amazonaws.com":     false,
		"https://203.0.113.8":                         false,
		"https://10.evil.example":                     false,
		"":                                            false,
	} {
		if got := s.Has(server); got != want {
			t.Errorf("%s: %t, want %t", server, got, want)
		}
	}
	for _, bad := range []string{"", "*", "*.", "*.*.example", "https://api.example", "a b", "10.0.0.0/33", "::ffff:10.0.0.0/104", "a.*"} {
		if _, err := cloud.ParseServers([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if empty, err := cloud.ParseServers(nil); err != nil || !empty.Empty() || empty.Has("https://10.1.2.3") || s.Empty() {
		t.Error("an empty list is not empty")
	}

	for server, whose := range map[string]fleet.Cloud{
		"https://0A.gr7.eu-west-1.eks.amazonaws.com": fleet.CloudAWS, "https://0A.gr7.eu-west-1.api.aws": fleet.CloudAWS,
		"https://harbour-dns-0a1b2c3d.hcp.eastus2.azmk8s.io:443": fleet.CloudAzure,
		"https://gke-0a.us-central1.gke.goog":                    fleet.CloudGoogle, "https://203.0.113.17": fleet.CloudGoogle,
	} {
		for _, c := range []fleet.Cloud{fleet.CloudAWS, fleet.CloudAzure, fleet.CloudGoogle} {
			if got := cloud.Theirs(c, server); got != (c == whose) {
				t.Errorf("%s is one of %s: %t", server, c, got)
			}
		}
	}
}

// TestEveryPartitionOfAWSIsKnown asks AWS's own library for the partitions'
// domains.
func TestEveryPartitionOfAWSIsKnown(t *testing.T) {
	t.Parallel()
	sealed := fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: keyID, AWSSecretAccessKey: secret}
	endpoint := func(region string, both bool) (host, suffix string) {
		t.Helper()
		found, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sts.EndpointParameters{Region: aws.String(region), UseDualStack: aws.Bool(both)})
		if err != nil {
			t.Fatal(err)
		}
		suffix, ok := strings.CutPrefix(found.URI.Host, "sts."+region+".")
		if !ok {
			t.Fatalf("%s: STS is %s", region, found.URI.Host)
		}
		return found.URI.Host, suffix
	}
	for _, region := range []string{
		"eu-west-1", "ap-southeast-7", "us-gov-west-1", "cn-northwest-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1", "us-isof-south-1",
	} {
		host, ipv4 := endpoint(region, false)
		_, both := endpoint(region, true)
		for _, server := range []string{"https://0A.gr7." + region + ".eks." + ipv4, "https://0A." + region + "." + both + ":443"} {
			for _, c := range []fleet.Cloud{fleet.CloudAWS, fleet.CloudGoogle, fleet.CloudAzure} {
				if got := cloud.Theirs(c, server); got != (c == fleet.CloudAWS) {
					t.Errorf("%s is one of %s: %t", server, c, got)
				}
			}
			for name, stanza := range map[string]cloud.Stanza{
				"named":         {Command: "aws", Args: []string{"--region", region, "eks", "get-token", "--cluster-name", "harbour"}},
				"in the server": {Command: "aws-iam-authenticator", Args: []string{"token", "-i", "harbour"}, Server: server},
			} {
				token, err := tokens(t, stanza, sealed, cloud.Options{}).Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token.Value, "k8s-aws-v1."))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(string(text), "https://"+host+"/?") || !strings.Contains(string(text), "%2F"+region+"%2Fsts%2F") {
					t.Errorf("%s, the region %s: signed for %.60s", server, name, text)
				}
			}
		}
	}
}
