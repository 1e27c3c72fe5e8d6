package web

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/internal/registry"
	"portolan/views"
	"portolan/views/ui"
)

// maxFound bounds how many contexts one form registers.
const maxFound = 200

// showFound offers every context of the kubeconfigs that no cluster uses, to
// be registered together.
func (s *Server) showFound(w http.ResponseWriter, r *http.Request) error {
	files, err := s.Registry.Found(r.Context())
	if err != nil {
		return err
	}
	var rows []views.FoundRow
	for _, f := range files {
		for _, c := range f.Contexts {
			if len(rows) < maxFound {
				rows = append(rows, foundRow(f, c))
			}
		}
	}
	unique(rows)
	return s.foundPage(w, r, http.StatusOK, views.FoundForm{Rows: rows, Namespace: startingCluster("", "")["namespace"]})
}

func (s *Server) foundPage(w http.ResponseWriter, r *http.Request, status int, v views.FoundForm) error {
	return s.render(w, r, status, "Register found clusters", func(p views.Page) templ.Component { return views.FoundPage(p, v) })
}

func foundRow(f registry.Found, c registry.Context) views.FoundRow {
	form := foundForm(f.Path, c.Name, len(f.Contexts)+f.Used > 1)
	return views.FoundRow{
		Path: f.Path, Context: c.Name, Server: c.Server, ID: form["id"], Provider: form["provider"],
		Picked: c.Refusal == "", Refusal: c.Refusal, Register: foundAddress(f.Path, c.Name),
	}
}

// foundAddress is where the form of one context is, filled in.
func foundAddress(file, context string) string {
	return address("/admin/clusters/new", "path", file, "context", context)
}

// foundForm is the form of one context. In a file of several, the name of the
// context tells them apart, without what is the same in all names of a cloud.
func foundForm(file, context string, several bool) fleet.ClusterForm {
	form := startingCluster(file, context)
	if !several {
		return form
	}
	name := context
	if strings.HasPrefix(name, "arn:") || strings.HasPrefix(name, "gke_") {
		name = name[strings.LastIndexAny(name, "/_")+1:]
	}
	id := strings.Trim(notID.ReplaceAllString(strings.ToLower(name), "-"), "-")
	form["id"], form["label"] = strings.Trim(id[:min(len(id), 63)], "-"), clip(name, 76)
	for _, p := range fleet.Providers {
		// As the clouds' and kind's own programs name contexts.
		if strings.HasPrefix(context, string(p)+"-") || strings.HasPrefix(context, string(p)+"_") ||
			strings.HasPrefix(context, "arn:aws") && strings.Contains(context, ":"+string(p)+":") {
			form["provider"] = string(p)
		}
	}
	return form
}

// unique numbers the ids that several rows would have.
func unique(rows []views.FoundRow) {
	taken := map[string]bool{}
	for i := range rows {
		id := rows[i].ID
		for n := 2; taken[rows[i].ID]; n++ {
			rows[i].ID = strings.Trim(id[:min(len(id), 58)], "-") + "-" + strconv.Itoa(n)
		}
		taken[rows[i].ID] = true
	}
}

// registerFound registers the contexts that were picked. Those that cannot be
// are shown again, each with the reason; the others are registered.
func (s *Server) registerFound(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	v := views.FoundForm{Namespace: form["namespace"]}
	registered, picked := 0, 0
	for i := range maxFound {
		n := "_" + strconv.Itoa(i)
		row := views.FoundRow{
			Path: form["path"+n], Context: form["context"+n], ID: strings.TrimSpace(form["id"+n]), Provider: form["provider"+n],
			Picked: form["pick"+n] != "", Register: foundAddress(form["path"+n], form["context"+n]),
		}
		if row.Path == "" {
			continue
		}
		if !row.Picked {
			v.Rows = append(v.Rows, row)
			continue
		}
		picked++
		_, err := s.Registry.Register(r.Context(), actor(r), s.pickedForm(r, row, v.Namespace))
		switch {
		case err == nil:
			registered++
			continue
		case !formAgain(err):
			return err
		}
		row.Error = rowError(err)
		v.Rows = append(v.Rows, row)
		v.Failed++
	}
	switch {
	case picked == 0:
		return s.foundPage(w, r, http.StatusUnprocessableEntity, withError(v, "Pick at least one context."))
	case v.Failed > 0:
		return s.foundPage(w, r, http.StatusUnprocessableEntity, withError(v, fmt.Sprintf("%d registered, %d not: see below.", registered, v.Failed)))
	}
	notice := fleet.Counted(registered, "cluster registered. Test it to make it a target.", "clusters registered. Test them to make them targets.")
	return s.done(w, r, "/admin/clusters?status=untested", notice)
}

// pickedForm is the cluster form of one row.
func (s *Server) pickedForm(r *http.Request, row views.FoundRow, namespace string) fleet.ClusterForm {
	form := startingCluster(row.Path, row.Context)
	form["id"], form["label"], form["namespace"] = row.ID, row.ID, namespace
	if row.ID == "" {
		form["label"] = path.Base(row.Path)
	}
	if slices.Contains(fleet.Providers, fleet.Provider(row.Provider)) {
		form["provider"] = row.Provider
		form["exposure_mode"] = string(startingExposure(fleet.Provider(row.Provider)))
	}
	if contexts, err := s.Registry.Inspect(r.Context(), form); err == nil {
		describe(form, contexts)
	}
	return form
}

// rowError is why one row was not registered, in a line.
func rowError(err error) string {
	shown := shownForm(nil, err)
	var parts []string
	for _, field := range []string{"id", "namespace", "kubeconfig_path", "context", "kubeconfig", "runtime_host"} {
		if text := shown.Errors[field]; text != "" {
			parts = append(parts, field+": "+text)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, shown.Error)
		for field, text := range shown.Errors {
			parts = append(parts, field+": "+text)
		}
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func withError(v views.FoundForm, text string) views.FoundForm {
	v.Form = ui.Form{Error: text}
	return v
}
