package postgres_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"portolan/internal/fleet"
)

func TestClusterIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := aCluster("c1")
	want.Exposure = fleet.Exposure{
		Mode: fleet.ExposureLoadBalancer, Annotations: map[string]string{"a": "b"}, SourceRanges: []string{"10.0.0.0/8"},
		LoadBalancerClass: "x/y", LoadBalancerTimeout: 90 * time.Second,
	}
	b.must(b.CreateCluster(t.Context(), want, nil, fleet.AuditEntry{Action: "cluster.create", Target: "cluster/c1"}))
	got := b.status("c1")
	ignore := cmpopts.IgnoreFields(fleet.Cluster{}, "CreatedAt", "UpdatedAt", "Version")
	if d := cmp.Diff(want, got.Cluster, ignore); d != "" {
		t.Fatal(d)
	}
	if got.Cluster.Version != 1 || got.Test != nil || got.Cluster.Fingerprint() != want.Fingerprint() {
		t.Fatalf("status %+v", got)
	}
	err := b.CreateCluster(t.Context(), want, nil, fleet.AuditEntry{})
	wantCode(t, err, fleet.CodeConflict)
	if e := (*fleet.Error)(nil); !errors.As(err, &e) || e.Problems["id"] == "" {
		t.Fatalf("no problem at the id: %v", err)
	}
	_, err = b.ClusterStatus(t.Context(), "none")
	wantCode(t, err, fleet.CodeNotFound)
}

func TestB4AnOutdatedSaveIsAConflict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.cluster("c1")
	c.Label = "first"
	b.must(b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}))
	c.Label = "second"
	wantCode(t, b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}), fleet.CodeConflict)
	if got := b.status("c1").Cluster; got.Label != "first" || got.Version != 2 {
		t.Fatalf("%+v", got)
	}
	b.must(b.SetCredentialHash(t.Context(), "c1", "c1", "other", fleet.CredentialFacts{}))
	b.must(b.SetEnabled(t.Context(), "c1", false, fleet.AuditEntry{}))
	if got := b.status("c1").Cluster; got.Version != 3 || got.Enabled {
		t.Fatalf("%+v", got)
	}
	c.ID = "none"
	wantCode(t, b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}), fleet.CodeNotFound)
	wantCode(t, b.SetEnabled(t.Context(), "none", true, fleet.AuditEntry{}), fleet.CodeNotFound)
	b.must(b.SetCredentialHash(t.Context(), "none", "none", "h", fleet.CredentialFacts{}))
}

// The poller may have read a file that is the cluster's credential no more.
func TestAFileThatWasTheCredentialChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.cluster("c1")
	unchanged := func(after string) {
		t.Helper()
		want := b.status("c1")
		for _, hash := range []string{"", "h9"} {
			b.must(b.SetCredentialHash(t.Context(), "c1", "c1", hash, fleet.CredentialFacts{}))
			if d := cmp.Diff(want, b.status("c1")); d != "" {
				t.Errorf("after %s, hash %q: %s", after, hash, d)
			}
		}
	}
	c.KubeconfigPath = "moved"
	b.must(b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}))
	unchanged("another file")

	c = b.status("c1").Cluster
	c.CredentialMode, c.CredentialHash = fleet.CredentialEncrypted, "sealed"
	for _, path := range []string{"", "c1"} {
		c.KubeconfigPath = path
		b.must(b.UpdateCluster(t.Context(), c, &fleet.SealedCredential{KeyID: "k1", Sealed: []byte("x")}, fleet.AuditEntry{}))
		unchanged("an encrypted one")
		c = b.status("c1").Cluster
	}
}

func TestSealedCredentialLivesWithEncryptedMode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := aCluster("c1")
	c.CredentialMode = fleet.CredentialEncrypted
	b.must(b.CreateCluster(t.Context(), c, &fleet.SealedCredential{KeyID: "k1", Sealed: []byte("x")}, fleet.AuditEntry{}))
	c.Version = 1
	b.must(b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{})) // keeps it
	if cred, err := b.Credential(t.Context(), "c1"); err != nil || cred.KeyID != "k1" || string(cred.Sealed) != "x" {
		t.Fatalf("%+v %v", cred, err)
	}
	c.Version = 2
	b.must(b.UpdateCluster(t.Context(), c, &fleet.SealedCredential{KeyID: "k2", Sealed: []byte("y")}, fleet.AuditEntry{}))
	if cred, err := b.Credential(t.Context(), "c1"); err != nil || cred.KeyID != "k2" {
		t.Fatalf("%+v %v", cred, err)
	}
	c.Version, c.CredentialMode = 3, fleet.CredentialMounted
	b.must(b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}))
	_, err := b.Credential(t.Context(), "c1")
	wantCode(t, err, fleet.CodeNotFound)
}

func TestB3AClusterWithWorkloadsStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w, _ := b.deploy("c1", "web")
	b.tested("c1", fleet.TestOK)
	err := b.DeleteCluster(t.Context(), "c1", fleet.AuditEntry{Action: "cluster.delete"})
	wantCode(t, err, fleet.CodeConflict)
	if !strings.Contains(err.Error(), "web") {
		t.Fatalf("the workload is not named: %v", err)
	}
	// Not even by hand.
	if _, err := b.Pool().Exec(t.Context(), `DELETE FROM clusters WHERE id = 'c1'`); err == nil {
		t.Fatal("the database let the cluster go")
	}
	b.exec(`DELETE FROM workloads WHERE id = $1`, w.ID)
	b.must(b.DeleteCluster(t.Context(), "c1", fleet.AuditEntry{Action: "cluster.delete"}))
	wantCode(t, b.DeleteCluster(t.Context(), "c1", fleet.AuditEntry{}), fleet.CodeNotFound)
}

func TestOneTestRunsPerCluster(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	begin := fleet.ConnectionTest{ClusterID: "c1", Fingerprint: "f", Trigger: fleet.TriggerSchedule, StartedAt: time.Now(), Deadline: time.Hour,
		Checks: []fleet.Check{{Stage: fleet.StageResolve, State: fleet.CheckOK}, {Stage: fleet.StageConnect, State: fleet.CheckRunning}, {Stage: fleet.StageTLS, State: fleet.CheckPending}}}
	id, err := b.BeginTest(t.Context(), begin)
	b.must(err)
	_, err = b.BeginTest(t.Context(), begin)
	wantCode(t, err, fleet.CodeConflict)
	if s := b.status("c1"); !s.Running || s.Test != nil {
		t.Fatalf("status %+v", s)
	}
	running, err := b.RunningTest(t.Context(), "c1")
	b.must(err)
	if running == nil || running.ID != id || running.Deadline != time.Hour {
		t.Fatalf("running %+v", running)
	}

	// Its process dies: the next one closes it.
	b.exec(`UPDATE connection_tests SET started_at = now() - interval '2 hours'`)
	if b.status("c1").Running {
		t.Fatal("a dead test counts as running")
	}
	second, err := b.BeginTest(t.Context(), begin)
	b.must(err)
	tests, err := b.Tests(t.Context(), "c1", 10)
	b.must(err)
	if len(tests) != 2 || tests[0].ID != second || tests[1].State != fleet.TestFailed || tests[1].Failed() == nil ||
		tests[1].Failed().Stage != fleet.StageConnect || tests[1].Checks[2].State != fleet.CheckSkipped {
		t.Fatalf("tests %+v", tests)
	}
	begin.ID, begin.State = id, fleet.TestOK
	wantCode(t, b.SaveTest(t.Context(), begin), fleet.CodeConflict) // it has been closed
	_, err = b.BeginTest(t.Context(), fleet.ConnectionTest{ClusterID: "none"})
	wantCode(t, err, fleet.CodeNotFound)
}

func TestTestsKeepFiftyAndTheLatestDecides(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	var last fleet.ConnectionTest
	for range 53 {
		last = b.tested("c1", fleet.TestOK)
	}
	tests, err := b.Tests(t.Context(), "c1", 200)
	b.must(err)
	if len(tests) != 50 || tests[0].ID != last.ID {
		t.Fatalf("%d tests, newest %d", len(tests), tests[0].ID)
	}
	if s := b.status("c1"); !s.IsTarget() || s.Test.ID != last.ID {
		t.Fatalf("status %+v", s)
	}
}

func TestTheEndOfACredentialIsThatOfThePresentOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	day := func(n int) time.Time { return time.Now().UTC().Truncate(time.Second).AddDate(0, 0, n) }
	for name, c := range map[string]struct {
		stored, itself, tested, want time.Time
		silent                       bool // the credential says nothing of itself
		other                        bool // the test was of another configuration
	}{
		"its own":                          {stored: day(2), itself: day(2), tested: day(2), want: day(2)},
		"kept by a test that read nothing": {stored: day(2), itself: day(2), want: day(2)},
		"none":                             {},
		"what the test saw":                {stored: day(1), silent: true, tested: day(3), want: day(3)},
		"none that an earlier test saw":    {stored: day(-1), silent: true},
		"not that of another":              {stored: day(1), silent: true, tested: day(3), other: true, want: day(1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := aCluster(strings.ReplaceAll(name, " ", "-"))
			cluster.Credential.NotAfter = c.itself
			if c.silent {
				cluster.Credential = fleet.CredentialFacts{}
			}
			b.must(b.CreateCluster(t.Context(), cluster, nil, fleet.AuditEntry{}))
			if !c.stored.IsZero() {
				b.exec(`UPDATE clusters SET credential_ends_at = $2 WHERE id = $1`, cluster.ID, c.stored)
			}
			test := fleet.ConnectionTest{ClusterID: cluster.ID, Fingerprint: cluster.Fingerprint(), Deadline: time.Hour}
			if c.other {
				test.Fingerprint = "another"
			}
			var err error
			test.ID, err = b.BeginTest(t.Context(), test)
			b.must(err)
			test.State, test.Credential.NotAfter = fleet.TestFailed, c.tested
			b.must(b.SaveTest(t.Context(), test))
			var ends *time.Time
			b.must(b.Pool().QueryRow(t.Context(), `SELECT credential_ends_at FROM clusters WHERE id = $1`, cluster.ID).Scan(&ends))
			if ends == nil {
				ends = &time.Time{}
			}
			status := b.status(cluster.ID)
			if !ends.Equal(c.want) || !c.other && !ends.Equal(status.Credential().NotAfter) {
				t.Errorf("it ends %s, want %s", ends, c.want)
			}
		})
	}
}

func TestPinnedIdentityIsThatOfThePresentMode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.cluster("c1")
	save := func(uid string, state fleet.TestState) {
		test := fleet.ConnectionTest{ClusterID: "c1", Deadline: time.Hour, StartedAt: time.Now()}
		id, err := b.BeginTest(t.Context(), test)
		b.must(err)
		test.ID, test.State, test.Pinned = id, state, fleet.ClusterIdentity{Namespace: "apps", UID: uid, Destination: "there"}
		b.must(b.SaveTest(t.Context(), test))
	}
	want := func(uid string) {
		t.Helper()
		if got, err := b.PinnedIdentity(t.Context(), "c1"); got.UID != uid || uid != "" && got.Destination != "there" || err != nil {
			t.Fatalf("pinned %+v, want %q, %v", got, uid, err)
		}
	}
	want("")
	save("u1", fleet.TestOK)
	save("u2", fleet.TestFailed)
	save("", fleet.TestOK)
	want("u1")
	for range 60 {
		b.tested("c1", fleet.TestFailed)
	}
	want("u1") // it is not forgotten with the tests that are
	c = b.status("c1").Cluster
	c.CredentialMode = fleet.CredentialEncrypted
	b.must(b.UpdateCluster(t.Context(), c, &fleet.SealedCredential{KeyID: "k", Sealed: []byte{1}}, fleet.AuditEntry{}))
	want("")
	b.deploy("c1", "web")
	want("u1") // what runs there must not be looked for elsewhere
	save("u3", fleet.TestOK)
	want("u3")

	// With where it was seen; tests that did not keep that have the server.
	for kept, destination := range map[string]string{"a hash": "a hash", "": "https://one.example"} {
		b.exec(`UPDATE connection_tests SET destination = $1, credential = '{"server": "https://one.example"}'`, kept)
		u3 := fleet.ClusterIdentity{Namespace: "apps", UID: "u3", Destination: destination}
		if pinned, err := b.PinnedIdentity(t.Context(), "c1"); pinned != u3 || err != nil {
			t.Errorf("pinned %+v, want %+v, %v", pinned, u3, err)
		}
		if known, err := b.KnownIdentity(t.Context(), "c1"); known != u3 || err != nil {
			t.Errorf("known %+v, want %+v, %v", known, u3, err)
		}
	}
}

// The lists find clusters by columns that PostgreSQL computes; what they find
// must be what the domain says of each.
func TestStandingInSQLIsThatOfTheDomain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	random := rand.New(rand.NewPCG(1, 2)) // a fixed sequence, so that a failure repeats
	const clusters = 40
	for i := range clusters {
		id := fmt.Sprintf("c%02d", i)
		b.cluster(id)
		for range random.IntN(4) {
			switch random.IntN(6) {
			case 0:
				b.tested(id, fleet.TestFailed)
			case 1, 2:
				b.tested(id, fleet.TestOK)
			case 3:
				b.must(b.SetCredentialHash(t.Context(), id, id, []string{"", "h1", "h2"}[random.IntN(3)], fleet.CredentialFacts{}))
			case 4:
				b.must(b.SetEnabled(t.Context(), id, random.IntN(2) == 0, fleet.AuditEntry{}))
			default:
				c := b.status(id).Cluster
				switch random.IntN(4) {
				case 0:
					c.Namespace = []string{"apps", "other"}[random.IntN(2)]
				case 1:
					c.Exposure = fleet.Exposure{Mode: fleet.ExposureClusterIP}
				case 2:
					c.RuntimeNamespaces = nil
				default:
					c.Label, c.Region = "renamed", "elsewhere" // changes nothing that is tested
				}
				b.must(b.UpdateCluster(t.Context(), c, nil, fleet.AuditEntry{}))
			}
		}
	}
	all, err := b.AllClusters(t.Context())
	b.must(err)
	if len(all) != clusters {
		t.Fatalf("%d clusters", len(all))
	}
	want, counts := map[fleet.Standing][]string{}, fleet.ClusterCounts{All: clusters}
	listed := map[string]fleet.ClusterRow{}
	for _, s := range all {
		listed[s.Cluster.ID] = rowOf(&s)
		standing := s.Standing()
		want[standing] = append(want[standing], s.Cluster.ID)
		var verdict fleet.TestState
		b.must(b.Pool().QueryRow(t.Context(), `SELECT verdict FROM clusters WHERE id = $1`, s.Cluster.ID).Scan(&verdict))
		if verdict != s.Verdict() {
			t.Errorf("%s: verdict %s in SQL, %s in Go", s.Cluster.ID, verdict, s.Verdict())
		}
	}
	counts.Available, counts.Failed = len(want[fleet.StandingAvailable]), len(want[fleet.StandingFailed])
	counts.Untested, counts.Disabled = len(want[fleet.StandingUntested]), len(want[fleet.StandingDisabled])
	got, err := b.ClusterCounts(t.Context(), "")
	b.must(err)
	if got != counts || counts.Available == 0 || counts.Failed == 0 || counts.Untested == 0 || counts.Disabled == 0 {
		t.Fatalf("counts %+v, want %+v", got, counts)
	}
	for _, standing := range fleet.Standings {
		var ids []string
		filter := fleet.ClusterFilter{Standing: standing, Limit: 3}
		for {
			page, err := b.Clusters(t.Context(), filter)
			b.must(err)
			for _, c := range page.Rows {
				ids = append(ids, c.ID)
				if d := cmp.Diff(listed[c.ID], c); d != "" {
					t.Errorf("%s is listed otherwise than it stands: %s", c.ID, d)
				}
			}
			if filter.After = page.Next; page.Next == "" {
				break
			}
		}
		if d := cmp.Diff(want[standing], ids, cmpopts.SortSlices(strings.Compare)); d != "" {
			t.Errorf("%s: %s", standing, d)
		}
	}
	targets, n, err := b.Targets(t.Context(), 5)
	b.must(err)
	if n != counts.Available || len(targets) != min(5, n) || !targets[0].IsTarget() {
		t.Fatalf("%d targets of %d, want of %d", len(targets), n, counts.Available)
	}
	others, n, err := b.NotOffered(t.Context(), 200)
	b.must(err)
	if n != clusters-counts.Available || len(others) != n {
		t.Fatalf("%d of %d not offered", len(others), n)
	}
}

// rowOf is how a list must show a cluster that has no workloads.
func rowOf(s *fleet.Status) fleet.ClusterRow {
	c := &s.Cluster
	row := fleet.ClusterRow{
		ID: c.ID, Label: c.Label, ClusterName: c.ClusterName, Provider: c.Provider, Exposure: c.Exposure.Mode,
		Enabled: c.Enabled, Allows: c.Allows, CredentialEnds: s.Credential().NotAfter, Readable: c.CredentialHash != "",
		TestState: s.TestState(),
	}
	if t := s.Test; t != nil {
		row.ServerVersion, row.TestedAt, row.TestTook = t.ServerVersion, t.FinishedAt, t.FinishedAt.Sub(t.StartedAt)
		if failed := t.Failed(); failed != nil && t.State == fleet.TestFailed {
			row.FailedStage, row.FailedMessage = failed.Stage, failed.Message
		}
	}
	return row
}

func TestClustersAreFoundByText(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("alpha")
	b.cluster("b-100")
	b.deploy("alpha", "web")
	for query, want := range map[string]int{"ALPHA": 1, "kind-": 2, "k3s": 2, "b-1": 1, " k8s:alpha ": 1, "8": 0, "100%": 0, "_": 0, `\`: 0, "'": 0, "\x00alpha": 1} {
		page, err := b.Clusters(t.Context(), fleet.ClusterFilter{Query: query})
		b.must(err)
		counts, err := b.ClusterCounts(t.Context(), query)
		b.must(err)
		if len(page.Rows) != want || counts.All != want {
			t.Errorf("%q finds %d, counts %d, want %d", query, len(page.Rows), counts.All, want)
		}
	}
	page, err := b.Clusters(t.Context(), fleet.ClusterFilter{Query: "alpha"})
	b.must(err)
	if page.Rows[0].Workloads != 1 {
		t.Fatalf("row %+v", page.Rows[0])
	}
	if choice, err := b.ClusterNames(t.Context()); err != nil || len(choice) != 1 || choice[0].ID != "alpha" {
		t.Fatalf("names %v %v", choice, err)
	}
	for _, cursor := range []string{"!", "AAAA", "eHg", "4pyTAP8"} {
		_, err := b.Clusters(t.Context(), fleet.ClusterFilter{After: cursor})
		wantCode(t, err, fleet.CodeInvalid)
	}
}
