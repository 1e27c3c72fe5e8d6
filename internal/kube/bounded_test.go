package kube

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

type answering func(*http.Request) *http.Response

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

type blank struct{}

func (blank) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestAttack13AnAnswerWithoutEndIsBrokenOff(t *testing.T) {
	t.Parallel()
	client := http.Client{Transport: &boundedAnswers{next: answering(func(r *http.Request) *http.Response {
		n, status := int64(9<<20), http.StatusOK // more than an object can be
		if r.URL.Query().Has("fits") {
			n = 7 << 20
		}
		if r.URL.Query().Has("refused") {
			n, status = 2<<20, http.StatusForbidden // more than an error can be
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(io.LimitReader(blank{}, n)), Request: r}
	})}}
	for address, broken := range map[string]bool{
		"/api/v1/namespaces/a/pods":                           true,
		"/api/v1/namespaces/a/pods?fits":                      false,
		"/api/v1/namespaces/a/pods?watch=true":                false,
		"/api/v1/namespaces/a/pods/b/log":                     false,
		"/api/v1/namespaces/a/configmaps/b?dryRun=":           true,
		"/api/v1/namespaces/a/pods?follow=true":               true,
		"/api/v1/namespaces/a/pods?watch=true&refused":        true,
		"/api/v1/namespaces/a/pods/b/log?follow=true&refused": true,
	} {
		r := httptest.NewRequest(http.MethodGet, "https://cluster.example"+address, nil)
		r.RequestURI = ""
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(io.Discard, resp.Body); (err != nil) != broken {
			t.Errorf("%s: %v", address, err)
		}
	}
}
