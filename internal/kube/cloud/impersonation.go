package cloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"
)

// googleIAM is the service that makes tokens of one service account for another:
// https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken.
const googleIAM = "https://iamcredentials.googleapis.com"

// impersonated makes tokens of a service account by means of those of another
// identity, which is not shown to the API server.
func impersonated(by maker, account, whose string, o Options) maker {
	return func(ctx context.Context) (Token, error) {
		own, err := by(ctx)
		if err != nil {
			return Token{}, err
		}
		doing := "No GKE token could be made from " + whose + " by impersonating " + account
		body, err := json.Marshal(map[string]any{"scope": gkeScopes})
		if err != nil {
			return Token{}, err
		}
		to := cmp.Or(o.GoogleIAM, googleIAM) + "/v1/projects/-/serviceAccounts/" + url.PathEscape(account) + ":generateAccessToken"
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
		if err != nil {
			return Token{}, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+own.Value)
		resp, err := o.client().Do(req)
		if err != nil {
			why, remedy := unanswered(err)
			return Token{}, failure(err, remedy, doing+": "+why+".")
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if err != nil {
			return Token{}, failure(err, egressRemedy, doing+": the answer broke off.")
		}
		var answer struct {
			AccessToken string    `json:"accessToken"`
			ExpireTime  time.Time `json:"expireTime"`
			Error       struct {
				Status  string `json:"status"`
				Message string `json:"message"`
			} `json:"error"`
		}
		err = json.Unmarshal(text, &answer)
		switch ok := resp.StatusCode == http.StatusOK; {
		case err != nil && ok, ok && (answer.AccessToken == "" || answer.ExpireTime.IsZero()):
			return Token{}, failure(err, egressRemedy, doing+": an answer that cannot be read.")
		case !ok:
			words := resp.Status
			if answer.Error.Message != "" {
				words = answer.Error.Status + ": " + answer.Error.Message
			}
			return Token{}, failure(err, refusedRemedy(resp.StatusCode, err == nil), doing+". Google says: "+said(words)+".")
		}
		return Token{Value: answer.AccessToken, Expires: answer.ExpireTime}, nil
	}
}

// refusedRemedy is the way out of an answer other than 200, which is Google's
// own where it is JSON, and otherwise that of something before it.
func refusedRemedy(status int, own bool) string {
	switch {
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return "Try again in a few minutes. If it stays so: " + egressRemedy
	case own && (status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound):
		return "Give that identity the role Service Account Token Creator (roles/iam.serviceAccountTokenCreator) on the service account, and enable the IAM Service Account Credentials API in its project."
	}
	return egressRemedy
}
