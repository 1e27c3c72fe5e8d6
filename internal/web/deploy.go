package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/views"
)

// How many clusters the deploy page shows, so that it does not grow with the
// fleet; the parameter target brings in any other.
const (
	shownTargets    = 200
	shownNotOffered = 50
)

func (s *Server) showDeploy(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	form := map[string]string{}
	for _, name := range []string{"target", "runtime"} {
		form[name] = clip(q.Get(name), 100)
	}
	v, err := s.deployView(r.Context(), form["target"])
	if err != nil {
		return err
	}
	v.Form = shownForm(form, nil)
	status := http.StatusOK
	if len(v.Targets) == 0 {
		status = http.StatusServiceUnavailable
	}
	return s.deployPage(w, r, status, v)
}

func (s *Server) deploy(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	op, err := s.Operator.Deploy(r.Context(), actor(r), form)
	if err == nil {
		return redirectError("/operations/" + op.ID)
	}
	if !formAgain(err) {
		return err
	}
	v, readErr := s.deployView(r.Context(), form["target"])
	if readErr != nil {
		return readErr
	}
	v.Form, v.Typed = shownForm(form, err), true
	enterAgain(&v.Form, form)
	return s.deployPage(w, r, formStatus(err), v)
}

// previewDeploy shows what a deploy would make, and changes nothing.
func (s *Server) previewDeploy(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	objects, err := s.Operator.Preview(r.Context(), actor(r), form)
	if err != nil && !formAgain(err) {
		return err
	}
	status, preview := http.StatusOK, previewView(objects, err)
	if err != nil {
		status = formStatus(err)
	}
	if isFragment(r) {
		return s.renderFragment(w, r, status, views.PreviewFragment(preview))
	}
	v, readErr := s.deployView(r.Context(), form["target"])
	if readErr != nil {
		return readErr
	}
	v.Form, v.Typed, v.Preview = shownForm(form, err), true, preview
	enterAgain(&v.Form, form)
	return s.deployPage(w, r, status, v)
}

func (s *Server) deployPage(w http.ResponseWriter, r *http.Request, status int, v views.Deploy) error {
	v.Form.Notes = v.Notes
	choose(v.Form.Notes, v.Chosen())
	return s.render(w, r, status, "Deploy", func(p views.Page) templ.Component { return views.DeployPage(p, v) })
}

// deployView lists what can be deployed where. A chosen target is among the
// cards even when there are more than are shown.
func (s *Server) deployView(ctx context.Context, chosen string) (views.Deploy, error) {
	var v views.Deploy
	counts, err := s.Reads.ClusterCounts(ctx, "")
	if err != nil {
		return v, err
	}
	v.Registered = counts.All
	targets, _, err := s.Reads.Targets(ctx, shownTargets)
	if err != nil {
		return v, err
	}
	missing := true
	for i := range targets {
		v.Targets = append(v.Targets, targetCard(&targets[i]))
		missing = missing && targets[i].Cluster.TargetName() != chosen
	}
	if id, ok := fleet.ParseTarget(chosen); ok && missing {
		status, err := s.Reads.ClusterStatus(ctx, id)
		if err == nil && status.IsTarget() {
			targets = append(targets, status)
			v.Targets = append(v.Targets, targetCard(&status))
		}
	}
	v.Notes = limits(targets)
	others, _, err := s.Reads.NotOffered(ctx, shownNotOffered)
	if err != nil {
		return v, err
	}
	for i := range others {
		c := &others[i].Cluster
		v.NotOffered = append(v.NotOffered, views.NotOffered{ID: c.ID, Label: c.Label, Reason: others[i].WhyNotTarget()})
	}
	v.Runtimes = runtimeChoices()
	return v, nil
}

func targetCard(s *fleet.Status) views.TargetCard {
	c := &s.Cluster
	card := views.TargetCard{
		Value: c.TargetName(), Label: c.Label, ClusterName: c.ClusterName, Provider: string(c.Provider), Region: c.Region,
		Exposure: string(c.Exposure.Mode),
	}
	if s.Test != nil {
		card.Version, card.TestedAt = s.Test.ServerVersion, s.Test.FinishedAt
		if ok, reason := s.Test.Feature(fleet.StageStorage); !ok {
			card.Storage = reason
		}
		for _, c := range s.Test.Checks {
			if c.Stage == fleet.StagePullSecrets && c.State == fleet.CheckWarning {
				card.PullSecrets = c.Message
			}
		}
	}
	return card
}

func runtimeChoices() []views.RuntimeChoice {
	var out []views.RuntimeChoice
	for _, r := range fleet.Runtimes() {
		c := views.RuntimeChoice{ID: r.ID, Label: r.Label, Note: r.Description, Image: r.Image}
		for _, p := range r.Ports {
			c.Ports = append(c.Ports, fmt.Sprintf("%s=%d", p.Name, p.Number))
		}
		for _, v := range r.Volumes {
			c.Volumes = append(c.Volumes, v.Name+"="+v.MountPath+" "+v.Size)
		}
		if h := r.Health; h != nil {
			c.Probe = fmt.Sprintf("%s, %d s × %d", h.Type, h.PeriodSeconds, h.FailureThreshold)
		}
		out = append(out, c)
	}
	return out
}

func previewView(objects []fleet.ObjectPreview, err error) *views.Preview {
	v := &views.Preview{DryRun: len(objects) > 0}
	var e *fleet.Error
	if errors.As(err, &e) {
		v.Problem, v.Remedy, v.Fields = e.Message, e.Remedy, e.Problems
	}
	for _, o := range objects {
		v.DryRun = v.DryRun && o.Tried
		action := o.Action
		if o.Error != "" && action != "conflict" {
			action = "refused"
		}
		v.Objects = append(v.Objects, views.PreviewObject{
			Kind: o.Kind, Name: o.Name, Summary: o.Summary, Action: action, Problem: join(" ", o.Error, o.Note), YAML: o.YAML,
		})
	}
	return v
}
