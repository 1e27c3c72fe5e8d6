package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/go-chi/chi/v5"

	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

// shownTests is how many tests a cluster's page lists: all that are kept.
const shownTests = 50

func (s *Server) showCluster(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	v, err := s.clusterView(r.Context(), id, visitOf(r.Context()).user.Role)
	if err != nil {
		return err
	}
	list, err := s.Reads.ListWorkloads(r.Context(), fleet.WorkloadFilter{Cluster: id, Limit: 10})
	if err != nil {
		return err
	}
	counts, err := s.Reads.PhaseCounts(r.Context(), fleet.WorkloadFilter{Cluster: id})
	if err != nil {
		return err
	}
	v.Workloads, v.WorkloadCount = workloadRows(list.Rows), counts.All()
	return s.render(w, r, http.StatusOK, v.Label, func(p views.Page) templ.Component { return views.ClusterPage(p, v) })
}

// clusterView is the page of a cluster without its workloads: what its stream
// repeats.
func (s *Server) clusterView(ctx context.Context, id string, role fleet.Role) (views.Cluster, error) {
	status, err := s.Reads.ClusterStatus(ctx, id)
	if err != nil {
		return views.Cluster{}, err
	}
	tests, err := s.Reads.Tests(ctx, id, shownTests)
	if err != nil {
		return views.Cluster{}, err
	}
	c := &status.Cluster
	v := views.Cluster{
		ID: c.ID, Label: c.Label, ClusterName: c.ClusterName, Provider: string(c.Provider), Exposure: string(c.Exposure.Mode),
		Region: c.Region, TestState: string(status.TestState()), Enabled: c.Enabled, Target: status.IsTarget(),
		NotTarget: status.WhyNotTarget(), Namespaces: namespaceFacts(c), ExposureFacts: exposureFacts(c.Exposure),
		CanAdmin: role.Includes(fleet.RoleAdmin), Allows: allowances(c.Allows),
	}
	if status.Test != nil {
		v.Version = status.Test.ServerVersion
		v.Permissions = grids(status.Test.Permissions)
		v.Features = featureFacts(status.Test)
	}
	v.Credential = credentialFacts(&status, time.Now())
	if err := s.Registry.CheckSealed(ctx, c); err != nil {
		f := unopenedFact(err)
		if f.Value == "" {
			return v, err
		}
		v.Credential = append(v.Credential, f)
	}
	for i := range tests {
		t := &tests[i]
		if v.Test == nil && (!t.Trial || t.State == fleet.TestRunning) {
			v.Test = testView(t)
			if len(t.Permissions) > 0 {
				v.Permissions = grids(t.Permissions)
			}
		}
		if t.State != fleet.TestRunning {
			v.History = append(v.History, testRow(t))
		}
	}
	return v, nil
}

func testView(t *fleet.ConnectionTest) *views.Test {
	v := &views.Test{Trial: t.Trial, State: string(t.State), At: t.StartedAt, Deadline: t.Deadline, By: testedBy(t)}
	if !t.FinishedAt.IsZero() {
		v.Took = t.FinishedAt.Sub(t.StartedAt)
	}
	for _, c := range t.Checks {
		v.Checks = append(v.Checks, views.Check{
			Name: string(c.Stage), State: string(c.State), Message: c.Message, Remedy: c.Remedy, Took: c.Duration,
			RBAC: c.NeedsManifest(t.ClusterID),
		})
	}
	return v
}

func testRow(t *fleet.ConnectionTest) views.TestRow {
	row := views.TestRow{Trial: t.Trial, State: string(t.State), By: testedBy(t), At: t.FinishedAt, Took: t.FinishedAt.Sub(t.StartedAt)}
	if c := t.Failed(); c != nil {
		row.Stage, row.Note = string(c.Stage), c.Message
	}
	return row
}

func testedBy(t *fleet.ConnectionTest) string {
	switch t.Trigger {
	case fleet.TriggerSchedule:
		return "by itself"
	case fleet.TriggerFile:
		return "its file changed"
	default:
		return t.Actor
	}
}

// grids lays the answers out as one table a namespace.
func grids(rows []fleet.PermissionRow) []views.Grid {
	verbs := []string{"get", "list", "watch", "create", "patch", "delete"}
	var out []views.Grid
	for _, row := range rows {
		g := slices.IndexFunc(out, func(g views.Grid) bool { return g.Namespace == row.Namespace })
		if g < 0 {
			out = append(out, views.Grid{Namespace: row.Namespace, Verbs: verbs})
			g = len(out) - 1
		}
		name := row.Resource
		if row.Group != "" {
			name += "." + row.Group
		}
		i := slices.IndexFunc(out[g].Rows, func(r views.GridRow) bool { return r.Resource == name })
		if i < 0 {
			out[g].Rows = append(out[g].Rows, views.GridRow{Resource: name, Cells: make([]string, len(verbs))})
			i = len(out[g].Rows) - 1
		}
		cell := "yes"
		switch {
		case row.Allowed:
		case row.Optional:
			cell = "optional"
			out[g].Optional++
		default:
			cell = "no"
			out[g].Missing++
		}
		if v := slices.Index(verbs, row.Verb); v >= 0 {
			out[g].Rows[i].Cells[v] = cell
		}
	}
	return out
}

func namespaceFacts(c *fleet.Cluster) []views.Fact {
	out := []views.Fact{{Name: "Fallback", Value: c.Namespace, Mono: true}}
	for _, runtime := range fleet.Runtimes() {
		if ns := c.RuntimeNamespaces[runtime.ID]; ns != "" {
			out = append(out, views.Fact{Name: runtime.Label, Value: ns, Mono: true})
		}
	}
	if len(c.ImagePullSecrets) > 0 {
		out = append(out, views.Fact{Name: "Image pull secrets", Value: strings.Join(c.ImagePullSecrets, ", "), Mono: true})
	}
	if len(c.Labels) > 0 {
		out = append(out, views.Fact{Name: "Extra labels", Value: pairs(c.Labels), Mono: true})
	}
	return out
}

func exposureFacts(e fleet.Exposure) []views.Fact {
	out := []views.Fact{{Name: "Mode", Value: string(e.Mode)}}
	port := func(n int32) string {
		if n == 0 {
			return "any free one"
		}
		return fmt.Sprint(n)
	}
	switch e.Mode {
	case fleet.ExposureNodePort:
		out = append(out,
			views.Fact{Name: "Host", Value: cmp.Or(e.RuntimeHost, "none: no links"), Mono: e.RuntimeHost != ""},
			views.Fact{Name: "Port “runtime”", Value: port(e.RuntimeNodePort), Mono: true},
			views.Fact{Name: "Port “gateway”", Value: port(e.GatewayNodePort), Mono: true})
	case fleet.ExposureLoadBalancer:
		out = append(out,
			views.Fact{Name: "Class", Value: e.LoadBalancerClass, Mono: true},
			views.Fact{Name: "Source ranges", Value: strings.Join(e.SourceRanges, ", "), Mono: true},
			views.Fact{Name: "Annotations", Value: pairs(e.Annotations), Mono: true},
			views.Fact{Name: "Address within", Value: ui.Took(e.LoadBalancerTimeout)})
	}
	return out
}

// featureFacts says which optional parts the cluster has, and why not, in the
// words of the test.
func featureFacts(t *fleet.ConnectionTest) []views.Fact {
	names := map[fleet.Stage]string{
		fleet.StageMetrics: "Metrics API", fleet.StageExec: "Exec into pods",
		fleet.StageStorage: "Default storage class", fleet.StageNetwork: "Network policy engine",
	}
	var out []views.Fact
	for _, stage := range fleet.Features {
		f := views.Fact{Name: names[stage], Status: ui.Status{Tone: ui.OK, Word: "available"}}
		switch ok, reason := t.Feature(stage); {
		case ok:
		case !t.Tried(stage):
			f.Value, f.Status = reason, ui.Status{Tone: ui.Unknown, Word: "not known"}
		case stage == fleet.StageStorage || stage == fleet.StageNetwork:
			f.Value, f.Status = reason, ui.Status{Tone: ui.Warning, Word: "not sure"}
		default:
			f.Value, f.Status = reason, ui.Status{Tone: ui.Warning, Word: "not available"}
		}
		out = append(out, f)
	}
	return out
}

// credentialFacts describes the kubeconfig as it describes itself, and as whom
// the latest test found it known.
func credentialFacts(s *fleet.Status, now time.Time) []views.Fact {
	c, f := &s.Cluster, s.Credential()
	out := []views.Fact{{Name: "Kept", Value: "sealed in the database"}}
	if c.CredentialMode == fleet.CredentialMounted {
		out = []views.Fact{{Name: "Mounted file", Value: c.KubeconfigPath, Mono: true}}
	}
	if c.Cloud.Sealed() {
		out = append(out, views.Fact{Name: "Cloud credential", Value: "sealed: " + c.Cloud.String()})
	}
	if f == (fleet.CredentialFacts{}) {
		return append(out, views.Fact{Name: "Context", Value: cmp.Or(c.Context, "the file's current one"), Mono: c.Context != ""})
	}
	out = append(out,
		views.Fact{Name: "Context", Value: f.Context, Mono: true},
		views.Fact{Name: "Kind", Value: f.Kind},
		views.Fact{Name: "Subject", Value: f.Subject, Mono: true})
	if t := s.Test; t != nil && t.Fingerprint == c.Fingerprint() && t.Identity != "" && t.Identity != f.Subject {
		out = append(out, views.Fact{Name: "Known as", Value: t.Identity, Mono: true})
	}
	out = append(out, views.Fact{Name: "Server", Value: f.Server, Mono: true})
	if !f.NotAfter.IsZero() {
		out = append(out, expiry("Ends", f.NotAfter, now))
	}
	if !f.CAExpires.IsZero() {
		out = append(out, expiry("Authority ends", f.CAExpires, now))
	}
	return out
}

// unopenedFact says why a sealed kubeconfig does not open; without a Value it is
// nothing to show.
func unopenedFact(err error) views.Fact {
	var shown *fleet.Error
	if !errors.As(err, &shown) {
		return views.Fact{}
	}
	return views.Fact{Name: "Encryption key", Value: shown.Message + " " + shown.Remedy, Status: ui.Status{Tone: ui.Failed, Word: "cannot be opened"}}
}

func expiry(name string, at, now time.Time) views.Fact {
	f := views.Fact{Name: name, Value: at.UTC().Format("2 Jan 2006")}
	if relative := ui.Relative(at, now); relative != f.Value {
		f.Value = relative + ", on " + f.Value
	}
	switch left := at.Sub(now); {
	case left <= 0:
		f.Status = ui.Status{Tone: ui.Failed, Word: "expired"}
	case left < fleet.ExpiryWarning:
		f.Status = ui.Status{Tone: ui.Warning, Word: "soon"}
	}
	return f
}

func (s *Server) testCluster(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	if err := s.Registry.StartTest(r.Context(), actor(r), id); err != nil {
		return err
	}
	return redirectError("/admin/clusters/" + id)
}

func (s *Server) setClusterEnabled(on bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := chi.URLParam(r, "id")
		if err := s.Registry.SetEnabled(r.Context(), actor(r), id, on); err != nil {
			return err
		}
		notice := "Disabled: nothing new is deployed here."
		if on {
			notice = "Enabled."
		}
		return s.done(w, r, "/admin/clusters/"+id, notice)
	}
}

func (s *Server) clusterManifest(w http.ResponseWriter, r *http.Request) error {
	id := chi.URLParam(r, "id")
	text, err := s.Registry.RBAC(r.Context(), id)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	w.Header().Set("Content-Disposition", `inline; filename="`+id+`-rbac.yaml"`)
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(text)
	return err
}

func (s *Server) askDeleteCluster(w http.ResponseWriter, r *http.Request) error {
	return s.deleteClusterPage(w, r, http.StatusOK, ui.Form{})
}

func (s *Server) deleteCluster(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(r)
	if err != nil {
		return err
	}
	id := chi.URLParam(r, "id")
	err = s.Registry.Delete(r.Context(), actor(r), id, form["confirm"])
	if fleet.CodeOf(err) == fleet.CodeInvalid {
		return s.deleteClusterPage(w, r, http.StatusUnprocessableEntity, shownForm(form, err))
	}
	if err != nil {
		return err
	}
	return s.done(w, r, "/admin/clusters", id+" was removed from the registry.")
}

func (s *Server) deleteClusterPage(w http.ResponseWriter, r *http.Request, status int, form ui.Form) error {
	id := chi.URLParam(r, "id")
	c, err := s.Reads.ClusterStatus(r.Context(), id)
	if err != nil {
		return err
	}
	names, err := s.Reads.ClusterWorkloads(r.Context(), id)
	if err != nil {
		return err
	}
	v := views.Confirm{
		Title: "Delete " + c.Cluster.Label,
		Says: []string{
			"This removes the cluster from the registry, with its credential and its test history.",
			"Nothing is changed in the cluster itself.",
		},
		Action: "/admin/clusters/" + id + "/delete", Word: id, Submit: "Delete cluster", Back: "/admin/clusters/" + id, Form: form,
	}
	if len(names) > 0 {
		f := s.failure(r, fleet.ClusterInUse(id, names))
		v.Blocked = &f
	}
	return s.render(w, r, status, v.Title, func(p views.Page) templ.Component { return views.ConfirmPage(p, v) })
}

// pairs is a map as one key=value a line, in order.
func pairs(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for key, value := range m {
		lines = append(lines, key+"="+value)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
