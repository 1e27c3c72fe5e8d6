package cloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"portolan/internal/fleet"
)

// aksServer is the application that AKS's API servers are, in every tenant:
// https://azure.github.io/kubelogin/concepts/aks.html.
const aksServer = "6dae42f8-4368-4678-94ff-3960e28e3630"

// The ways in which kubelogin logs in without a person.
const (
	loginSecret   = "spn"
	loginWorkload = "workloadidentity"
	loginManaged  = "msi"
)

type aks struct {
	login                  string
	tenant, client, secret string
	resource               string // id of a managed identity
	terraform              bool   // the rest is in ARM_… variables
	environment            azcloud.Configuration
}

// Kind implements Recipe.
func (aks) Kind() string { return "AKS token" }

// Cloud implements Recipe.
func (aks) Cloud() fleet.Cloud { return fleet.CloudAzure }

// Ambient implements Recipe.
func (a aks) Ambient() bool { return a.login != loginSecret || a.secret == "" }

// Unknown implements Recipe.
func (aks) Unknown() string {
	return "The cluster does not know the application, or takes no Microsoft Entra tokens (az aks update --enable-aad): give it the role Azure Kubernetes Service Cluster User, and the rights of the manifest in the cluster. Its tenant must be the cluster's."
}

// refuse says what a person would have to do; a sealed application does it
// instead.
func (a aks) refuse(sealed bool) *Refusal {
	switch {
	case sealed:
		return nil
	case a.terraform:
		return &Refusal{
			What:   "asks kubelogin to take the application from the variables of Terraform (--use-azurerm-env-vars, ARM_CLIENT_ID and others), which Portolan does not read.",
			Remedy: "Remove the option, and give Portolan's own environment the same as AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; or seal the application (tenant, client, secret) with the cluster. " + ServiceAccountRemedy,
		}
	case slices.Contains([]string{loginSecret, loginWorkload, loginManaged}, a.login):
		return nil
	}
	return &Refusal{
		What:   "gets its token by the login method " + shown(a.login) + " of kubelogin, which needs a person at a terminal or a tool that only the person has.",
		Remedy: "Seal an application (tenant, client, secret) with the cluster: it then logs in instead. Or convert the kubeconfig with “kubelogin convert-kubeconfig -l spn”, “-l workloadidentity” or “-l msi”. " + ServiceAccountRemedy,
	}
}

// environments are Azure's clouds by kubelogin's names; where nothing is
// configured, the library asks Portolan's own environment, then takes the
// public cloud.
var environments = map[string]azcloud.Configuration{
	"":                       {},
	"azurepubliccloud":       {},
	"azurecloud":             {},
	"azurechinacloud":        azcloud.AzureChina,
	"azureusgovernment":      azcloud.AzureGovernment,
	"azureusgovernmentcloud": azcloud.AzureGovernment,
}

var resourcePattern = regexp.MustCompile(`^/subscriptions/[\w./()-]+$`)

// azureName is a tenant or an application: a UUID or a domain.
var azureName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)

// readAKS reads “kubelogin get-token …”.
func readAKS(s Stanza) (Recipe, *Refusal) {
	takes := long("--login", "--environment", "--server-id", "--client-id", "--tenant-id", "--client-secret", "--identity-resource-id",
		"--token-cache-dir", "--cache-dir", "--timeout", "--redirect-url", "--login-hint", "--username", "--password", "--v")
	for short, name := range map[string]string{"-l": "--login", "-e": "--environment", "-t": "--tenant-id", "-u": "--username", "-p": "--password", "-v": "--v"} {
		takes[short] = name
	}
	f, unknown := options{takes: takes, alone: []string{"--legacy", "--use-azurerm-env-vars", "--disable-environment-override", "--disable-instance-discovery"}}.read(s.Args)
	const convert = "Use the stanza that “kubelogin convert-kubeconfig” writes. " + ServiceAccountRemedy
	switch {
	case unknown != "":
		return nil, refuseOption("kubelogin", unknown)
	case !slices.Equal(f.words, []string{"get-token"}):
		return nil, &Refusal{What: "runs kubelogin for something else than “kubelogin get-token”.", Remedy: convert}
	case f.values["--legacy"] == "true":
		// https://learn.microsoft.com/azure/aks/kubelogin-authentication.
		return nil, &Refusal{
			What:   "asks kubelogin for a token of the old kind (--legacy). Clusters with the legacy Microsoft Entra integration, which want it, let in people only, neither applications nor managed identities; other clusters do not take it.",
			Remedy: "If the cluster has the managed integration by now, remove --legacy or fetch the kubeconfig again; if not, give it that (az aks update --enable-aad). " + ServiceAccountRemedy,
		}
	}
	if name := strangeVariable(s.Env, "AAD_LOGIN_METHOD", "AAD_SERVICE_PRINCIPAL_CLIENT_ID", "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET",
		"AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"); name != "" {
		return nil, refuseVariable("kubelogin", name)
	}
	server := cmp.Or(f.values["--server-id"], aksServer)
	environment, known := environments[strings.ToLower(f.values["--environment"])]
	a := aks{
		login:       cmp.Or(f.values["--login"], s.Env["AAD_LOGIN_METHOD"], "devicecode"),
		tenant:      cmp.Or(f.values["--tenant-id"], s.Env["AZURE_TENANT_ID"]),
		client:      cmp.Or(f.values["--client-id"], s.Env["AAD_SERVICE_PRINCIPAL_CLIENT_ID"], s.Env["AZURE_CLIENT_ID"]),
		secret:      cmp.Or(f.values["--client-secret"], s.Env["AAD_SERVICE_PRINCIPAL_CLIENT_SECRET"], s.Env["AZURE_CLIENT_SECRET"]),
		resource:    f.values["--identity-resource-id"],
		environment: environment,
		terraform:   !slices.Contains([]string{"", "false"}, f.values["--use-azurerm-env-vars"]),
	}
	switch {
	case tooLong(a.login, server, a.tenant, a.client, a.secret, a.resource):
		return nil, refuseLength("kubelogin")
	case !known:
		return nil, &Refusal{What: "names an environment of Azure that Portolan does not know.", Remedy: "Known are AzurePublicCloud, AzureUSGovernmentCloud and AzureChinaCloud. " + ServiceAccountRemedy}
	case !strings.EqualFold(server, aksServer):
		// Whoever writes the kubeconfig gets the token: one for another service
		// would let them in there.
		return nil, &Refusal{
			What:   "asks for a token for another application (--server-id) than AKS: with it, whoever answers could use that application in Portolan's name.",
			Remedy: "Leave --server-id out, or set it to " + aksServer + ". " + ServiceAccountRemedy,
		}
	case a.tenant != "" && !azureName.MatchString(a.tenant), a.client != "" && !azureName.MatchString(a.client):
		return nil, &Refusal{What: "names a tenant or client that has not the form of an id.", Remedy: convert}
	case a.resource != "" && !resourcePattern.MatchString(a.resource):
		return nil, &Refusal{What: "names a managed identity that has not the form of a resource id.", Remedy: convert}
	}
	return a, nil
}

func (a aks) maker(cred fleet.CloudCredential, o Options) (maker, error) {
	m := azureMaker{aks: a, options: o}
	if cred.Cloud == fleet.CloudAzure {
		m.login, m.tenant, m.client, m.secret = loginSecret, cred.AzureTenantID, cred.AzureClientID, cred.AzureClientSecret
		m.sealed = true
	}
	return m.make, nil
}

// azureMaker makes tokens with Microsoft's library.
type azureMaker struct {
	aks
	options Options
	sealed  bool
}

// make asks for a new token. The library's credentials keep tokens, and give
// each out until five minutes before its end: so none is kept here, and what the
// library keeps for the whole process is passed by.
func (m azureMaker) make(ctx context.Context) (Token, error) {
	way := &witness{client: m.options.client()}
	credential, options, err := m.credential(way)
	if err != nil {
		return Token{}, azureFailure(err, m, way)
	}
	made, err := credential.GetToken(ctx, options)
	if err != nil {
		return Token{}, azureFailure(err, m, way)
	}
	return Token{Value: made.Token, Expires: made.ExpiresOn}, nil
}

// whose names what the token is made from.
func (m azureMaker) whose() string {
	switch {
	case m.sealed:
		return "the sealed application " + m.client
	case m.login == loginSecret && m.secret != "":
		return "the application " + m.client
	case m.login == loginSecret:
		return "the application of Portolan's own environment"
	case m.login == loginWorkload:
		return "the workload identity of Portolan's own pod"
	}
	return "the managed identity of Portolan's own machine"
}

func (m azureMaker) credential(way policy.Transporter) (azcore.TokenCredential, policy.TokenRequestOptions, error) {
	client := azcore.ClientOptions{Cloud: m.environment, Transport: way, Retry: policy.RetryOptions{MaxRetries: 1}}
	if m.options.EntraAuthority != "" {
		client.Cloud.ActiveDirectoryAuthorityHost = m.options.EntraAuthority
	}
	request := policy.TokenRequestOptions{Scopes: []string{aksServer + "/.default"}, TenantID: m.tenant}
	var credential azcore.TokenCredential
	var err error
	// No kubeconfig says which authority is asked, so there is none to verify.
	switch {
	case m.login == loginSecret && m.secret != "":
		credential, err = azidentity.NewClientSecretCredential(m.tenant, m.client, m.secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: client, DisableInstanceDiscovery: true})
	case m.login == loginSecret:
		// Which application and tenant it is, that environment says too.
		request.TenantID = ""
		credential, err = azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: client, DisableInstanceDiscovery: true})
	case m.login == loginWorkload:
		credential, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: client, DisableInstanceDiscovery: true, ClientID: m.client, TenantID: m.tenant,
		})
	default:
		options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: client}
		switch {
		case m.resource != "":
			options.ID = azidentity.ResourceID(m.resource)
		case m.client != "":
			options.ID = azidentity.ClientID(m.client)
		}
		request.TenantID = ""
		// The library keeps these tokens for all clusters together, those that
		// were refused or whose cluster is gone as well. With claims, which are
		// not sent, it looks for none there.
		request.Claims = "{}"
		credential, err = azidentity.NewManagedIdentityCredential(options)
	}
	return credential, request, err
}

// witness remembers how the last request went: of an error that is no answer,
// Microsoft's library keeps the text alone.
type witness struct {
	client *http.Client

	mu      sync.Mutex
	err     error
	strange bool // the answer was not Entra ID's, which are JSON
}

// Do implements policy.Transporter.
func (w *witness) Do(req *http.Request) (*http.Response, error) {
	resp, err := w.client.Do(req)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err, w.strange = err, err == nil && !strings.Contains(resp.Header.Get("Content-Type"), "json")
	return resp, err
}

// unanswered explains, with the remedy, why there was no answer that can be
// read; "" = there was one, or nothing was asked.
func (w *witness) unanswered() (why, remedy string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return unanswered(w.err)
	case w.strange:
		return "an answer that cannot be read", egressRemedy
	}
	return "", ""
}

func azureFailure(err error, m azureMaker, way *witness) error {
	doing := "No AKS token could be made from " + m.whose()
	who, remedy := "Microsoft Entra ID", "Check the tenant, the application and its secret or federated credential in Microsoft Entra ID; secrets end after a time."
	if m.login == loginManaged {
		who, remedy = "The machine's identity service", "Assign the managed identity to the machine that Portolan runs on (az vm identity assign), or name one that is: --client-id and --identity-resource-id of the stanza say which."
	}
	var refused *azidentity.AuthenticationFailedError
	if errors.As(err, &refused) && refused.RawResponse != nil {
		text, _ := runtime.Payload(refused.RawResponse) // which others may have read
		var answer struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		words := refused.RawResponse.Status
		if json.Unmarshal(text, &answer) == nil && answer.Error != "" {
			// The lines after the first are numbers for Microsoft's support.
			line, _, _ := strings.Cut(cmp.Or(answer.Description, answer.Error), "\n")
			line, _, _ = strings.Cut(line, " Trace ID:")
			words = said(line)
		} else if m.login != loginManaged {
			remedy = egressRemedy // something before it says so
		}
		return failure(err, remedy, doing+". "+who+" says: "+words+".")
	}
	// A machine that has no identity has none to ask either.
	if why, remedy := way.unanswered(); why != "" && m.login != loginManaged {
		return failure(err, remedy, doing+": "+why+".")
	}
	remedy = "Seal an application (tenant, client, secret) with the cluster, or give Portolan what the stanza asks for: "
	switch m.login {
	case loginSecret:
		remedy += "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET in its environment."
	case loginWorkload:
		remedy += "a pod with a federated workload identity."
	default:
		remedy += "a machine in Azure with a managed identity."
	}
	return failure(err, remedy, "No AKS token could be made: "+m.whose()+" could not be used.")
}
