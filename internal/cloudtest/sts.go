package cloudtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The parts of AWS's signature in a header.
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)/\d{8}/([a-z0-9-]+)/sts/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$`)

// NewSTS starts a token service, by https, that lets the keys of a assume role.
// The sessions it gives are known to a for as long as they last.
func NewSTS(t testing.TB, a *AWS, role string) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(a.sts(role))
	t.Cleanup(server.Close)
	return server
}

// InsideSTS is a client that reaches such a service without a network.
func InsideSTS(a *AWS, role string) *http.Client {
	return &http.Client{Transport: inside{next: a.sts(role)}}
}

// InsideWebIdentity is a client that reaches, without a network, a token service
// that gives keys of a role for the token of a pod. They are good for lifetime.
func InsideWebIdentity(a *AWS, role, token string, lifetime time.Duration) *http.Client {
	return &http.Client{Transport: inside{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("RoleArn") != role || r.FormValue("WebIdentityToken") != token {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>`)
			return
		}
		id, secret, session, end := a.addSession(lifetime)
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			id, secret, session, end.UTC().Format(time.RFC3339))
	})}}
}

func (a *AWS) sts(role string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = a.checkSigned(r, body)
		}
		form, _ := url.ParseQuery(string(body))
		w.Header().Set("Content-Type", "text/xml")
		switch {
		case err != nil:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>%s</Message></Error></ErrorResponse>`, err)
		case form.Get("Action") != "AssumeRole" || form.Get("RoleArn") != role:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform sts:AssumeRole</Message></Error></ErrorResponse>`)
		default:
			seconds, err := strconv.Atoi(form.Get("DurationSeconds"))
			if err != nil {
				seconds = 3600
			}
			id, secret, session, end := a.addSession(time.Duration(seconds) * time.Second)
			fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
				id, secret, session, end.UTC().Format(time.RFC3339))
		}
	}
}

// addSession makes temporary keys.
func (a *AWS) addSession(lifetime time.Duration) (id, secret, session string, end time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sessions == nil {
		a.sessions = map[string]temporary{}
	}
	id = fmt.Sprintf("ASIAIOSFODNN7SESSION%d", len(a.sessions))
	secret, session, end = "a+session+secret/of/the/role+portolanKEY", "a/session/token/"+id, time.Now().Add(lifetime)
	a.Keys[id], a.sessions[id] = secret, temporary{session, end}
	return id, secret, session, end
}

// known returns the secret and session token of an access key.
func (a *AWS) known(id string) (secret, session string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	secret, ok = a.Keys[id]
	t, is := a.sessions[id]
	return secret, t.session, ok && (!is || time.Now().Before(t.end))
}

// checkSigned signs a request anew, with the headers that were signed, and
// compares.
func (a *AWS) checkSigned(r *http.Request, body []byte) error {
	m := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return fmt.Errorf("not signed: %q", r.Header.Get("Authorization"))
	}
	secret, session, ok := a.known(m[1])
	if !ok {
		return fmt.Errorf("no access key %s", m[1])
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return fmt.Errorf("date %q", r.Header.Get("X-Amz-Date"))
	}
	again, err := http.NewRequestWithContext(context.Background(), r.Method, "https://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, name := range bytes.Split([]byte(m[3]), []byte(";")) {
		if n := string(name); n != "host" && n != "content-length" && n != "x-amz-date" {
			again.Header[http.CanonicalHeaderKey(n)] = r.Header.Values(n)
		}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: m[1], SecretAccessKey: secret, SessionToken: session}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, again, hex.EncodeToString(sum[:]), "sts", m[2], at); err != nil {
		return err
	}
	want := authorization.FindStringSubmatch(again.Header.Get("Authorization"))
	if want == nil || subtle.ConstantTimeCompare([]byte(want[4]), []byte(m[4])) != 1 {
		return fmt.Errorf("the signature does not match")
	}
	return nil
}
