package web

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

// act begins an operation and leads to its page.
func (s *Server) act(verb fleet.Verb) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		form, err := readForm(r)
		if err != nil {
			return err
		}
		untick(form, "keep_volumes")
		id := chi.URLParam(r, "id")
		op, err := s.Operator.Act(r.Context(), actor(r), id, verb, form)
		asks := verb == fleet.VerbDelete || verb == fleet.VerbForget
		if asks && fleet.CodeOf(err) == fleet.CodeInvalid {
			return s.deletePage(w, r, http.StatusUnprocessableEntity, verb, form, err)
		}
		if err != nil {
			return err
		}
		return redirectError("/operations/" + op.ID)
	}
}

func (s *Server) askDeleteWorkload(w http.ResponseWriter, r *http.Request) error {
	return s.deletePage(w, r, http.StatusOK, fleet.VerbDelete, nil, nil)
}

// deletePage asks for the name. Where the cluster cannot be reached it offers
// admins to forget the workload instead.
func (s *Server) deletePage(w http.ResponseWriter, r *http.Request, status int, verb fleet.Verb, form map[string]string, wrong error) error {
	state, err := s.Reads.Workload(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	situation, err := s.Operator.Situation(r.Context(), state)
	if err != nil {
		return err
	}
	volumes, err := s.Reads.VolumeNames(r.Context(), state.Workload.ID)
	if err != nil {
		return err
	}
	wl := &state.Workload
	v := views.WorkloadDelete{Delete: deleteConfirm(wl, volumes)}
	if err := situation.Allows(fleet.VerbDelete); err != nil {
		f := s.failure(r, err)
		v.Delete.Blocked = &f
	}
	if visitOf(r.Context()).user.Role.Includes(fleet.VerbForget.Role()) && situation.Allows(fleet.VerbForget) == nil {
		v.Forget = &views.Confirm{
			Title: "Forget " + wl.Name,
			Says: []string{
				"This removes " + wl.Name + " from Portolan and touches no cluster: it is for a cluster that is gone for good.",
				"What still runs on " + wl.Target() + " goes on running, unknown to Portolan.",
			},
			Action: "/workloads/" + wl.ID + "/forget", Word: wl.Name, Submit: "Forget workload", Back: "/workloads/" + wl.ID,
		}
	}
	if verb == fleet.VerbForget && v.Forget != nil {
		v.Forget.Form = shownForm(form, wrong)
	} else {
		v.Delete.Form = shownForm(form, wrong)
	}
	return s.render(w, r, status, v.Delete.Title, func(p views.Page) templ.Component { return views.WorkloadDeletePage(p, v) })
}

func (s *Server) editWorkload(w http.ResponseWriter, r *http.Request) error {
	form, state, err := s.Operator.Form(r.Context(), chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	return s.editPage(w, r, http.StatusOK, state.Workload, form, form, nil)
}

func (s *Server) updateWorkload(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	id := chi.URLParam(r, "id")
	present, state, err := s.Operator.Form(r.Context(), id)
	if err != nil {
		return err
	}
	sent := maps.Clone(form) // the use case writes into its form
	sent["secret_env"] = keepSecrets(form["secret_env"], present["secret_env"], form["env"])
	op, err := s.Operator.Update(r.Context(), actor(r), id, sent)
	if formAgain(err) {
		return s.editPage(w, r, formStatus(err), state.Workload, form, present, err)
	}
	if err != nil {
		return err
	}
	return redirectError("/operations/" + op.ID)
}

// keepSecrets adds the secrets that were not typed anew, without a value, which
// keeps the one they have: the form never shows them, so that leaving them out
// cannot mean to lose them. A line of a minus and the name of one does, and so does a
// name that now stands in env, where everybody may read its value.
func keepSecrets(typed, present, env string) string {
	var out []string
	named := map[string]bool{}
	stored := secretNames(present)
	for line := range strings.Lines(typed) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-"); ok && slices.Contains(stored, strings.TrimSpace(name)) {
			named[strings.TrimSpace(name)] = true
			continue
		}
		name, _, _ := strings.Cut(line, "=")
		named[strings.TrimSpace(name)] = true
		out = append(out, line)
	}
	for line := range strings.SplitSeq(env, "\n") {
		if name, _, ok := strings.Cut(line, "="); ok {
			named[strings.TrimSpace(name)] = true
		}
	}
	for _, name := range stored {
		if !named[name] {
			out = append(out, name+"=")
		}
	}
	return strings.Join(out, "\n")
}

// secretNames are the names in a secret_env field that holds no values.
func secretNames(field string) []string {
	var out []string
	for line := range strings.SplitSeq(field, "\n") {
		if name, _, ok := strings.Cut(line, "="); ok {
			out = append(out, name)
		}
	}
	return out
}

func (s *Server) editPage(w http.ResponseWriter, r *http.Request, status int, wl fleet.Workload, form, present fleet.WorkloadForm, wrong error) error {
	v := views.WorkloadEdit{
		ID: wl.ID, Name: wl.Name, Runtime: wl.Runtime, Target: wl.Target(), Namespace: wl.Namespace, Release: wl.Release,
		Stopped: wl.Stopped, Form: shownForm(form, wrong), Runtimes: runtimeChoices(), SecretKeys: secretNames(present["secret_env"]),
	}
	target, err := s.Reads.ClusterStatus(r.Context(), wl.ClusterID)
	if err != nil {
		return err
	}
	v.Form.Notes = ofOne(target)
	if text := sharing(present["volumes"], wl.Replicas); text != "" {
		v.Form.Notes["volumes"] = append(v.Form.Notes["volumes"], ui.Note{Text: text})
	}
	if v.Changes = conflicting(form, present, wrong); len(v.Changes) > 0 {
		v.Form.Errors = nil // what differs is no mistake
		for _, name := range []string{"release", "replicas_before"} {
			v.Form.Values[name] = []string{present[name]}
		}
	}
	if wrong != nil {
		var stored []string
		if len(v.SecretKeys) > 0 {
			stored = append(stored, "secret_env")
		}
		enterAgain(&v.Form, form, stored...)
	}
	switch {
	case wl.Stopped: // there are no pods to replace
	case wl.Kind == fleet.KindStatefulSet:
		v.Notes = append(v.Notes, "It is a StatefulSet: its pods are replaced one after the other, and each ends before the one in its place starts.")
	case present["volumes"] != fleet.NoVolumes:
		v.Notes = append(v.Notes, "It has a volume that one pod alone may hold, so the old pods end before the new ones start.")
	}
	return s.render(w, r, status, "Edit "+wl.Name, func(p views.Page) templ.Component { return views.WorkloadEditPage(p, v) })
}

// conflicting lists the fields that others have changed since the form was made.
func conflicting(typed, saved map[string]string, err error) []views.Change {
	if fleet.CodeOf(err) != fleet.CodeConflict {
		return nil
	}
	return changes(typed, saved, err)
}

// sharing says what it means that so many pods hold the volumes of a form's field.
func sharing(field string, replicas int32) string {
	var spec fleet.Spec
	for line := range strings.Lines(field) {
		if name, _, ok := strings.Cut(line, "="); ok {
			spec.Volumes = append(spec.Volumes, fleet.Volume{Name: name})
		}
	}
	return spec.Sharing(replicas)
}

// why is what an Error says, with what to do about it.
func why(err error) string {
	var e *fleet.Error
	if !errors.As(err, &e) {
		return ""
	}
	return join(" ", e.Message, e.Remedy)
}
