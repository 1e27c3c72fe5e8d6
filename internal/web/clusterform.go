package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/internal/registry"
	"portolan/views"
	"portolan/views/ui"
)

// newCluster shows an empty form, or one filled in from a kubeconfig that was
// found: the parameters path and context.
func (s *Server) newCluster(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	form := startingCluster(clip(q.Get("path"), 1024), clip(q.Get("context"), 253))
	var v views.ClusterForm
	if form["kubeconfig_path"] != "" {
		if contexts, err := s.Registry.Inspect(r.Context(), form); err == nil {
			if form["context"] != "" {
				form = foundForm(form["kubeconfig_path"], form["context"], len(contexts) > 1)
			}
			describe(form, contexts)
			v.Inspection = s.refusedContext(form, contexts)
		}
	}
	if err := s.freeID(r.Context(), form); err != nil {
		return err
	}
	v.Form = shownForm(form, nil)
	return s.clusterFormPage(w, r, http.StatusOK, v, form)
}

// freeID counts the id and the label of a form on where another cluster has that id,
// as where one is made anew under its old name.
func (s *Server) freeID(ctx context.Context, form fleet.ClusterForm) error {
	id, label := form["id"], form["label"]
	for n := 2; form["id"] != ""; n++ {
		_, err := s.Reads.ClusterStatus(ctx, form["id"])
		if fleet.CodeOf(err) == fleet.CodeNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		count := strconv.Itoa(n)
		form["id"] = id[:min(len(id), 62-len(count))] + "-" + count
		form["label"] = label + " " + count
	}
	return nil
}

// refusedContext is the inspection of the context that the form names, if it is
// refused: whoever comes from the list of those that were found sees why at once.
func (s *Server) refusedContext(form fleet.ClusterForm, contexts []registry.Context) *views.Inspection {
	for i, c := range contexts {
		if c.Name == form["context"] && c.Refusal != "" {
			return s.inspection(form, contexts[i:i+1], nil)
		}
	}
	return nil
}

var notID = regexp.MustCompile(`[^a-z0-9]+`)

// startingCluster is a form with the values that most clusters begin with.
func startingCluster(kubeconfig, context string) fleet.ClusterForm {
	form := fleet.ClusterForm{
		"provider": string(fleet.ProviderKubernetes), "credential_mode": string(fleet.CredentialMounted), "cloud_credential": "ambient",
		"kubeconfig_path": kubeconfig, "context": context,
		"namespace": "portolan", "exposure_mode": string(fleet.ExposureClusterIP), "enabled": "true",
	}
	if kubeconfig == "" {
		return form
	}
	base := path.Base(kubeconfig)
	for _, ext := range []string{".yaml", ".yml", ".kubeconfig", ".conf", ".config"} {
		base = strings.TrimSuffix(base, ext)
	}
	id := strings.Trim(notID.ReplaceAllString(strings.ToLower(base), "-"), "-")
	form["id"], form["label"] = id[:min(len(id), 63)], base
	for _, p := range fleet.Providers {
		if id == string(p) || strings.HasPrefix(id, string(p)+"-") {
			form["provider"] = string(p)
		}
	}
	form["exposure_mode"] = string(startingExposure(fleet.Provider(form["provider"])))
	return form
}

func startingExposure(p fleet.Provider) fleet.ExposureMode {
	switch p {
	case fleet.ProviderKind, fleet.ProviderK3s:
		return fleet.ExposureNodePort
	case fleet.ProviderAKS, fleet.ProviderGKE, fleet.ProviderEKS:
		return fleet.ExposureLoadBalancer
	default:
		return fleet.ExposureClusterIP
	}
}

// describe fills in what the kubeconfig itself says.
func describe(form fleet.ClusterForm, contexts []registry.Context) {
	for _, c := range contexts {
		if c.Name != form["context"] && (form["context"] != "" || !c.Current) {
			continue
		}
		form["cluster_name"] = c.Cluster
		if u, err := url.Parse(c.Server); err == nil && form["exposure_mode"] == string(fleet.ExposureNodePort) {
			form["runtime_host"] = u.Hostname()
		}
	}
}

func (s *Server) editCluster(w http.ResponseWriter, r *http.Request) error {
	status, err := s.Reads.ClusterStatus(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	form := registry.FormOf(status.Cluster)
	return s.clusterFormPage(w, r, http.StatusOK, existing(status.Cluster, shownForm(form, nil)), form)
}

func existing(c fleet.Cluster, form ui.Form) views.ClusterForm {
	return views.ClusterForm{
		ID: c.ID, Label: c.Label, Form: form, StoredCloud: string(c.Cloud.Cloud), StoredSecret: c.CredentialMode == fleet.CredentialEncrypted && c.CredentialHash != "",
	}
}

func (s *Server) createCluster(w http.ResponseWriter, r *http.Request) error {
	form, err := readClusterForm(r)
	if err != nil {
		return err
	}
	c, err := s.Registry.Register(r.Context(), actor(r), form)
	if formAgain(err) {
		return s.clusterFormPage(w, r, formStatus(err), views.ClusterForm{Form: shownForm(form, err)}, form)
	}
	if err != nil {
		return err
	}
	return s.done(w, r, "/admin/clusters/"+c.ID, "Saved. Test the connection to make it a target.")
}

func (s *Server) updateCluster(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	form, err := readClusterForm(r)
	if err != nil {
		return err
	}
	typed := fleet.ClusterForm{} // the use case writes into its form
	for name, value := range form {
		typed[name] = value
	}
	_, err = s.Registry.Update(r.Context(), actor(r), id, form)
	if !formAgain(err) {
		if err != nil {
			return err
		}
		return s.done(w, r, "/admin/clusters/"+id, "Saved.")
	}
	now, readErr := s.Reads.ClusterStatus(r.Context(), id)
	if readErr != nil {
		return readErr
	}
	shown := shownForm(typed, err)
	v := existing(now.Cluster, shown)
	if fleet.CodeOf(err) == fleet.CodeConflict && typed["version"] != strconv.FormatInt(now.Cluster.Version, 10) {
		v.Changes = changes(typed, registry.FormOf(now.Cluster), err)
		v.Form.Errors = nil // what differs is no mistake
		v.Form.Values["version"] = []string{strconv.FormatInt(now.Cluster.Version, 10)}
	}
	return s.clusterFormPage(w, r, formStatus(err), v, typed)
}

// changes lists the fields in which the form differs from what somebody else has
// saved meanwhile: those that have problems.
func changes(typed, saved map[string]string, err error) []views.Change {
	var e *fleet.Error
	if !errors.As(err, &e) {
		return nil
	}
	secrets := map[string]bool{}
	for _, name := range typedSecrets(typed) {
		if slices.Contains(fleet.CloudSecretFields, name) {
			name = "cloud_secret" // as a difference calls all of them
		}
		secrets[name] = true
	}
	var out []views.Change
	for field := range e.Problems {
		c := views.Change{Field: field, Theirs: clip(saved[field], shownChange), Yours: clip(typed[field], shownChange)}
		if slices.Contains(neverShown, field) {
			if !secrets[field] {
				continue // left blank, it keeps theirs
			}
			c.Theirs, c.Yours, c.Secret = "another one is stored", "the one you entered, if you enter it again", true
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b views.Change) int { return strings.Compare(a.Field, b.Field) })
	return out
}

// shownChange bounds in bytes what is shown of a value to compare.
const shownChange = 2000

// clusterFormPage shows the form with what the folder of kubeconfigs offers.
func (s *Server) clusterFormPage(w http.ResponseWriter, r *http.Request, status int, v views.ClusterForm, form fleet.ClusterForm) error {
	s.offerCredentials(r.Context(), &v, form)
	enterAgain(&v.Form, form, storedSecrets(v)...)
	title := "Add cluster"
	if v.ID != "" {
		title = "Edit " + v.Label
	}
	return s.render(w, r, status, title, func(p views.Page) templ.Component { return views.ClusterFormPage(p, v) })
}

// storedSecrets are the fields of which the cluster has something stored.
func storedSecrets(v views.ClusterForm) []string {
	out := []string{fleet.Cloud(v.StoredCloud).SecretField()}
	if v.StoredSecret {
		out = append(out, "kubeconfig")
	}
	return out
}

// offerCredentials adds what a credential can be chosen from.
func (s *Server) offerCredentials(ctx context.Context, v *views.ClusterForm, form fleet.ClusterForm) {
	v.EncryptedOff = s.SealingOff
	if files, err := s.Registry.Found(ctx); err == nil {
		for _, f := range files {
			if f.Problem == "" {
				v.Paths = append(v.Paths, f.Path)
			}
		}
	}
	v.Contexts = s.contexts(ctx, form)
	if v.Form.Bad("kubeconfig") || v.Form.Bad("kubeconfig_path") {
		v.Manifest = string(s.Registry.RBACOf(form))
	}
}

// contexts are the names of the contexts in the file that the form names.
func (s *Server) contexts(ctx context.Context, form fleet.ClusterForm) []string {
	if form["credential_mode"] != string(fleet.CredentialMounted) || form["kubeconfig_path"] == "" {
		return nil
	}
	list, err := s.Registry.Inspect(ctx, form)
	if err != nil {
		return nil // the field itself says what is wrong when the form is sent
	}
	var out []string
	for _, c := range list {
		out = append(out, c.Name)
	}
	return out
}

// inspectKubeconfig says what a kubeconfig holds before anything is saved.
func (s *Server) inspectKubeconfig(w http.ResponseWriter, r *http.Request) error {
	form, err := readClusterForm(r)
	if err != nil {
		return err
	}
	contexts, err := s.Registry.Inspect(r.Context(), form)
	if err != nil && fleet.CodeOf(err) != fleet.CodeInvalid {
		return err
	}
	status := http.StatusOK
	if err != nil {
		status = http.StatusUnprocessableEntity
	}
	inspection := s.inspection(form, contexts, err)
	if isFragment(r) {
		return s.renderFragment(w, r, status, views.InspectionFragment(inspection))
	}
	v := views.ClusterForm{Form: shownForm(form, err)}
	if id, page := editedCluster(r); id != "" {
		c, err := s.Reads.ClusterStatus(r.Context(), id)
		if err != nil {
			return err
		}
		if page == "credential" {
			return s.credentialPage(w, r, status, c, form, views.Credential{Form: views.ClusterForm{Form: v.Form, Inspection: inspection}})
		}
		v = existing(c.Cluster, v.Form)
	}
	v.Inspection = inspection
	return s.clusterFormPage(w, r, status, v, form)
}

var editPage = regexp.MustCompile(`^/admin/clusters/([a-z0-9-]+)/(edit|credential)$`)

// editedCluster is the cluster whose form asked for an inspection without
// JavaScript, and which of its forms.
func editedCluster(r *http.Request) (id, page string) {
	if m := editPage.FindStringSubmatch(r.URL.Query().Get("page")); m != nil {
		return m[1], m[2]
	}
	return "", ""
}

// inspection is what a kubeconfig holds. Where a service account's token is the
// way out, it comes with what makes one for the namespaces of the form; the form
// that replaces a credential has none, and prints that for its cluster.
func (s *Server) inspection(form fleet.ClusterForm, contexts []registry.Context, err error) *views.Inspection {
	v := inspectionView(contexts, err)
	if slices.ContainsFunc(contexts, func(c registry.Context) bool { return c.Account }) {
		v.Manifest = string(s.Registry.RBACOf(form))
	}
	return v
}

func inspectionView(contexts []registry.Context, err error) *views.Inspection {
	var e *fleet.Error
	if errors.As(err, &e) {
		v := &views.Inspection{Problem: e.Message, Remedy: e.Remedy}
		if len(e.Problems) > 0 {
			v.Problem = e.Problems.String()
		}
		return v
	}
	v := &views.Inspection{OK: true}
	for _, c := range contexts {
		v.Contexts = append(v.Contexts, views.InspectedContext{
			Name: c.Name, Cluster: c.Cluster, Server: c.Server, User: c.User, Current: c.Current,
			Auth: join(" of ", c.Says.Kind, c.Says.Subject), Ends: c.Says.NotAfter,
		})
		switch left := time.Until(c.Says.NotAfter); {
		case c.Says.NotAfter.IsZero():
		case left <= 0:
			v.Warnings = append(v.Warnings, c.Name+": its "+c.Says.Kind+" has ended.")
		case left < fleet.ExpiryWarning:
			v.Warnings = append(v.Warnings, c.Name+": its "+c.Says.Kind+" ends soon.")
		}
		if c.Refusal != "" {
			v.Warnings = append(v.Warnings, c.Name+": "+c.Refusal)
		}
	}
	return v
}

// readClusterForm reads the fields of a cluster's form. What scripts write for
// a box that is not ticked counts as empty, as browsers send nothing for it.
func readClusterForm(r *http.Request) (fleet.ClusterForm, error) {
	form, err := readForm(r)
	untick(form, "enabled", "allow_tls_skip", "allow_proxy")
	return form, err
}

func untick(form map[string]string, names ...string) {
	for _, name := range names {
		switch strings.ToLower(strings.TrimSpace(form[name])) {
		case "false", "off", "0", "no":
			form[name] = ""
		}
	}
}
