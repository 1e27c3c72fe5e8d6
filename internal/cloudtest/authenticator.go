package cloudtest

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	authentication "k8s.io/api/authentication/v1"
)

// Check returns whose a token is, or why it is nobody's.
type Check func(token string) (authentication.UserInfo, error)

// Authenticator serves check as an API server's token webhook for as long as
// the test runs, and returns its URL.
func Authenticator(t testing.TB, check Check) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review authentication.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		user, err := check(review.Spec.Token)
		review.Status = authentication.TokenReviewStatus{Authenticated: err == nil, User: user}
		if err != nil {
			review.Status = authentication.TokenReviewStatus{Error: err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// Admin is a user of that name with all rights.
func Admin(name string) authentication.UserInfo {
	return authentication.UserInfo{Username: name, Groups: []string{"system:masters"}}
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
