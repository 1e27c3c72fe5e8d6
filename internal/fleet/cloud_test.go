package fleet_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

// serviceAccount is the JSON of a key, with some of its fields changed.
func serviceAccount(t *testing.T, changes map[string]string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{
		"type": "service_account", "client_email": "pilot@harbour.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
	maps.Copy(fields, changes)
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestServiceAccountKeysThatLeadElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := fleet.ParseServiceAccountKey(serviceAccount(t, nil)); err != nil {
		t.Errorf("a good key: %v", err)
	}
	for name, text := range map[string]string{
		"a token server of its own": serviceAccount(t, map[string]string{"token_uri": "https://evil.example/token"}),
		"metadata":                  serviceAccount(t, map[string]string{"token_uri": "http://169.254.169.254/"}),
		"another universe":          serviceAccount(t, map[string]string{"universe_domain": "evil.example"}),
		"a program":                 `{"type":"external_account","credential_source":{"executable":{"command":"/bin/s3cr3t"}}}`,
		"a file":                    `{"type":"external_account","token_url":"https://evil.example","credential_source":{"file":"/etc/s3cr3t"}}`,
		"a person":                  serviceAccount(t, map[string]string{"type": "authorized_user"}),
		"an impersonation":          `{"type":"impersonated_service_account","service_account_impersonation_url":"https://evil.example"}`,
		"no key":                    serviceAccount(t, map[string]string{"private_key": "s3cr3t"}),
		"a damaged key":             serviceAccount(t, map[string]string{"private_key": "-----BEGIN PRIVATE KEY-----\ns3cr\n-----END PRIVATE KEY-----\n"}),
		"no account":                serviceAccount(t, map[string]string{"client_email": ""}),
		"no JSON":                   "s3cr3t",
		"much":                      serviceAccount(t, map[string]string{"x": strings.Repeat("x", 65<<10)}),
	} {
		if _, err := fleet.ParseServiceAccountKey(text); err == nil {
			t.Errorf("%s is taken", name)
		} else if strings.Contains(err.Error(), "s3cr") || strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: the refusal quotes it: %v", name, err)
		}
	}
}

func TestCloudCredentialFields(t *testing.T) {
	t.Parallel()
	const id, secret = "AKIAIOSFODNN7PORTOLAN", "wJalrXUtnFEMI"
	aws := fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: id, AWSSecretAccessKey: secret}.Identity()
	google := fleet.CloudCredential{Cloud: fleet.CloudGoogle, GCPServiceAccount: serviceAccount(t, nil)}.Identity()
	none := fleet.CloudIdentity{}
	for name, test := range map[string]struct {
		form   fleet.ClusterForm
		stored fleet.CloudIdentity
		bad    []string // fields
		seals  bool
		cloud  fleet.Cloud
	}{
		"nothing":              {form: fleet.ClusterForm{}},
		"ambient drops":        {form: fleet.ClusterForm{"cloud_credential": "ambient", "aws_access_key_id": id}, stored: aws},
		"nonsense":             {form: fleet.ClusterForm{"cloud_credential": "other"}, bad: []string{"cloud_credential"}},
		"sealed nothing":       {form: fleet.ClusterForm{"cloud_credential": "sealed"}, bad: []string{"cloud_credential"}},
		"AWS":                  {form: fleet.ClusterForm{"cloud_credential": "sealed", "aws_access_key_id": id, "aws_secret_access_key": secret}, seals: true, cloud: fleet.CloudAWS},
		"AWS kept":             {form: fleet.ClusterForm{"cloud_credential": "sealed", "aws_access_key_id": id}, stored: aws, cloud: fleet.CloudAWS},
		"AWS without secret":   {form: fleet.ClusterForm{"cloud_credential": "sealed", "aws_access_key_id": id}, bad: []string{"aws_secret_access_key"}},
		"AWS of another id":    {form: fleet.ClusterForm{"cloud_credential": "sealed", "aws_access_key_id": id + "X"}, stored: aws, bad: []string{"aws_secret_access_key"}},
		"AWS with a bad id":    {form: fleet.ClusterForm{"cloud_credential": "sealed", "aws_access_key_id": "me", "aws_secret_access_key": secret}, bad: []string{"aws_access_key_id"}},
		"Google":               {form: fleet.ClusterForm{"cloud_credential": "sealed", "gcp_service_account": serviceAccount(t, nil)}, seals: true, cloud: fleet.CloudGoogle},
		"Google kept":          {form: fleet.ClusterForm{"cloud_credential": "sealed"}, stored: google, cloud: fleet.CloudGoogle},
		"Google, not a key":    {form: fleet.ClusterForm{"cloud_credential": "sealed", "gcp_service_account": "{}"}, bad: []string{"gcp_service_account"}},
		"Azure":                {form: fleet.ClusterForm{"cloud_credential": "sealed", "azure_tenant_id": "harbour.onmicrosoft.com", "azure_client_id": "a-b", "azure_client_secret": "s"}, seals: true, cloud: fleet.CloudAzure},
		"Azure without tenant": {form: fleet.ClusterForm{"cloud_credential": "sealed", "azure_client_id": "a-b", "azure_client_secret": "s"}, bad: []string{"azure_tenant_id"}},
		"a tenant with a path": {form: fleet.ClusterForm{"cloud_credential": "sealed", "azure_tenant_id": "../x", "azure_client_id": "a-b", "azure_client_secret": "s"}, bad: []string{"azure_tenant_id"}},
		"two clouds":           {form: fleet.ClusterForm{"cloud_credential": "sealed", "aws_access_key_id": id, "azure_client_id": "a"}, bad: []string{"cloud_credential"}},
	} {
		problems := fleet.Problems{}
		identity, cred := test.form.CloudCredential(test.stored, problems)
		if got := slices.Sorted(maps.Keys(problems)); !slices.Equal(got, test.bad) {
			t.Errorf("%s: problems at %v, want %v", name, got, test.bad)
			continue
		}
		if len(test.bad) > 0 {
			continue
		}
		if (cred != nil) != test.seals || identity.Cloud != test.cloud {
			t.Errorf("%s: seals %t of %q, want %t of %q", name, cred != nil, identity.Cloud, test.seals, test.cloud)
		}
		if test.stored != none && test.cloud != "" && identity != test.stored {
			t.Errorf("%s: what is stored is not kept", name)
		}
	}
}

func TestACloudCredentialIsPartOfTheFingerprint(t *testing.T) {
	t.Parallel()
	var c fleet.Cluster
	seen := map[string]bool{c.Fingerprint(): true}
	for _, secret := range []string{"one", "two"} {
		c.Cloud = fleet.CloudCredential{Cloud: fleet.CloudAWS, AWSAccessKeyID: "AKIAIOSFODNN7PORTOLAN", AWSSecretAccessKey: secret}.Identity()
		seen[c.Fingerprint()] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d fingerprints of none, one and another credential", len(seen))
	}
}
