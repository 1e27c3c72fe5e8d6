package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"portolan/internal/fleet"
	"portolan/views"
)

// expiring is the status, for the list alone, of clusters whose credential ends
// soon or has ended, whatever list of the registry they are on.
const expiring = "expiring"

func (s *Server) listClusters(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	status := q.Get("status")
	filter := fleet.ClusterFilter{Query: clip(q.Get("q"), 100), After: q.Get("after")}
	switch {
	case status == expiring:
		filter.Expiring = true
	case slices.Contains(fleet.Standings, fleet.Standing(status)):
		filter.Standing = fleet.Standing(status)
	default:
		status = ""
	}
	page, err := s.Reads.Clusters(r.Context(), filter)
	if err != nil {
		return err
	}
	counts, err := s.Reads.ClusterCounts(r.Context(), "")
	if err != nil {
		return err
	}
	v := views.Clusters{
		All: counts.All, Available: counts.Available, Failed: counts.Failed, Untested: counts.Untested, Disabled: counts.Disabled,
		Expiring: counts.Expiring, ExpiringNote: "Credential ends soon",
		Status: status, Query: filter.Query,
	}
	v.Rows = make([]views.ClusterRow, len(page.Rows))
	for i := range page.Rows {
		v.Rows[i] = clusterRow(&page.Rows[i])
	}
	if page.Next != "" {
		v.Next = address("/admin/clusters", "status", v.Status, "q", v.Query, "after", page.Next)
	}
	if filter.After == "" {
		s.found(r, &v)
	}
	return s.render(w, r, http.StatusOK, "Clusters", func(p views.Page) templ.Component { return views.ClustersPage(p, v) })
}

// found adds the kubeconfigs that no cluster uses. A folder that cannot be read
// is said so and takes nothing else from the page.
func (s *Server) found(r *http.Request, v *views.Clusters) {
	files, err := s.Registry.Found(r.Context())
	if err != nil {
		s.Logger.WarnContext(r.Context(), "list kubeconfigs", "err", err)
		v.FoundError = "The kubeconfigs folder could not be read."
		return
	}
	for _, f := range files {
		row := views.FoundConfig{Path: f.Path, Problem: f.Problem, Used: f.Used}
		for _, c := range f.Contexts {
			row.Contexts = append(row.Contexts, views.FoundContext{Name: c.Name, Register: foundAddress(f.Path, c.Name)})
			if c.Current || row.Context == "" {
				row.Context, row.Server = c.Name, c.Server
			}
		}
		if row.Problem == "" {
			row.Register = foundAddress(f.Path, row.Context)
		}
		v.Found = append(v.Found, row)
	}
}

// allowances are the marks of what an admin has allowed a kubeconfig to say.
func allowances(a fleet.Allowances) []views.Allowance {
	var out []views.Allowance
	if a.TLSSkip {
		out = append(out, views.Allowance{Name: "tls-skip", Word: "may skip the TLS check"})
	}
	if a.Proxy {
		out = append(out, views.Allowance{Name: "proxy", Word: "may use a proxy"})
	}
	return out
}

func clusterRow(c *fleet.ClusterRow) views.ClusterRow {
	row := views.ClusterRow{
		ID: c.ID, Label: c.Label, ClusterName: c.ClusterName, Provider: string(c.Provider),
		Exposure: string(c.Exposure), TestState: string(c.TestState), Enabled: c.Enabled, Workloads: c.Workloads,
		Allows: allowances(c.Allows), Version: c.ServerVersion, TestAt: c.TestedAt, TestTook: c.TestTook,
	}
	if ends := c.CredentialEnds; !ends.IsZero() && time.Until(ends) < fleet.ExpiryWarning {
		row.CredentialEnds, row.CredentialEnded = ends, time.Until(ends) <= 0
	}
	switch {
	case c.TestState == fleet.TestFailed:
		row.TestStage, row.TestNote = string(c.FailedStage), c.FailedMessage
	case c.TestState == fleet.TestUntested && !c.Readable:
		row.TestNote = "its kubeconfig cannot be read"
	case c.TestState == fleet.TestUntested && !c.TestedAt.IsZero():
		row.TestNote = "changed since its test"
	}
	return row
}

// testClusters begins a test of every enabled cluster.
func (s *Server) testClusters(w http.ResponseWriter, r *http.Request) error {
	n, err := s.Registry.TestAll(r.Context(), actor(r))
	if err != nil {
		return err
	}
	return s.done(w, r, "/admin/clusters", fleet.Counted(n, "cluster is", "clusters are")+" being tested. Reload this list to see the results.")
}

// address is path with those of the name and value pairs that have a value.
func address(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return strings.TrimSuffix(path+"?"+q.Encode(), "?")
}
