package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"
	"time"
	"unicode"

	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

// credential is what a context leads to, checked and in memory.
type credential struct {
	context    string
	server     string
	serverName string
	insecure   bool     // whoever answers is believed
	proxy      *url.URL // nil = straight
	ca         []byte   // PEM; empty = the system's
	cert, key  []byte   // PEM
	token      string
	recipe     cloud.Recipe // how tokens are made where none is given

	leaf  *x509.Certificate   // of cert
	roots []*x509.Certificate // of ca
}

// load reads the certificates, keys and tokens of an accepted context.
func (o ParseOptions) load(r resolved) (*credential, *refusal) {
	cluster, user := "cluster "+quote(r.clusterID), "user "+quote(r.userID)
	c := &credential{context: r.name, server: strings.TrimSuffix(r.cluster.Server, "/"), serverName: r.cluster.ServerName, insecure: r.cluster.Insecure}
	var refused *refusal
	if c.proxy, refused = readProxy(quote(r.clusterID), r.cluster.ProxyURL); refused != nil {
		return nil, refused
	}
	if c.ca, refused = o.data(cluster, "certificate-authority", r.cluster.CAData, r.cluster.CAFile); refused != nil {
		return nil, refused
	}
	if c.cert, refused = o.data(user, "client-certificate", r.user.CertData, r.user.CertFile); refused != nil {
		return nil, refused
	}
	if c.key, refused = o.data(user, "client-key", r.user.KeyData, r.user.KeyFile); refused != nil {
		return nil, refused
	}
	if c.token, refused = o.readToken(user, r.user); refused != nil {
		return nil, refused
	}
	if len(c.ca) > 0 {
		if c.roots = certificates(c.ca); len(c.roots) == 0 {
			return nil, refuse("", "The certificate-authority-data of the %s holds no certificate in PEM form.", cluster)
		}
	}
	switch {
	case len(c.cert) > 0 && len(c.key) == 0:
		return nil, refuse("", "The %s has a client certificate without its key.", user)
	case len(c.cert) == 0 && len(c.key) > 0:
		return nil, refuse("", "The %s has a client key without its certificate.", user)
	case len(c.cert) > 0:
		if refused := c.loadPair(user); refused != nil {
			return nil, refused
		}
	case r.user.Exec != nil:
		if c.recipe, refused = o.readExec(r); refused != nil {
			return nil, refused
		}
		if o.Cloud.Cloud != "" && o.Destination != "" && o.Destination != c.destination() {
			return nil, refuse("If that is meant, edit the cluster and enter the cloud credential again. If not, put the kubeconfig back.",
				"The cloud credential was sealed for another server than the one that the kubeconfig leads to now (its address, certificate authority or proxy differs), and no token is sent there.")
		}
		return c, nil
	case c.token == "":
		return nil, refuse(serviceAccountRemedy, "The %s has no credential: neither a client certificate nor a token.", user)
	}
	return c, nil
}

func (c *credential) loadPair(user string) *refusal {
	leaves := certificates(c.cert)
	if len(leaves) == 0 {
		return refuse("", "The client-certificate-data of the %s holds no certificate in PEM form.", user)
	}
	if bytes.Contains(c.key, []byte("ENCRYPTED")) {
		return refuse("Use a key that is not encrypted: Portolan has nobody to ask for its passphrase.", "The client key of the %s is protected by a passphrase.", user)
	}
	if block, _ := pem.Decode(c.key); block == nil || !strings.Contains(block.Type, "PRIVATE KEY") {
		return refuse("", "The client-key-data of the %s holds no private key in PEM form.", user)
	}
	if _, err := tls.X509KeyPair(c.cert, c.key); err != nil {
		return refuse("Take both from the same kubeconfig.", "The client key of the %s does not belong to its certificate.", user)
	}
	c.leaf = leaves[0]
	return nil
}

// data returns the decoded …-data field, or the file that stands in its place.
func (o ParseOptions) data(owner, field, encoded, file string) ([]byte, *refusal) {
	switch {
	case encoded != "":
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err == nil {
			return raw, nil
		}
		if leftOut(encoded) {
			return nil, refuse("Print it again with “kubectl config view --raw --minify --flatten”.", "The secrets were left out when this kubeconfig was printed.")
		}
		if strings.Contains(encoded, "-----BEGIN") {
			return nil, refuse("Encode it with “base64 -w0”.", "The %s-data of the %s is PEM text; it must be base64 of it.", field, owner)
		}
		return nil, refuse("It may have been cut when it was copied; copy the whole file.", "The %s-data of the %s is not valid base64.", field, owner)
	case file != "":
		raw, err := o.Root.reference(o.Path, file)
		if err != nil {
			return nil, o.unreadable(owner, field, file, err)
		}
		return raw, nil
	}
	return nil, nil
}

func (o ParseOptions) readToken(owner string, user userEntry) (string, *refusal) {
	token := user.Token
	if user.TokenFile != "" {
		raw, err := o.Root.reference(o.Path, user.TokenFile)
		if err != nil {
			return "", o.unreadable(owner, "tokenFile", user.TokenFile, err)
		}
		token = string(raw)
	}
	token = strings.TrimSpace(token)
	if leftOut(token) {
		return "", refuse("Print it again with “kubectl config view --raw --minify --flatten”.", "The secrets were left out when this kubeconfig was printed.")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "", refuse("It may have been damaged when it was copied; copy the whole file.", "The token of the %s contains characters that no token has.", owner)
	}
	return token, nil
}

func (o ParseOptions) unreadable(owner, field, file string, err error) *refusal {
	return refuse("Put the file into the kubeconfigs folder, or its contents into the kubeconfig.",
		"The %s refers to a file as %s: %s", owner, field, whyUnreadable(plain(file, 200), err))
}

// leftOut recognises what kubectl prints in place of secrets without --raw.
func leftOut(value string) bool {
	switch strings.TrimSpace(value) {
	case "REDACTED", "DATA+OMITTED", "DATA+REDACTED":
		return true
	}
	return false
}

// certificates returns those that can be read in PEM text.
func certificates(text []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return out
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, cert)
		}
	}
}

// destination identifies where the credential goes.
func (c *credential) destination() string {
	to := struct {
		Server, ServerName, Proxy string
		Insecure                  bool
		Roots                     [][]byte // in DER
	}{Server: c.server, ServerName: c.serverName, Insecure: c.insecure}
	if c.proxy != nil {
		to.Proxy = c.proxy.String()
	}
	for _, root := range c.roots {
		to.Roots = append(to.Roots, root.Raw)
	}
	text, err := json.Marshal(to)
	if err != nil {
		panic(err) // strings and bytes only: cannot fail
	}
	return Hash(text)
}

func (c *credential) facts() fleet.CredentialFacts {
	f := fleet.CredentialFacts{Server: shown(c.server), Context: c.context}
	if c.recipe != nil {
		f.Kind = c.recipe.Kind()
	} else if c.leaf != nil {
		f.Kind, f.Subject, f.NotAfter = "client certificate", plain(c.leaf.Subject.CommonName, 200), c.leaf.NotAfter.UTC()
	} else {
		f.Kind = "token"
		var issuer string
		f.Subject, issuer, f.NotAfter = tokenFacts(c.token)
		switch {
		case strings.HasPrefix(f.Subject, "system:serviceaccount:"):
			f.Kind = "service account token"
		case strings.HasPrefix(issuer, "https://"):
			f.Kind = oidcToken
		}
	}
	f.CAExpires = firstEnd(c.roots, time.Now())
	return f
}

// firstEnd is when the next of the certificates ends, or, where all have, when the
// last of them did. Of an authority's, one that has ended counts no more beside the
// one that has taken its place. Zero = there is none.
func firstEnd(certificates []*x509.Certificate, now time.Time) time.Time {
	var end time.Time
	for _, c := range certificates {
		ends := c.NotAfter.UTC()
		if end.IsZero() || end.Before(now) && ends.After(end) || ends.After(now) && ends.Before(end) {
			end = ends
		}
	}
	return end
}

// oidcToken is the kind of an identity provider's token, whose issuer is an
// https URL (OpenID Connect Core 1.0, section 2).
const oidcToken = "OIDC token"

// tokenFacts reads the claims of a JSON web token; other tokens say nothing.
// They are shown, never trusted: the API server decides what a token is worth.
func tokenFacts(token string) (subject, issuer string, notAfter time.Time) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", "", time.Time{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", "", time.Time{}
	}
	var claims struct {
		Subject string  `json:"sub"`
		Issuer  string  `json:"iss"`
		Expires float64 `json:"exp"` // seconds; RFC 7519 allows fractions
	}
	if json.Unmarshal(raw, &claims) != nil {
		return "", "", time.Time{}
	}
	if claims.Expires > 0 && claims.Expires < 1e11 {
		notAfter = time.Unix(int64(claims.Expires), 0).UTC()
	}
	return plain(claims.Subject, 200), claims.Issuer, notAfter
}
