package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
)

// loginAddress leads to the page for signing in and, from there, back to where
// a read wanted to go, or to the page of the form that was sent. The page then
// says that the form came to nothing.
func loginAddress(r *http.Request) string {
	query := url.Values{}
	switch from, ok := askedFrom(r); {
	case r.Method == http.MethodGet && isPage(r):
		query.Set("next", r.URL.RequestURI())
	case ok && r.URL.Path != "/logout":
		query.Set("next", from)
		if r.Method == http.MethodPost {
			query.Set("unsaved", "true")
		}
	}
	if query.Get("next") == "/" && len(query) == 1 {
		query.Del("next")
	}
	if len(query) == 0 {
		return "/login"
	}
	return "/login?" + query.Encode()
}

// askedFrom returns the address of the page that a browser sent the request
// from. One that answers a form has the form's address, which need not be that
// of a page: then it is the nearest page above it, or the one with the form.
func askedFrom(r *http.Request) (string, bool) {
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host == "" || from.Host != r.Host {
		return "", false
	}
	if r.Method != http.MethodPost || from.Path != r.URL.Path {
		return localAddress(from.RequestURI()), true
	}
	page := pageOf(r.URL.Path, chi.RouteContext(r.Context()).RoutePattern())
	if page == from.Path {
		page = from.RequestURI()
	}
	return localAddress(page), true
}

// pageOf is the page with the form that is sent to a path of the pattern: the
// path itself, or the nearest one above it that is a page.
func pageOf(path, pattern string) string {
	switch pattern {
	case "/admin/clusters":
		return path + "/new"
	case "/admin/clusters/{id}":
		return path + "/edit"
	case "/workloads/{id}/update":
		return strings.TrimSuffix(path, "update") + "edit"
	}
	for ; pattern != ""; path, pattern = above(path), above(pattern) {
		if _, is := access["GET "+pattern]; is {
			return path
		}
	}
	return "/"
}

// above is the path without its last part.
func above(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }
