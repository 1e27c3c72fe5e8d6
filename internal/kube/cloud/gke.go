package cloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/jwt"

	"portolan/internal/fleet"
)

// gkeScopes are those that gke-gcloud-auth-plugin asks for.
var gkeScopes = []string{
	"https://www.googleapis.com/auth/cloud-platform",
	"https://www.googleapis.com/auth/userinfo.email",
}

// gke may name a service account that is impersonated.
type gke struct{ account string }

// Kind implements Recipe.
func (gke) Kind() string { return "GKE token" }

// Cloud implements Recipe.
func (gke) Cloud() fleet.Cloud { return fleet.CloudGoogle }

// Ambient implements Recipe.
func (gke) Ambient() bool { return true }

// Unknown implements Recipe.
func (gke) Unknown() string {
	return "The cluster does not know the service account: give it the role Kubernetes Engine Cluster Viewer (roles/container.clusterViewer) in the cluster's project, and the rights of the manifest in the cluster."
}

func (gke) refuse(bool) *Refusal { return nil }

// accountPattern is the address of a service account, or its number.
var accountPattern = regexp.MustCompile(`^([a-zA-Z0-9][\w.-]*@[a-z0-9][a-z0-9.:-]*\.gserviceaccount\.com|\d+)$`)

// readGKE reads the command line of gke-gcloud-auth-plugin, which is empty
// where gcloud has written it.
func readGKE(s Stanza) (Recipe, *Refusal) {
	f, unknown := options{
		takes: long("--impersonate_service_account"),
		alone: []string{"--use_application_default_credentials"},
	}.read(s.Args)
	g := gke{account: f.values["--impersonate_service_account"]}
	if f.values["--use_application_default_credentials"] == "true" {
		g.account = "" // the program does not look at it then
	}
	switch {
	case unknown == "--account", unknown == "--configuration":
		return nil, &Refusal{
			What:   "chooses an account by gcloud's own settings (" + unknown + "), which Portolan does not have.",
			Remedy: "Remove the option, and seal the key of a service account with the cluster, or name one by --impersonate_service_account. " + ServiceAccountRemedy,
		}
	case unknown != "":
		return nil, refuseOption("gke-gcloud-auth-plugin", unknown)
	case len(f.words) > 0:
		return nil, refuseOption("gke-gcloud-auth-plugin", f.words[0])
	case tooLong(g.account):
		return nil, refuseLength("gke-gcloud-auth-plugin")
	case strings.Contains(g.account, ","):
		return nil, &Refusal{
			What:   "impersonates a service account by way of others (a list in --impersonate_service_account), which Portolan does not.",
			Remedy: "Let its own identity impersonate the last of them: the role Service Account Token Creator on it, and that one alone in the option. " + ServiceAccountRemedy,
		}
	case g.account != "" && !accountPattern.MatchString(g.account):
		return nil, &Refusal{
			What:   "impersonates a service account whose address has not the form of one (name@project.iam.gserviceaccount.com).",
			Remedy: "Correct --impersonate_service_account, or remove it and seal the key of that service account with the cluster. " + ServiceAccountRemedy,
		}
	}
	if name := strangeVariable(s.Env); name != "" {
		return nil, refuseVariable("gke-gcloud-auth-plugin", name)
	}
	return g, nil
}

func (g gke) maker(cred fleet.CloudCredential, o Options) (maker, error) {
	m, whose := ambientGoogle(o), "Portolan's own Google Cloud credentials"
	if cred.Cloud == fleet.CloudGoogle {
		key, err := fleet.ParseServiceAccountKey(cred.GCPServiceAccount)
		if err != nil {
			return nil, failure(err, "Seal another key.", "The sealed service account key cannot be used: "+err.Error()+".")
		}
		m, whose = sealedGoogle(key, o), "the sealed service account "+key.ClientEmail
	}
	if g.account != "" {
		m = impersonated(m, g.account, whose, o)
	}
	return m, nil
}

func sealedGoogle(key fleet.ServiceAccountKey, o Options) maker {
	config := jwt.Config{
		Email: key.ClientEmail, PrivateKey: []byte(key.PrivateKey), PrivateKeyID: key.PrivateKeyID, Scopes: gkeScopes,
		// Wherever the key says: ours, not the key's.
		TokenURL: cmp.Or(o.GoogleTokens, google.JWTTokenURL),
	}
	return func(ctx context.Context) (Token, error) {
		way := &lastWay{on: o.client()}
		made, err := config.TokenSource(way.in(ctx)).Token()
		if err != nil {
			return Token{}, way.failure(err, "the sealed service account "+key.ClientEmail)
		}
		return Token{Value: made.AccessToken, Expires: made.Expiry}, nil
	}
}

// ambientGoogle makes tokens from the application default credentials. They are
// found anew each time: a source that is kept gives the same token out until its
// last seconds.
func ambientGoogle(o Options) maker {
	return func(ctx context.Context) (Token, error) {
		way := &lastWay{on: o.client()}
		creds, err := google.FindDefaultCredentials(way.in(ctx), gkeScopes...)
		if err != nil {
			return Token{}, failure(err, "Seal a service account key with the cluster, or give Portolan application default credentials (GOOGLE_APPLICATION_CREDENTIALS, or the service account of its machine or pod).",
				"No GKE token could be made: no Google Cloud credentials were found.")
		}
		made, err := creds.TokenSource.Token()
		if err != nil {
			return Token{}, way.failure(err, "Portolan's own Google Cloud credentials")
		}
		return Token{Value: made.AccessToken, Expires: made.Expiry}, nil
	}
}

// lastWay keeps why a client's last request had no answer: of that, the library
// that makes tokens from keys gives out only the text.
type lastWay struct {
	on    *http.Client
	asked bool
	err   error
}

// in returns a context in which the libraries of Google ask by way of w.
func (w *lastWay) in(ctx context.Context) context.Context {
	client := *w.on
	client.Transport = w
	return context.WithValue(ctx, oauth2.HTTPClient, &client)
}

// RoundTrip implements http.RoundTripper.
func (w *lastWay) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asked, w.err = true, nil
	resp, err := cmp.Or(w.on.Transport, http.DefaultTransport).RoundTrip(r)
	if err != nil {
		w.err = &url.Error{Op: r.Method, URL: r.URL.Redacted(), Err: err}
	}
	return resp, err
}

func (w *lastWay) failure(err error, whose string) error {
	doing := "No GKE token could be made from " + whose
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		var body struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.Unmarshal(answer.Body, &body) == nil && body.Error != "" {
			return failure(err, "Check in IAM that the service account and its key exist and are not disabled; make a new key if not. The clock of Portolan's machine must be right, too.",
				doing+". Google says: "+said(body.Error+": "+body.Description)+".")
		}
		return failure(err, egressRemedy, doing+": an answer that cannot be read ("+said(answer.Response.Status)+").")
	}
	why, remedy := unanswered(errors.Join(err, w.err))
	switch {
	case why != "":
		return failure(err, remedy, doing+": "+why+".")
	case w.asked:
		return failure(err, egressRemedy, doing+": an answer that cannot be read.")
	}
	return failure(err, egressRemedy, doing+".")
}
