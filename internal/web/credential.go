package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/internal/registry"
	"portolan/views"
)

// showCredential shows the form that replaces a cluster's credential.
func (s *Server) showCredential(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Reads.ClusterStatus(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	form := fleet.ClusterForm{}
	for name, value := range registry.FormOf(c.Cluster) {
		for _, field := range registry.CredentialFields {
			if name == field {
				form[name] = value
			}
		}
	}
	return s.credentialPage(w, r, http.StatusOK, c, form, views.Credential{Form: views.ClusterForm{Form: shownForm(form, nil)}})
}

// rotateCredential tests another credential and takes it if it passes. The
// answer comes after the test, which is bounded.
func (s *Server) rotateCredential(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	form, err := readClusterForm(r)
	if err != nil {
		return err
	}
	test, err := s.Registry.Rotate(r.Context(), actor(r), id, form)
	if err == nil {
		return s.done(w, r, "/admin/clusters/"+id, "The new credential passed its test and has taken the place of the old one.")
	}
	if !formAgain(err) {
		return err
	}
	c, readErr := s.Reads.ClusterStatus(r.Context(), id)
	if readErr != nil {
		return readErr
	}
	v := views.Credential{Form: views.ClusterForm{Form: shownForm(form, err)}}
	var why *fleet.Error
	if errors.As(err, &why) && len(test.Checks) > 0 {
		v.Problem, v.Remedy, v.Test = why.Message, why.Remedy, testView(&test)
		v.Form.Form.Error, v.Form.Form.Errors = "", nil // it is no field's fault
	}
	return s.credentialPage(w, r, formStatus(err), c, form, v)
}

func (s *Server) credentialPage(w http.ResponseWriter, r *http.Request, status int, c fleet.Status, form fleet.ClusterForm, v views.Credential) error {
	v.ID, v.Form.ID, v.Label = c.Cluster.ID, c.Cluster.ID, c.Cluster.Label
	v.Present = credentialFacts(&c, time.Now())
	s.offerCredentials(r.Context(), &v.Form, form)
	// Of the role alone: whom it is for now is about to be replaced.
	v.Form.Manifest = string(s.Registry.RBACOf(registry.FormOf(c.Cluster)))
	if v.Test == nil { // after a test, what is said of that comes first
		enterAgain(&v.Form.Form, form)
	}
	return s.render(w, r, status, "Rotate the credential of "+v.Label, func(p views.Page) templ.Component { return views.CredentialPage(p, v) })
}
