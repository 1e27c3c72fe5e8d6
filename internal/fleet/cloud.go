package fleet

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Cloud is a company at which cloud credentials are made.
type Cloud string

const (
	CloudAWS    Cloud = "aws"
	CloudGoogle Cloud = "gcp"
	CloudAzure  Cloud = "azure"
)

// String is the name that people know.
func (c Cloud) String() string {
	switch c {
	case CloudAWS:
		return "AWS"
	case CloudGoogle:
		return "Google Cloud"
	case CloudAzure:
		return "Azure"
	}
	return string(c)
}

// SecretField names the form field of the cloud's secret; "" for none.
func (c Cloud) SecretField() string {
	switch c {
	case CloudAWS:
		return "aws_secret_access_key"
	case CloudGoogle:
		return "gcp_service_account"
	case CloudAzure:
		return "azure_client_secret"
	}
	return ""
}

// CloudCredential is what tokens for a managed cluster are made from when it is
// sealed with the cluster. The zero value stands for whatever the machine that
// Portolan runs on has. Only the fields of its Cloud are filled.
type CloudCredential struct {
	Cloud              Cloud  `json:"cloud"`
	AWSAccessKeyID     string `json:"awsAccessKeyID,omitempty"`
	AWSSecretAccessKey string `json:"awsSecretAccessKey,omitempty"`
	GCPServiceAccount  string `json:"gcpServiceAccount,omitempty"` // the JSON of its key
	AzureTenantID      string `json:"azureTenantID,omitempty"`
	AzureClientID      string `json:"azureClientID,omitempty"`
	AzureClientSecret  string `json:"azureClientSecret,omitempty"`
}

// CloudIdentity is what may be shown of a sealed CloudCredential. The zero
// value says that none is sealed.
type CloudIdentity struct {
	Cloud  Cloud  `json:"cloud,omitempty"`
	ID     string `json:"id,omitempty"`     // access key id, service account, application id
	Tenant string `json:"tenant,omitempty"` // Azure only
	Hash   string `json:"hash,omitempty"`   // hex SHA-256 of all of it, by which a change is noticed

	// Destination is a hash of the server, with how it is reached and known,
	// that the kubeconfig led to when the credential was sealed: tokens made
	// from it go nowhere else. "" = not known.
	Destination string `json:"destination,omitempty"`
}

// Sealed reports whether there is a sealed credential.
func (i CloudIdentity) Sealed() bool { return i.Cloud != "" }

// String describes the identity in a few words, "" for none.
func (i CloudIdentity) String() string {
	switch i.Cloud {
	case CloudAWS:
		return "access key " + i.ID
	case CloudGoogle:
		return "service account " + i.ID
	case CloudAzure:
		return "application " + i.ID + " of tenant " + i.Tenant
	}
	return ""
}

// Identity returns what may be shown of the credential.
func (c CloudCredential) Identity() CloudIdentity {
	i := CloudIdentity{Cloud: c.Cloud, Hash: c.hash()}
	switch c.Cloud {
	case CloudAWS:
		i.ID = c.AWSAccessKeyID
	case CloudGoogle:
		key, _ := ParseServiceAccountKey(c.GCPServiceAccount)
		i.ID = key.ClientEmail
	case CloudAzure:
		i.ID, i.Tenant = c.AzureClientID, c.AzureTenantID
	}
	return i
}

func (c CloudCredential) hash() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings only: cannot fail
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// CloudSecretFields are the form's fields that are written and never shown.
var CloudSecretFields = []string{CloudAWS.SecretField(), CloudGoogle.SecretField(), CloudAzure.SecretField()}

var (
	accessKeyPattern = regexp.MustCompile(`^[A-Z0-9]+$`)
	// A tenant is a UUID or a domain; an application is a UUID.
	tenantPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)
)

// clouds returns the clouds of which any field of the credential is filled in.
func (f ClusterForm) clouds() []Cloud {
	var out []Cloud
	for cloud, fields := range map[Cloud][]string{
		CloudAWS: {"aws_access_key_id", "aws_secret_access_key"}, CloudGoogle: {"gcp_service_account"},
		CloudAzure: {"azure_tenant_id", "azure_client_id", "azure_client_secret"},
	} {
		if slices.ContainsFunc(fields, func(field string) bool { return strings.TrimSpace(f[field]) != "" }) {
			out = append(out, cloud)
		}
	}
	return out
}

// SealedCloud returns whose credential the form is going to seal, also while it
// is not filled in to the end; "" = none or not yet known.
func (f ClusterForm) SealedCloud() Cloud {
	if clouds := f.clouds(); f["cloud_credential"] == "sealed" && len(clouds) == 1 {
		return clouds[0]
	}
	return ""
}

// CloudCredential reads the fields of the cloud credential. stored is the one
// that the cluster has: with the secret left blank it is kept, and the returned
// credential is nil. A new identity needs its secret with it.
func (f ClusterForm) CloudCredential(stored CloudIdentity, problems Problems) (CloudIdentity, *CloudCredential) {
	r := reader{problems}
	switch f["cloud_credential"] {
	case "", "ambient":
		return CloudIdentity{}, nil
	case "sealed":
	default:
		problems.Add("cloud_credential", "choose ambient or sealed")
		return stored, nil
	}
	given := CloudCredential{
		AWSAccessKeyID:     r.line("aws_access_key_id", f["aws_access_key_id"], 128),
		AWSSecretAccessKey: r.line("aws_secret_access_key", f["aws_secret_access_key"], 256),
		GCPServiceAccount:  strings.TrimSpace(f["gcp_service_account"]),
		AzureTenantID:      r.line("azure_tenant_id", f["azure_tenant_id"], 253),
		AzureClientID:      r.line("azure_client_id", f["azure_client_id"], 64),
		AzureClientSecret:  r.line("azure_client_secret", f["azure_client_secret"], 512),
	}
	clouds := f.clouds()
	switch {
	case len(clouds) > 1:
		problems.Add("cloud_credential", "fill in the fields of one cloud only")
		return stored, nil
	case len(clouds) == 1:
		given.Cloud = clouds[0]
	case stored.Cloud == CloudGoogle:
		return stored, nil // it has no field besides the secret
	default:
		problems.Add("cloud_credential", "fill in the fields of one cloud")
		return stored, nil
	}
	switch given.Cloud {
	case CloudAWS:
		if len(given.AWSAccessKeyID) < 16 || !accessKeyPattern.MatchString(given.AWSAccessKeyID) {
			problems.Add("aws_access_key_id", "must be an access key id, such as AKIAIOSFODNN7EXAMPLE")
		}
		if given.AWSSecretAccessKey == "" {
			return f.kept(stored, CloudIdentity{Cloud: CloudAWS, ID: given.AWSAccessKeyID}, "aws_secret_access_key", problems)
		}
	case CloudGoogle:
		if _, err := ParseServiceAccountKey(given.GCPServiceAccount); err != nil {
			problems.Add("gcp_service_account", "%s", err.Error())
		}
	case CloudAzure:
		if !tenantPattern.MatchString(given.AzureTenantID) {
			problems.Add("azure_tenant_id", "must be the tenant's id or domain")
		}
		if !tenantPattern.MatchString(given.AzureClientID) {
			problems.Add("azure_client_id", "must be the application (client) id")
		}
		if given.AzureClientSecret == "" {
			return f.kept(stored, CloudIdentity{Cloud: CloudAzure, ID: given.AzureClientID, Tenant: given.AzureTenantID}, "azure_client_secret", problems)
		}
	}
	return given.Identity(), &given
}

// kept is the stored identity, where the form names the same without a secret.
func (f ClusterForm) kept(stored, named CloudIdentity, secret string, problems Problems) (CloudIdentity, *CloudCredential) {
	if named.Hash, named.Destination = stored.Hash, stored.Destination; stored.Hash == "" || named != stored {
		problems.Add(secret, "must not be empty: a new identity needs its secret")
	}
	return stored, nil
}

// ServiceAccountKey is what is used of the JSON of a Google Cloud service
// account's key. Where it says to fetch tokens is checked and then not used.
type ServiceAccountKey struct {
	Type           string `json:"type"`
	ClientEmail    string `json:"client_email"`
	PrivateKeyID   string `json:"private_key_id"`
	PrivateKey     string `json:"private_key"`
	TokenURI       string `json:"token_uri"`
	UniverseDomain string `json:"universe_domain"`
}

// googleTokenURIs are those that Google has written into keys over the years.
var googleTokenURIs = []string{
	"", "https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token", "https://www.googleapis.com/oauth2/v4/token",
	"https://www.googleapis.com/oauth2/v3/token",
}

// ParseServiceAccountKey reads the JSON of a key. Other kinds of credential
// files may name programs to run and servers to ask, and are refused, as is a
// key with a token server that is not Google's. Errors quote no secret.
func ParseServiceAccountKey(text string) (ServiceAccountKey, error) {
	var key ServiceAccountKey
	if len(text) > 64<<10 {
		return key, fmt.Errorf("must be at most 64 KiB")
	}
	if json.Unmarshal([]byte(text), &key) != nil {
		return ServiceAccountKey{}, fmt.Errorf("must be the JSON of a service account's key")
	}
	if key.Type != "service_account" {
		return key, fmt.Errorf("must be a service account's key: its type is not service_account, and other types may name programs and servers")
	}
	if !slices.Contains(googleTokenURIs, key.TokenURI) {
		return key, fmt.Errorf("its token_uri is not Google's")
	}
	if key.UniverseDomain != "" && key.UniverseDomain != "googleapis.com" {
		return key, fmt.Errorf("its universe_domain is not googleapis.com")
	}
	if !strings.Contains(key.ClientEmail, "@") || len(key.ClientEmail) > 253 {
		return key, fmt.Errorf("it has no client_email")
	}
	block, _ := pem.Decode([]byte(key.PrivateKey))
	if block == nil {
		return key, fmt.Errorf("it has no private_key in PEM form")
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return key, fmt.Errorf("its private_key is damaged")
		}
	}
	return key, nil
}
