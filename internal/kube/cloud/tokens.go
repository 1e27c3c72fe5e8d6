package cloud

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"portolan/internal/fleet"
)

// Tokens keeps the present token of one cluster, and makes the next before it
// ends. It is safe for use by several goroutines; one of them makes it for all.
type Tokens struct {
	make maker

	mu      sync.Mutex
	token   Token
	made    time.Time
	renewAt time.Time // from then on a new one is made while the old is used
	failed  error     // of the last try, told again until retryAt
	retryAt time.Time
	making  singleflight.Group
}

// How long after a failure the cloud is asked again: at once would hammer it
// with a wrong credential, which some answer by locking the account.
const (
	retryAfter  = 2 * time.Second
	makeTimeout = 30 * time.Second
	fresh       = 10 * time.Second
	spare       = 30 * time.Second
)

// NewTokens returns the tokens of a recipe from a sealed credential, or from
// this machine's where cred is zero, as the recipe was recognised for. It makes
// none yet. Errors are fleet.Errors.
func NewTokens(r Recipe, cred fleet.CloudCredential, o Options) (*Tokens, error) {
	m, err := r.maker(cred, o)
	if err != nil {
		return nil, err
	}
	return &Tokens{make: m}, nil
}

// Token returns a token that is good now. It waits for a new one only when
// there is none: a quarter of its life before a token ends, whoever asks gets it
// and a new one is made meanwhile. Errors are fleet.Errors with the cloud's own
// words, and hold no secret.
func (t *Tokens) Token(ctx context.Context) (Token, error) {
	token, due, err := t.present()
	if !due {
		return token, err
	}
	made := t.making.DoChan("", t.renew)
	if token.Value != "" {
		return token, nil
	}
	select {
	case <-ctx.Done():
		return Token{}, failure(ctx.Err(), egressRemedy, "The cloud did not make a token in time.")
	case result := <-made:
		if result.Err != nil {
			return Token{}, result.Err
		}
		return result.Val.(Token), nil
	}
}

// present returns what is known without asking the cloud: a token that is good
// now, or the failure of the last try. It is due when the cloud is to be asked
// all the same: there is neither, or their time is over.
func (t *Tokens) present() (token Token, due bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	due = now.After(t.renewAt) && now.After(t.retryAt)
	if now.Before(t.token.Expires) {
		return t.token, due, nil
	}
	return Token{}, due || t.failed == nil, t.failed
}

// renew makes a token, whoever asked for it still waiting or not. Who saw that
// one was due just before another's came gets that one.
func (t *Tokens) renew() (any, error) {
	if token, due, err := t.present(); !due {
		return token, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), makeTimeout)
	defer cancel()
	began := time.Now()
	token, err := t.make(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed, t.retryAt = err, time.Now().Add(retryAfter)
		return nil, err
	}
	// The cloud tells how long a token is good, which its library counts from when
	// that has arrived; and what is sent in its last moments may arrive after them.
	life := time.Until(token.Expires)
	life -= min(life/10, spare)
	token.Expires = began.Add(life)
	t.failed, t.retryAt, t.token = nil, time.Time{}, token
	t.made = began
	t.renewAt = began.Add(life * 3 / 4)
	return token, nil
}

// drop forgets a token that the API server did not accept, unless it was made
// just now: another would fare no better.
func (t *Tokens) drop(value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token.Value == value && time.Since(t.made) > fresh {
		t.token, t.renewAt = Token{}, time.Time{}
	}
}

// Authorize returns a transport that puts the present token on every request
// before next sends it, so that a watch or stream that begins anew has a good
// one however long its client lives.
func (t *Tokens) Authorize(next http.RoundTripper) http.RoundTripper {
	return &authorized{next: next, tokens: t}
}

type authorized struct {
	next   http.RoundTripper
	tokens *Tokens
}

// RoundTrip implements http.RoundTripper.
func (a *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := a.tokens.Token(req.Context())
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // a transport closes it on errors too
		}
		return nil, err
	}
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token.Value)
	resp, err := a.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		a.tokens.drop(token.Value)
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport below.
func (a *authorized) WrappedRoundTripper() http.RoundTripper { return a.next }
