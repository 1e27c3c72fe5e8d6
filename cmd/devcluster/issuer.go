package main

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"gopkg.in/go-jose/go-jose.v2"
	"gopkg.in/go-jose/go-jose.v2/jwt"
	"k8s.io/client-go/tools/clientcmd/api"
)

// What the cluster's OpenID Connect issuer and its API server agree on.
const (
	issuerClient = "kubernetes" // audience of ID tokens
	issuerPrefix = "oidc:"      // before users and groups
	issuerKeyID  = "1"
)

// issuer is the URL of the cluster's own OpenID Connect provider.
func (c *cluster) issuer() string { return "https://127.0.0.1:" + strconv.Itoa(c.IssuerPort) }

// issuerFlags tell the API server to take the issuer's ID tokens.
func (c *cluster) issuerFlags() []string {
	return []string{
		"--oidc-issuer-url=" + c.issuer(),
		"--oidc-ca-file=" + c.path("pki", "ca.crt"),
		"--oidc-client-id=" + issuerClient,
		"--oidc-username-claim=sub", "--oidc-username-prefix=" + issuerPrefix,
		"--oidc-groups-claim=groups", "--oidc-groups-prefix=" + issuerPrefix,
		"--oidc-signing-algs=" + string(jose.ES256),
	}
}

func (c *cluster) issuerKey() (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(c.path("pki", "issuer-tokens.key"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("the issuer's key is not PEM")
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

// serveIssuer publishes the key of the ID tokens for as long as this process
// lives (OpenID Connect Discovery 1.0, section 4). Nobody can log in there.
func (c *cluster) serveIssuer() error {
	key, err := c.issuerKey()
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(c.path("pki", "issuer.crt"), c.path("pki", "issuer.key"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(c.IssuerPort))
	if err != nil {
		return fmt.Errorf("listening as the OpenID Connect issuer: %w", err)
	}
	answer := func(content any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(content)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /.well-known/openid-configuration", answer(map[string]any{
		"issuer": c.issuer(), "jwks_uri": c.issuer() + "/keys", "authorization_endpoint": c.issuer() + "/authorize",
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
	}))
	mux.Handle("GET /keys", answer(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: key.Public(), KeyID: issuerKeyID, Algorithm: string(jose.ES256), Use: "sig"},
	}}))
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	go func() { slog.Error("issuer ended", "error", server.ServeTLS(listener, "", "")) }()
	return nil
}

// idTokenUser makes an ID token of the issuer for someone; a negative time makes
// one that has ended.
func (c *cluster) idTokenUser(subject string, groups []string, good time.Duration) (*api.AuthInfo, error) {
	if c.IssuerPort == 0 {
		return nil, fmt.Errorf("%s takes no ID tokens: it is a cloud's profile, or was started before there were issuers", c.Name)
	}
	key, err := c.issuerKey()
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: issuerKeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": c.issuer(), "aud": issuerClient, "sub": subject, "groups": groups,
		"iat": now.Add(min(0, good)).Unix(), "exp": now.Add(good).Unix(),
	}).CompactSerialize()
	return &api.AuthInfo{Token: token}, err
}
