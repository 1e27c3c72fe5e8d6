package cloudtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
)

// Google stands in for Google's token endpoint, for its service that lets one
// service account make tokens of another, and for GKE's question of whose an
// access token is. It knows one service account, and another that the first may
// impersonate.
type Google struct {
	URL          string // of the token endpoint
	IAM          string // of the service for impersonation
	HTTP         *http.Client
	Email        string
	Impersonated string        // email of the other account
	KeyJSON      string        // as a person downloads it; its token_uri is Google's
	Lifetime     time.Duration // of tokens

	key *rsa.PrivateKey
	mux *http.ServeMux
	issued
}

// issued are the opaque tokens that were given out.
type issued struct {
	mu     sync.Mutex
	tokens map[string]grant
}

// grant is whose a token is, and until when.
type grant struct {
	account string
	end     time.Time
}

// give makes a token.
func (i *issued) give(prefix, account string, lifetime time.Duration) string {
	var random [24]byte
	rand.Read(random[:])
	token := prefix + hex.EncodeToString(random[:])
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.tokens == nil {
		i.tokens = map[string]grant{}
	}
	i.tokens[token] = grant{account, time.Now().Add(lifetime)}
	return token
}

// Given is how many tokens were given out.
func (i *issued) Given() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.tokens)
}

// find returns whose a token is, or why it is nobody's.
func (i *issued) find(token string) (account string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch g, ok := i.tokens[token]; {
	case !ok:
		return "", errors.New("no access token of Google")
	case time.Now().After(g.end):
		return "", fmt.Errorf("the access token ended at %s", g.end)
	default:
		return g.account, nil
	}
}

const googleTokenURI = "https://oauth2.googleapis.com/token"

// gkeScope is what GKE's API servers want to see in a token.
const gkeScope = "https://www.googleapis.com/auth/cloud-platform"

// NewGoogle starts the token endpoint, by https, for as long as the test runs.
func NewGoogle(t testing.TB, lifetime time.Duration) *Google {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	g := &Google{
		Email: "pilot@harbour.iam.gserviceaccount.com", Impersonated: "deployer@harbour.iam.gserviceaccount.com",
		Lifetime: lifetime, key: key, mux: http.NewServeMux(),
	}
	g.mux.HandleFunc("POST /token", g.serve)
	g.mux.HandleFunc("POST /v1/projects/-/serviceAccounts/{call}", g.serveImpersonation)
	g.KeyJSON = g.keyJSON(t, der, googleTokenURI)
	server := httptest.NewTLSServer(g.mux)
	t.Cleanup(server.Close)
	g.URL, g.IAM, g.HTTP = server.URL+"/token", server.URL, server.Client()
	return g
}

// Inside is a client that reaches the token endpoint without a network.
func (g *Google) Inside() *http.Client {
	return &http.Client{Transport: inside{next: g.mux}}
}

func (g *Google) keyJSON(t testing.TB, der []byte, tokenURI string) string {
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "harbour", "private_key_id": "1",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": g.Email, "client_id": "1", "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": tokenURI,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// LocalKeyJSON is the key with the stand-in itself as its token_uri, as a
// machine's own credentials file may say.
func (g *Google) LocalKeyJSON(t testing.TB) string {
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		t.Fatal(err)
	}
	return g.keyJSON(t, der, g.URL)
}

// serve answers RFC 7523's grant as Google does.
func (g *Google) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := g.checkAssertion(r); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": err.Error()})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": g.give("ya29.", g.Email, g.Lifetime), "token_type": "Bearer", "expires_in": max(1, int(g.Lifetime.Seconds())),
	})
}

// serveImpersonation answers IAM's generateAccessToken.
func (g *Google) serveImpersonation(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	refuse := func(code int, status, message string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "status": status, "message": message}})
	}
	var asked struct {
		Scope     []string `json:"scope"`
		Delegates []string `json:"delegates"`
		Lifetime  string   `json:"lifetime"`
	}
	account, called := strings.CutSuffix(r.PathValue("call"), ":generateAccessToken")
	by, err := g.find(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	switch {
	case err != nil:
		refuse(http.StatusUnauthorized, "UNAUTHENTICATED", err.Error())
	case !called || json.NewDecoder(r.Body).Decode(&asked) != nil || !slices.Contains(asked.Scope, gkeScope) || len(asked.Delegates) > 0 || asked.Lifetime != "":
		refuse(http.StatusBadRequest, "INVALID_ARGUMENT", "Request contains an invalid argument.")
	case by != g.Email || account != g.Impersonated:
		refuse(http.StatusForbidden, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).")
	default:
		_ = json.NewEncoder(w).Encode(map[string]string{
			"accessToken": g.give("ya29.", account, g.Lifetime), "expireTime": time.Now().Add(g.Lifetime).UTC().Format(time.RFC3339),
		})
	}
}

func (g *Google) checkAssertion(r *http.Request) error {
	if grant := r.FormValue("grant_type"); grant != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return fmt.Errorf("grant type %q", grant)
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Audience string `json:"aud"`
		Scope    string `json:"scope"`
		Issued   int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}
	if err := verifyJWT(r.FormValue("assertion"), &g.key.PublicKey, &claims); err != nil {
		return err
	}
	now := time.Now().Unix()
	switch {
	case claims.Issuer != g.Email:
		return fmt.Errorf("no account %s", claims.Issuer)
	case claims.Audience != g.URL:
		return fmt.Errorf("audience %q", claims.Audience)
	case claims.Expires <= now || claims.Expires > now+3600+60 || claims.Issued > now+60:
		return errors.New("the assertion must be short-lived (60 minutes) and of now")
	case !slices.Contains(strings.Fields(claims.Scope), gkeScope):
		return fmt.Errorf("scope %q", claims.Scope)
	}
	return nil
}

// Check is GKE's part.
func (g *Google) Check(token string) (authentication.UserInfo, error) {
	account, err := g.find(token)
	if err != nil {
		return authentication.UserInfo{}, err
	}
	return Admin(account), nil
}

// verifyJWT checks an RS256 token's signature and reads its claims.
func verifyJWT(token string, key *rsa.PublicKey, claims any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("not a JSON web token")
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err == nil {
		err = json.Unmarshal(head, &header)
	}
	if err != nil || header.Algorithm != "RS256" {
		return fmt.Errorf("header %s", head)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
		return errors.New("invalid JWT signature")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	return json.Unmarshal(body, claims)
}

// signJWT makes an RS256 token.
func signJWT(key *rsa.PrivateKey, claims any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT","kid":"1"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}
