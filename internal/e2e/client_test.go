package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// fields is what a form sends.
type fields map[string]string

// but returns the fields with some of them changed.
func (f fields) but(changes fields) fields {
	out := maps.Clone(f)
	if out == nil {
		out = fields{}
	}
	maps.Copy(out, changes)
	return out
}

// client is a person with a browser that keeps cookies and nothing else.
type client struct {
	base string
	http *http.Client
}

func newClient(base string) *client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // only a bad option can fail it, and there is none
	}
	return &client{base: base, http: &http.Client{
		Jar:           jar,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// do sends one request and reads the whole answer. form nil sends a GET's.
func (c *client) do(method, path string, form fields) (*page, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	values := url.Values{}
	for name, value := range form {
		values.Set(name, value)
	}
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(values.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return parsePage(method+" "+path, answer.StatusCode, answer.Header, string(text)), nil
}

// get reads a page, of whatever status.
func (c *client) get(t testing.TB, path string) *page {
	t.Helper()
	p, err := c.do(http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// read is get for a page that must be there.
func (c *client) read(t testing.TB, path string) *page {
	t.Helper()
	return expect(t, c.get(t, path), http.StatusOK)
}

// post sends a form.
func (c *client) post(t testing.TB, path string, form fields) *page {
	t.Helper()
	p, err := c.do(http.MethodPost, path, form)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// expect fails the test unless the page has the status.
func expect(t testing.TB, p *page, status int) *page {
	t.Helper()
	if p.status != status {
		t.Fatalf("%s: %d, want %d\n%s", p.request, p.status, status, clipped(p.text()))
	}
	return p
}

func clipped(s string) string {
	if len(s) > 1500 {
		return s[:1500] + "…"
	}
	return s
}

// login signs the person in.
func (c *client) login(t testing.TB, email, password string) {
	t.Helper()
	expect(t, c.post(t, "/login", fields{"email": email, "password": password}), http.StatusSeeOther)
}
