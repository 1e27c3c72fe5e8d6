package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/tools/clientcmd/api"
)

// authenticatorCommand tells the API server of a cloud's profile whom to ask
// about tokens that it does not know itself.
type authenticatorCommand struct {
	Name   string `required:"" help:"The cluster."`
	Dir    string `help:"Folder of the clusters."`
	URL    string `required:"" help:"Where TokenReviews are answered, such as http://127.0.0.1:8000/. Forgotten when nobody listens there any more."`
	Forget bool   `help:"Ask there no longer."`
}

// Run takes effect with the next token.
func (a *authenticatorCommand) Run() error {
	c, err := loadCluster(a.Dir, a.Name)
	if err != nil {
		return err
	}
	if c.AuthenticatorPort == 0 {
		return fmt.Errorf("%s asks nobody about tokens: its profile is no cloud's, or it was started before there were authenticators", c.Name)
	}
	if u, err := url.Parse(a.URL); err != nil || u.Host == "" {
		return fmt.Errorf("%q is not a URL", a.URL)
	}
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, a.URL)
	path := filepath.Join(c.authenticators(), hex.EncodeToString(hash.Sum(nil)))
	if a.Forget {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return os.WriteFile(path, []byte(a.URL), 0o600)
}

// authenticators is the folder with a file per authenticator, which holds its URL.
func (c *cluster) authenticators() string { return c.path("authenticators") }

// tokenWebhook is the file from which the API server knows its webhook.
func (c *cluster) tokenWebhook() string { return c.path("token-webhook.kubeconfig") }

func (c *cluster) writeTokenWebhook() error {
	if err := os.MkdirAll(c.authenticators(), 0o700); err != nil {
		return err
	}
	config := api.NewConfig()
	config.Clusters["webhook"] = &api.Cluster{Server: "http://127.0.0.1:" + strconv.Itoa(c.AuthenticatorPort)}
	config.AuthInfos["webhook"] = &api.AuthInfo{}
	config.Contexts["webhook"] = &api.Context{Cluster: "webhook", AuthInfo: "webhook"}
	config.CurrentContext = "webhook"
	return writeKubeconfig(c.tokenWebhook(), config)
}

// serveAuthenticator answers the API server's webhook for as long as this
// process lives. A cluster is shared by many tests, and an API server has one
// webhook: so every authenticator is asked, until one knows the token.
func (c *cluster) serveAuthenticator() error {
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(c.AuthenticatorPort))
	if err != nil {
		return fmt.Errorf("listening for the API server's webhook: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(c.reviewToken), ReadHeaderTimeout: 5 * time.Second}
	go func() { slog.Error("authenticator ended", "error", server.Serve(listener)) }()
	return nil
}

func (c *cluster) reviewToken(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var review authenticationv1.TokenReview
	if err == nil {
		err = json.Unmarshal(body, &review)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Status = c.askAll(r.Context(), body)
	review.Spec.Token = ""
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

func (c *cluster) askAll(ctx context.Context, body []byte) authenticationv1.TokenReviewStatus {
	entries, err := os.ReadDir(c.authenticators())
	if err != nil {
		return authenticationv1.TokenReviewStatus{Error: err.Error()}
	}
	// All at once: one of a test that the machine has no time for holds up nobody
	// else's.
	answers := make(chan authenticationv1.TokenReviewStatus, len(entries))
	for _, entry := range entries {
		path := filepath.Join(c.authenticators(), entry.Name())
		go func() {
			where, err := os.ReadFile(path)
			if err != nil {
				answers <- authenticationv1.TokenReviewStatus{} // forgotten meanwhile
				return
			}
			status, err := askAuthenticator(ctx, string(where), body)
			switch {
			case errors.Is(err, syscall.ECONNREFUSED):
				_ = os.Remove(path)
			case err != nil:
				status = authenticationv1.TokenReviewStatus{Error: err.Error()}
			}
			answers <- status
		}()
	}
	var said []string
	for range entries {
		status := <-answers
		if status.Authenticated {
			return status
		}
		if status.Error != "" {
			said = append(said, status.Error)
		}
	}
	return authenticationv1.TokenReviewStatus{Error: strings.Join(said, "; ")}
}

func askAuthenticator(ctx context.Context, where string, body []byte) (authenticationv1.TokenReviewStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 25*time.Second) // the API server waits for 30 s
	defer cancel()
	var answer authenticationv1.TokenReview
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(body))
	if err != nil {
		return answer.Status, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer.Status, err
	}
	defer func() { _ = response.Body.Close() }()
	return answer.Status, json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer)
}
