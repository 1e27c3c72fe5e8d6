package cloudtest

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	authentication "k8s.io/api/authentication/v1"
)

// AWS stands in for EKS's authenticator and for STS behind it.
type AWS struct {
	Cluster  string            // whose tokens are accepted
	Keys     map[string]string // secret by access key id
	Lifetime time.Duration     // of a token after it was signed; 0 = 15 min, EKS's own

	mu       sync.Mutex           // of the maps
	sessions map[string]temporary // of those keys that are temporary
}

// temporary is what an access key that ends has besides its secret.
type temporary struct {
	session string // token
	end     time.Time
}

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

var stsHost = regexp.MustCompile(`^sts(\.[a-z]{2}(-[a-z]+)+-\d)?\.amazonaws\.com$`)

// Parameters that a presigned request may have, as aws-iam-authenticator lists them.
var eksParameters = []string{
	"Action", "Version", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-Security-Token",
	"X-Amz-Signature", "X-Amz-SignedHeaders",
}

// Check is the authenticator's part and that of STS: the request is one for the
// caller's identity and nothing else, it is for this cluster, young enough, and
// signed with a key that is known.
func (a *AWS) Check(token string) (authentication.UserInfo, error) {
	var nobody authentication.UserInfo
	encoded, ok := strings.CutPrefix(token, "k8s-aws-v1.")
	if !ok {
		return nobody, errors.New("no EKS token")
	}
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nobody, fmt.Errorf("not base64url without padding: %w", err)
	}
	u, err := url.Parse(string(text))
	if err != nil {
		return nobody, err
	}
	if u.Scheme != "https" || !stsHost.MatchString(u.Host) || u.Path != "/" || u.User != nil || u.Fragment != "" {
		return nobody, fmt.Errorf("%s://%s%s is not STS", u.Scheme, u.Host, u.Path)
	}
	query := u.Query()
	for name, values := range query {
		if !slices.Contains(eksParameters, name) || len(values) != 1 {
			return nobody, fmt.Errorf("parameter %s", name)
		}
	}
	if query.Get("Action") != "GetCallerIdentity" {
		return nobody, fmt.Errorf("action %q", query.Get("Action"))
	}
	if n, err := strconv.Atoi(query.Get("X-Amz-Expires")); err != nil || n < 1 || n > 900 {
		return nobody, fmt.Errorf("X-Amz-Expires %q", query.Get("X-Amz-Expires"))
	}
	if signed := query.Get("X-Amz-SignedHeaders"); signed != "host;x-k8s-aws-id" {
		return nobody, fmt.Errorf("signed headers %q", signed)
	}
	at, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if err != nil {
		return nobody, err
	}
	lifetime := a.Lifetime
	if lifetime == 0 {
		lifetime = 15 * time.Minute
	}
	// X-Amz-Date counts whole seconds.
	if age := time.Since(at); age > lifetime+time.Second || age < -time.Minute {
		return nobody, fmt.Errorf("signed %s ago, good for %s", age, lifetime)
	}
	scope := strings.Split(query.Get("X-Amz-Credential"), "/")
	if len(scope) != 5 || scope[3] != "sts" || scope[4] != "aws4_request" {
		return nobody, fmt.Errorf("credential scope %q", query.Get("X-Amz-Credential"))
	}
	id, region := scope[0], scope[2]
	secret, session, ok := a.known(id)
	if !ok {
		return nobody, fmt.Errorf("no access key %s", id)
	}
	if session != query.Get("X-Amz-Security-Token") {
		return nobody, errors.New("the session token is not that of the key")
	}
	signature := query.Get("X-Amz-Signature")
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Signature", "X-Amz-SignedHeaders"} {
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	again, err := http.NewRequestWithContext(context.Background(), http.MethodGet, u.String(), nil)
	if err != nil {
		return nobody, err
	}
	again.Header.Set("x-k8s-aws-id", a.Cluster)
	creds := aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: session}
	presigned, _, err := v4.NewSigner().PresignHTTP(context.Background(), creds, again, emptyHash, "sts", region, at)
	if err != nil {
		return nobody, err
	}
	want, err := url.Parse(presigned)
	if err != nil {
		return nobody, err
	}
	if subtle.ConstantTimeCompare([]byte(want.Query().Get("X-Amz-Signature")), []byte(signature)) != 1 {
		return nobody, errors.New("the signature does not match: another secret, another cluster, or altered")
	}
	return Admin("arn:aws:iam::123456789012:user/" + id), nil
}
