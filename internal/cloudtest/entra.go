package cloudtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
)

// Entra stands in for Microsoft Entra ID, and for AKS's check of its tokens. It
// knows one application.
type Entra struct {
	URL       string // of the authority
	HTTP      *http.Client
	Authority []byte // PEM, by which the URL is trusted
	Tenant    string
	Client    string
	Secret    string
	Lifetime  time.Duration // of tokens

	given     counter
	server    string          // audience that AKS accepts
	key       *rsa.PrivateKey // signs tokens
	mux       *http.ServeMux
	federated *rsa.PrivateKey // of the issuer whose tokens the application trusts
}

// AKSServer is the application of AKS's API servers.
const AKSServer = "6dae42f8-4368-4678-94ff-3960e28e3630"

const federatedAudience = "api://AzureADTokenExchange"

// NewEntra starts the authority, by https, for as long as the test runs.
func NewEntra(t testing.TB, lifetime time.Duration) *Entra {
	t.Helper()
	e := &Entra{
		Tenant: "11111111-2222-4333-8444-555555555555", Client: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
		Secret: "a~client.secret-Of8QPortolan", Lifetime: lifetime, server: AKSServer,
	}
	var err error
	if e.key, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
		e.federated, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	e.mux = http.NewServeMux()
	mux := e.mux
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", e.serveConfiguration)
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", e.serveToken)
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	e.URL, e.HTTP = server.URL+"/", server.Client()
	e.Authority = certificatePEM(server.Certificate().Raw)
	return e
}

// Inside is a client that reaches the authority without a network.
func (e *Entra) Inside() *http.Client { return &http.Client{Transport: inside{next: e.mux}} }

// Given is how many tokens were given out.
func (e *Entra) Given() int { return e.given.value() }

func (e *Entra) serveConfiguration(w http.ResponseWriter, r *http.Request) {
	base := e.URL + r.PathValue("tenant")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
		"jwks_uri": base + "/discovery/v2.0/keys",
	})
}

func (e *Entra) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := e.checkRequest(r); err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"error":             "invalid_client",
			"error_description": err.Error() + " Trace ID: 0 Correlation ID: 0 Timestamp: now",
		})
		return
	}
	server := strings.TrimSuffix(scopeOf(r), "/.default")
	token, err := e.Token(server, e.Lifetime)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	e.given.add()
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token_type": "Bearer", "expires_in": max(1, int(e.Lifetime.Seconds())), "ext_expires_in": max(1, int(e.Lifetime.Seconds())), "access_token": token,
	})
}

// scopeOf is the one scope of a request that is for a resource.
func scopeOf(r *http.Request) string {
	for _, scope := range strings.Fields(r.FormValue("scope")) {
		if strings.HasSuffix(scope, "/.default") {
			return scope
		}
	}
	return ""
}

func (e *Entra) checkRequest(r *http.Request) error {
	switch {
	case r.PathValue("tenant") != e.Tenant:
		return fmt.Errorf("AADSTS90002: Tenant '%s' not found", r.PathValue("tenant"))
	case r.FormValue("grant_type") != "client_credentials":
		return fmt.Errorf("AADSTS70003: grant type %q", r.FormValue("grant_type"))
	case r.FormValue("client_id") != e.Client:
		return fmt.Errorf("AADSTS700016: Application with identifier '%s' was not found in the directory", r.FormValue("client_id"))
	case scopeOf(r) == "":
		return fmt.Errorf("AADSTS1002012: scope %q", r.FormValue("scope"))
	}
	if assertion := r.FormValue("client_assertion"); assertion != "" {
		return e.checkFederated(r, assertion)
	}
	if subtle.ConstantTimeCompare([]byte(r.FormValue("client_secret")), []byte(e.Secret)) != 1 {
		return errors.New("AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value")
	}
	return nil
}

func (e *Entra) checkFederated(r *http.Request, assertion string) error {
	if kind := r.FormValue("client_assertion_type"); kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return fmt.Errorf("AADSTS50027: assertion type %q", kind)
	}
	var claims struct {
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
	}
	if err := verifyJWT(assertion, &e.federated.PublicKey, &claims); err != nil {
		return fmt.Errorf("AADSTS700211: No matching federated identity record found: %w", err)
	}
	if claims.Audience != federatedAudience || claims.Expires <= time.Now().Unix() || claims.Subject != "system:serviceaccount:portolan:portolan" {
		return errors.New("AADSTS700213: No matching federated identity record found for presented assertion")
	}
	return nil
}

// Federated makes the token that a pod with a workload identity finds in a file.
func (e *Entra) Federated(t testing.TB) string {
	t.Helper()
	token, err := signJWT(e.federated, map[string]any{
		"sub": "system:serviceaccount:portolan:portolan", "aud": federatedAudience, "exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Token makes a token of the application for a server, as a login would.
func (e *Entra) Token(server string, lifetime time.Duration) (string, error) {
	return e.token(e.Client, server, lifetime)
}

// token makes the token of any object of the directory.
func (e *Entra) token(object, server string, lifetime time.Duration) (string, error) {
	now := time.Now()
	var random [8]byte
	rand.Read(random[:])
	return signJWT(e.key, map[string]any{
		"aud": server, "iss": e.URL + e.Tenant + "/v2.0", "tid": e.Tenant, "oid": object,
		// In fractions, for lifetimes of a few seconds.
		"exp": float64(now.Add(lifetime).UnixMilli()) / 1000, "iat": now.Unix(), "nbf": now.Unix(), "uti": fmt.Sprintf("%x", random),
	})
}

// Check is AKS's part: signature, issuer, audience and time of the token.
func (e *Entra) Check(token string) (authentication.UserInfo, error) {
	var nobody authentication.UserInfo
	var claims struct {
		Audience string  `json:"aud"`
		Issuer   string  `json:"iss"`
		Object   string  `json:"oid"`
		Expires  float64 `json:"exp"`
	}
	if err := verifyJWT(token, &e.key.PublicKey, &claims); err != nil {
		return nobody, err
	}
	switch {
	case claims.Audience != e.server:
		return nobody, fmt.Errorf("audience %q", claims.Audience)
	case claims.Issuer != e.URL+e.Tenant+"/v2.0":
		return nobody, fmt.Errorf("issuer %q", claims.Issuer)
	case claims.Expires <= float64(time.Now().UnixMilli())/1000:
		return nobody, fmt.Errorf("ended %g", claims.Expires)
	}
	return Admin(claims.Object), nil
}
