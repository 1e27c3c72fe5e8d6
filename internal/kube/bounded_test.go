package kube

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type answering func(*http.Request) *http.Response

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func TestAttack13AnAnswerWithoutEndIsBrokenOff(t *testing.T) {
	t.Parallel()
	const size = 1 << 10
	client := http.Client{Transport: &boundedAnswers{limit: size, onError: size, next: answering(func(r *http.Request) *http.Response {
		n := size + 1
		if r.URL.Query().Has("fits") {
			n = size
		}
		status := http.StatusOK
		if r.URL.Query().Has("refused") {
			status = http.StatusForbidden
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(strings.Repeat("x", n))), Request: r}
	})}}
	for address, broken := range map[string]bool{
		"/api/v1/namespaces/a/pods":                           true,
		"/api/v1/namespaces/a/pods?fits":                      false,
		"/api/v1/namespaces/a/pods?watch=true":                false,
		"/api/v1/namespaces/a/pods/b/log":                     false,
		"/api/v1/namespaces/a/configmaps/b?dryRun=":           true,
		"/api/v1/namespaces/a/pods?watch=true&refused":        true,
		"/api/v1/namespaces/a/pods/b/log?follow=true&refused": true,
		"/api/v1/namespaces/a/pods?follow=true":               true,
	} {
		r := httptest.NewRequest(http.MethodGet, "https://cluster.example"+address, nil)
		r.RequestURI = ""
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(resp.Body); errors.Is(err, errTooMuch) != broken {
			t.Errorf("%s: %v", address, err)
		}
	}
}
