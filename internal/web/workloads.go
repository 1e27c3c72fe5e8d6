package web

import (
	"net/http"
	"slices"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

func (s *Server) listWorkloads(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	filter := fleet.WorkloadFilter{
		Query: clip(q.Get("q"), 100), Runtime: clip(q.Get("runtime"), 63), Phase: fleet.Phase(q.Get("phase")), After: q.Get("after"),
	}
	filter.Cluster, _ = fleet.ParseTarget(q.Get("target"))
	if !slices.Contains(fleet.Phases, filter.Phase) {
		filter.Phase = ""
	}
	page, err := s.Reads.ListWorkloads(r.Context(), filter)
	if err != nil {
		return err
	}
	counts, err := s.Reads.PhaseCounts(r.Context(), filter)
	if err != nil {
		return err
	}
	names, err := s.Reads.ClusterNames(r.Context())
	if err != nil {
		return err
	}
	clusters, err := s.Reads.ClusterCounts(r.Context(), "")
	if err != nil {
		return err
	}
	v := views.Workloads{
		Query: filter.Query, Runtime: filter.Runtime, Phase: string(filter.Phase), Rows: workloadRows(page.Rows),
		Targetable: clusters.Available > 0,
	}
	if filter.Cluster != "" {
		v.Target = fleet.TargetPrefix + filter.Cluster
	}
	labels := map[string]int{}
	for _, c := range names {
		labels[c.Label]++
	}
	for _, c := range names {
		label := c.Label
		if labels[label] > 1 {
			label += " (" + c.ID + ")"
		}
		v.Targets = append(v.Targets, views.Option{Value: fleet.TargetPrefix + c.ID, Label: label})
	}
	for _, runtime := range fleet.Runtimes() {
		v.Runtimes = append(v.Runtimes, views.Option{Value: runtime.ID, Label: runtime.Label})
	}
	here := func(phase fleet.Phase, after string) string {
		return address("/workloads", "q", v.Query, "target", v.Target, "runtime", v.Runtime, "phase", string(phase), "after", after)
	}
	for _, phase := range fleet.Phases {
		if n := counts[phase]; n > 0 || phase == filter.Phase {
			v.Phases = append(v.Phases, views.Count{Status: ui.Phase(string(phase)), N: n, Href: here(phase, "")})
		}
	}
	if page.Next != "" {
		v.Next = here(filter.Phase, page.Next)
	}
	if filter.After != "" {
		v.First = here(filter.Phase, "")
	}
	return s.render(w, r, http.StatusOK, "Workloads", func(p views.Page) templ.Component {
		p.Query = v.Query
		return views.WorkloadsPage(p, v)
	})
}

func workloadRows(rows []fleet.WorkloadRow) []views.WorkloadRow {
	out := make([]views.WorkloadRow, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		out = append(out, views.WorkloadRow{
			ID: r.ID, Name: r.Name, Runtime: runtimeLabel(r.Runtime), Target: r.Target(), ClusterLabel: r.ClusterLabel,
			Namespace: r.Namespace, Phase: string(r.Phase), Reason: r.Reason, Image: r.Image,
			Ready: int(r.Ready), Desired: int(r.Desired), Observed: !r.SeenAt.IsZero(), SeenAt: r.SeenAt,
		})
	}
	return out
}
