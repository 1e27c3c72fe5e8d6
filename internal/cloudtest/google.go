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

// Google stands in for Google's token endpoint, and for GKE's question of whose
// an access token is. It knows one service account.
type Google struct {
	URL      string // of the token endpoint
	HTTP     *http.Client
	Email    string
	KeyJSON  string        // as a person downloads it; its token_uri is Google's
	Lifetime time.Duration // of tokens

	key *rsa.PrivateKey
	issued
}

// issued are the opaque tokens that were given out, with their end.
type issued struct {
	mu     sync.Mutex
	tokens map[string]time.Time
}

// give makes a token.
func (i *issued) give(prefix string, lifetime time.Duration) string {
	var random [24]byte
	rand.Read(random[:])
	token := prefix + hex.EncodeToString(random[:])
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.tokens == nil {
		i.tokens = map[string]time.Time{}
	}
	i.tokens[token] = time.Now().Add(lifetime)
	return token
}

// Given is how many tokens were given out.
func (i *issued) Given() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.tokens)
}

func (i *issued) ends(token string) (time.Time, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	end, ok := i.tokens[token]
	return end, ok
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
	g := &Google{Email: "pilot@harbour.iam.gserviceaccount.com", Lifetime: lifetime, key: key}
	g.KeyJSON = g.keyJSON(t, der, googleTokenURI)
	server := httptest.NewTLSServer(http.HandlerFunc(g.serve))
	t.Cleanup(server.Close)
	g.URL, g.HTTP = server.URL+"/token", server.Client()
	return g
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
		"access_token": g.give("ya29.", g.Lifetime), "token_type": "Bearer", "expires_in": max(1, int(g.Lifetime.Seconds())),
	})
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
	end, ok := g.ends(token)
	if !ok || !strings.HasPrefix(token, "ya29.") {
		return authentication.UserInfo{}, errors.New("no access token of Google")
	}
	if time.Now().After(end) {
		return authentication.UserInfo{}, fmt.Errorf("the access token ended at %s", end)
	}
	return Admin(g.Email), nil
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
