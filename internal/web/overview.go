package web

import (
	"net/http"
	"time"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/views"
	"portolan/views/ui"
)

func (s *Server) overview(w http.ResponseWriter, r *http.Request) error {
	o, err := s.Reads.Overview(r.Context())
	if err != nil {
		return err
	}
	admin := visitOf(r.Context()).user.Role.Includes(fleet.RoleAdmin)
	v := views.Overview{
		Attention:  attention(o, admin, time.Now()),
		Clusters:   standings(o.Clusters, admin),
		Operations: operationRows(o.Operations),
		Registered: o.Clusters.All,
		Targets:    o.Clusters.Available,
	}
	for _, phase := range fleet.Phases {
		if n := o.Workloads[phase]; n > 0 {
			v.Workloads = append(v.Workloads, views.Count{
				Status: ui.Phase(string(phase)), N: n, Href: "/workloads?phase=" + string(phase),
			})
		}
	}
	return s.render(w, r, http.StatusOK, "Overview", func(p views.Page) templ.Component { return views.OverviewPage(p, v) })
}

// attention lists what a person should look at, the most urgent first.
func attention(o fleet.Overview, admin bool, now time.Time) []views.Attention {
	var out []views.Attention
	href := func(id string) string {
		if admin {
			return "/admin/clusters/" + id
		}
		return ""
	}
	for _, c := range o.FailedClusters {
		a := views.Attention{Status: ui.TestState("failed"), Title: c.Cluster.Label, Href: href(c.Cluster.ID)}
		if c.Test != nil {
			a.At = c.Test.FinishedAt
			if check := c.Test.Failed(); check != nil {
				a.Detail = "failed at " + string(check.Stage) + ": " + check.Message
			}
		}
		out = append(out, a)
	}
	for _, c := range o.Unreadable {
		out = append(out, views.Attention{
			Status: ui.Status{Tone: ui.Failed, Word: "not readable"}, Title: c.Cluster.Label, Href: href(c.Cluster.ID),
			Detail: "Its mounted kubeconfig, " + c.Cluster.KubeconfigPath + ", cannot be read.",
		})
	}
	for _, w := range o.Troubled {
		a := views.Attention{
			Status: ui.Phase(string(w.Phase)), Title: w.Name, Detail: w.Reason, Href: "/workloads/" + w.ID, At: w.Since,
		}
		if w.Phase == fleet.PhaseUnknown {
			a.At = w.SeenAt
		}
		out = append(out, a)
	}
	for _, c := range o.Expiring {
		a := views.Attention{Title: c.Cluster.Label, Href: href(c.Cluster.ID), Detail: "Its credential ends soon."}
		a.Status = ui.Status{Tone: ui.Warning, Word: "expiring"}
		if a.At = c.Credential().NotAfter; !a.At.IsZero() && a.At.Before(now) {
			a.Status, a.Detail = ui.Status{Tone: ui.Failed, Word: "expired"}, "Its credential has ended."
		}
		out = append(out, a)
	}
	return out
}

func standings(c fleet.ClusterCounts, admin bool) []views.Count {
	list := []struct {
		tone  ui.Tone
		word  fleet.Standing
		count int
	}{
		{ui.OK, fleet.StandingAvailable, c.Available},
		{ui.Failed, fleet.StandingFailed, c.Failed},
		{ui.Unknown, fleet.StandingUntested, c.Untested},
		{ui.Stopped, fleet.StandingDisabled, c.Disabled},
	}
	var out []views.Count
	for _, e := range list {
		n := views.Count{Status: ui.Status{Tone: e.tone, Word: string(e.word)}, N: e.count}
		if admin {
			n.Href = "/admin/clusters?status=" + string(e.word)
		}
		out = append(out, n)
	}
	if c.Expiring > 0 {
		n := views.Count{Status: ui.Status{Tone: ui.Warning, Word: "credential ends soon"}, N: c.Expiring}
		if admin {
			n.Href = "/admin/clusters?status=" + expiring
		}
		out = append(out, n)
	}
	return out
}
