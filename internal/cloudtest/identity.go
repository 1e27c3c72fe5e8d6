package cloudtest

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"
)

// Identities stand in for the service from which a machine of Azure gets the
// tokens of its managed identities: the instance metadata service of a virtual
// machine, and the endpoint of App Service. It knows one identity of the system
// and one that a user has assigned.
type Identities struct {
	HTTP     *http.Client // reaches the metadata service at its address, and nothing else
	Endpoint string       // of App Service: IDENTITY_ENDPOINT
	Header   string       // of App Service: IDENTITY_HEADER
	System   string       // object id of the system's identity
	Client   string       // client id of the assigned identity
	Resource string       // resource id of the same
	Assigned string       // object id of the same
	Lifetime time.Duration

	entra *Entra
	given counter
}

// metadataHost is where a virtual machine finds the service.
const metadataHost = "169.254.169.254"

// NewIdentities starts the service for as long as the test runs. Its tokens are
// those of e.
func NewIdentities(t testing.TB, e *Entra, lifetime time.Duration) *Identities {
	t.Helper()
	i := &Identities{
		Header: "a-header.of-the-machine-Portolan", System: "00000000-aaaa-4bbb-8ccc-000000000001", Lifetime: lifetime, entra: e,
		Client: "99999999-8888-4777-8666-555555555555", Assigned: "00000000-aaaa-4bbb-8ccc-000000000002",
		Resource: "/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/harbour/providers/Microsoft.ManagedIdentity/userAssignedIdentities/pilot",
	}
	server := httptest.NewServer(http.HandlerFunc(i.serveApp))
	t.Cleanup(server.Close)
	i.Endpoint = server.URL + "/msi/token"
	i.HTTP = &http.Client{Transport: inside{host: metadataHost, next: http.HandlerFunc(i.serveMetadata)}}
	return i
}

// Given is how many tokens were given out.
func (i *Identities) Given() int { return i.given.value() }

// serveMetadata is the service of a virtual machine:
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token.
func (i *Identities) serveMetadata(w http.ResponseWriter, r *http.Request) {
	var err error
	switch {
	case r.Method != http.MethodGet || r.URL.Scheme != "http" || r.URL.Path != "/metadata/identity/oauth2/token":
		err = fmt.Errorf("no %s %s", r.Method, r.URL.Path)
	case r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "":
		err = errors.New("required metadata header not specified")
	case r.FormValue("api-version") != "2018-02-01":
		err = fmt.Errorf("api-version %q", r.FormValue("api-version"))
	}
	i.answer(w, r, err, "msi_res_id")
}

// serveApp is the endpoint of App Service:
// https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference.
func (i *Identities) serveApp(w http.ResponseWriter, r *http.Request) {
	var err error
	switch {
	case r.Method != http.MethodGet || r.URL.Path != "/msi/token":
		err = fmt.Errorf("no %s %s", r.Method, r.URL.Path)
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("X-IDENTITY-HEADER")), []byte(i.Header)) != 1:
		err = errors.New("the header is not that of the machine")
	case r.FormValue("api-version") != "2019-08-01":
		err = fmt.Errorf("api-version %q", r.FormValue("api-version"))
	}
	i.answer(w, r, err, "mi_res_id")
}

func (i *Identities) answer(w http.ResponseWriter, r *http.Request, err error, resourceParameter string) {
	object := i.System
	switch client, resource := r.FormValue("client_id"), r.FormValue(resourceParameter); {
	case err != nil:
	case client == i.Client && resource == "", client == "" && resource == i.Resource:
		object = i.Assigned
	case client != "" || resource != "":
		err = errors.New("identity not found")
	}
	var token string
	if err == nil {
		token, err = i.entra.token(object, r.FormValue("resource"), i.Lifetime)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_request", "error_description": err.Error()})
		return
	}
	i.given.add()
	end := time.Now().Add(i.Lifetime)
	_ = json.NewEncoder(w).Encode(map[string]string{ // numbers are text there
		"access_token": token, "token_type": "Bearer", "resource": r.FormValue("resource"),
		"expires_in": strconv.Itoa(max(1, int(i.Lifetime.Seconds()))), "expires_on": strconv.FormatInt(end.Unix(), 10),
	})
}
