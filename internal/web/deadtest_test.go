package web

import (
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// A test whose process was killed runs no more, although nothing has closed it:
// nobody tests a disabled cluster again, and a trial is made by a person.
func TestATestWhoseProcessWasKilledIsNotShownAsRunning(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	for name, trial := range map[string]bool{"usual": false, "trial": true} {
		b.target(admin, name)
		if a := admin.post("/admin/clusters/"+name+"/disable", nil); a.location() == "" {
			t.Fatal(a.status)
		}
		begin := fleet.ConnectionTest{
			ClusterID: name, Fingerprint: "f", Trigger: fleet.TriggerPerson, StartedAt: time.Now(), Deadline: 15 * time.Second, Trial: trial,
			Checks: []fleet.Check{{Stage: fleet.StageResolve, State: fleet.CheckRunning, Message: "the process dies here"}},
		}
		id, err := b.db.BeginTest(t.Context(), begin)
		if err != nil {
			t.Fatal(err)
		}
		page := func() string { return admin.get("/admin/clusters/" + name).body }
		if body := page(); !strings.Contains(body, "the process dies here") || !strings.Contains(body, "Testing…") {
			t.Errorf("%s: it is not shown while it runs", name)
		}
		b.exec(`UPDATE connection_tests SET started_at = now() - deadline - interval '1 minute' WHERE id = $1`, id)
		body := page()
		if strings.Contains(body, "the process dies here") || strings.Contains(body, "Testing…") || !strings.Contains(body, "connected") {
			t.Errorf("%s: it is shown as if it ran\n%s", name, body)
		}
	}
}
