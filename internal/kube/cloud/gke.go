package cloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"

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

type gke struct{}

// Kind implements Recipe.
func (gke) Kind() string { return "GKE token" }

// Cloud implements Recipe.
func (gke) Cloud() fleet.Cloud { return fleet.CloudGoogle }

// Unknown implements Recipe.
func (gke) Unknown() string {
	return "The cluster does not know the service account: give it the role Kubernetes Engine Cluster Viewer (roles/container.clusterViewer) in the cluster's project, and the rights of the manifest in the cluster."
}

func (gke) refuse(bool) *Refusal { return nil }

// readGKE reads the command line of gke-gcloud-auth-plugin, which is empty
// where gcloud has written it.
func readGKE(s Stanza) (Recipe, *Refusal) {
	f, unknown := options{alone: []string{"--use_application_default_credentials"}}.read(s.Args)
	switch {
	case strings.HasPrefix(unknown, "--impersonate"):
		return nil, &Refusal{
			What:   "impersonates a service account, which Portolan does not.",
			Remedy: "Remove the option, and seal the key of that service account with the cluster. " + ServiceAccountRemedy,
		}
	case unknown != "":
		return nil, refuseOption("gke-gcloud-auth-plugin", unknown)
	case len(f.words) > 0:
		return nil, refuseOption("gke-gcloud-auth-plugin", f.words[0])
	}
	if name := strangeVariable(s.Env); name != "" {
		return nil, refuseVariable("gke-gcloud-auth-plugin", name)
	}
	return gke{}, nil
}

func (g gke) maker(cred fleet.CloudCredential, o Options) (maker, error) {
	if cred.Cloud == fleet.CloudGoogle {
		key, err := fleet.ParseServiceAccountKey(cred.GCPServiceAccount)
		if err != nil {
			return nil, failure(err, "Seal another key.", "The sealed service account key cannot be used: "+err.Error()+".")
		}
		config := jwt.Config{
			Email: key.ClientEmail, PrivateKey: []byte(key.PrivateKey), PrivateKeyID: key.PrivateKeyID, Scopes: gkeScopes,
			// Wherever the key says: ours, not the key's.
			TokenURL: cmp.Or(o.GoogleTokens, google.JWTTokenURL),
		}
		return func(ctx context.Context) (Token, error) {
			made, err := config.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, o.client())).Token()
			if err != nil {
				return Token{}, googleFailure(err, "the sealed service account "+key.ClientEmail)
			}
			return Token{Value: made.AccessToken, Expires: made.Expiry}, nil
		}, nil
	}
	m := &googleMaker{options: o}
	return m.make, nil
}

// googleMaker makes tokens from the application default credentials.
type googleMaker struct {
	options Options
	mu      sync.Mutex
	source  oauth2.TokenSource // once they have been found
}

func (m *googleMaker) find() (oauth2.TokenSource, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.source != nil {
		return m.source, nil
	}
	// The source keeps this context for as long as it lives; the client bounds
	// each request.
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, m.options.client())
	creds, err := google.FindDefaultCredentials(ctx, gkeScopes...)
	if err != nil {
		return nil, err
	}
	m.source = creds.TokenSource
	return m.source, nil
}

func (m *googleMaker) make(context.Context) (Token, error) {
	const whose = "Portolan's own Google Cloud credentials"
	source, err := m.find()
	if err != nil {
		return Token{}, failure(err, "Seal a service account key with the cluster, or give Portolan application default credentials (GOOGLE_APPLICATION_CREDENTIALS, or the service account of its machine or pod).",
			"No GKE token could be made: no Google Cloud credentials were found.")
	}
	made, err := source.Token()
	if err != nil {
		return Token{}, googleFailure(err, whose)
	}
	return Token{Value: made.AccessToken, Expires: made.Expiry}, nil
}

func googleFailure(err error, whose string) error {
	doing := "No GKE token could be made from " + whose
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		var body struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		words := "no reason"
		switch {
		case json.Unmarshal(answer.Body, &body) == nil && body.Error != "":
			words = said(body.Error + ": " + body.Description)
		case answer.Response != nil:
			words = answer.Response.Status
		}
		return failure(err, "Check in IAM that the service account and its key exist and are not disabled; make a new key if not. The clock of Portolan's machine must be right, too.",
			doing+". Google says: "+words+".")
	}
	if why := unanswered(err); why != "" {
		return failure(err, egressRemedy, doing+": "+why+".")
	}
	return failure(err, egressRemedy, doing+".")
}
