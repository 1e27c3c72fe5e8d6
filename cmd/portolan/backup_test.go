package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"portolan/internal/auth"
	"portolan/internal/fleet"
	"portolan/internal/jobs"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
	"portolan/internal/seal"
)

// open returns the vault of another database.
func (v *vault) at(url string) *vault {
	v.Helper()
	db, err := postgres.Open(v.Context(), url, postgres.Options{})
	v.must(err)
	v.Cleanup(db.Close)
	return &vault{T: v.T, DB: db, url: url, workload: v.workload, releases: v.releases}
}

// began begins an operation as if its worker had been at it when the backup was
// made, and returns it.
func (v *vault) began(claim bool) fleet.Operation {
	v.Helper()
	queue, err := jobs.New(v.Pool(), jobs.Options{})
	v.must(err)
	v.Enqueue = queue.Enqueue
	name := "w" + uuid.NewString()[:8]
	w := fleet.Workload{ID: uuid.NewString(), Name: name, ClusterID: "aks-one", Namespace: "apps", Runtime: "container", Kind: fleet.KindDeployment, Replicas: 1}
	op := fleet.Operation{
		ID: uuid.NewString(), WorkloadID: w.ID, WorkloadName: name, ClusterID: w.ClusterID, Namespace: w.Namespace,
		Runtime: w.Runtime, Verb: fleet.VerbDeploy, State: fleet.OperationQueued, Actor: "op",
	}
	for _, step := range fleet.Steps(fleet.VerbDeploy) {
		op.Steps = append(op.Steps, fleet.Step{Name: step, State: fleet.StepPending})
	}
	op, err = v.Begin(v.Context(), fleet.Begin{Workload: w, New: true, Operation: op, Release: &fleet.Release{Spec: fleet.Spec{Kind: w.Kind, Image: "x:1", Replicas: 1}}})
	v.must(err)
	if claim {
		_, err = v.Claim(v.Context(), op.ID, op.Token)
		v.must(err)
	}
	return op
}

// finisher ends every operation that it is let work at, and counts them.
type finisher struct {
	db   *postgres.DB
	runs atomic.Int32
}

func (f *finisher) Run(ctx context.Context, id string, token int64) (time.Duration, error) {
	op, err := f.db.Claim(ctx, id, token)
	if errors.Is(err, fleet.ErrFenced) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	f.runs.Add(1)
	return 0, f.db.Record(ctx, id, op.Token, fleet.Change{Finish: fleet.OperationFailed, Failure: &fleet.Failure{Reason: "Test"}})
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	keys := key("k1", 1)
	v := newVault(t, 1, keys)
	accounts := auth.New(auth.Options{Store: v.DB})
	_, err := accounts.CreateUser(t.Context(), commandLine(), "ana@example.com", "a long enough password", fleet.RoleAdmin)
	v.must(err)
	held, waiting := v.began(true), v.began(false)
	v.exec(`UPDATE operations SET heartbeat_at = now() - interval '1 hour' WHERE id = $1`, held.ID) // as of an older backup
	v.exec(`INSERT INTO sessions (token, data, expiry) VALUES ('t', 'x', now() + interval '1 day')`)

	file := filepath.Join(t.TempDir(), "portolan.backup")
	v.says(false, keys, []string{"backup", file}, "wrote "+file, "encryption key k1 is needed for 6 values", "keep them apart")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if raw, err := os.ReadFile(file); err != nil || strings.Contains(string(raw), strings.TrimPrefix(keys, "k1:")) {
		t.Errorf("the key is in the file, or %v", err)
	}
	v.says(true, keys, []string{"backup", file}, "is there already")
	v.says(true, keys, []string{"restore", file}, "the database is not empty")
	v.says(true, keys, []string{"restore", file + ".absent"}, "no such file")

	other := v.at(postgrestest.URL(t))
	other.says(false, key("k2", 2), []string{"restore", file}, "restored", "key k1 is needed for 6 values; it is not among the keys that were given")
	other.says(true, keys, []string{"restore", file}, "the database is not empty")
	other.opens(keys)
	if n := other.count(`SELECT count(*) FROM sessions`); n != 0 {
		t.Errorf("%d sessions came along", n)
	}
	restored := auth.New(auth.Options{Store: other.DB})
	if _, err := restored.Login(t.Context(), "ana@example.com", "a long enough password", "192.0.2.1"); err != nil {
		t.Error(err)
	}
	before, err := v.Installation(t.Context())
	v.must(err)
	if after, err := other.Installation(t.Context()); err != nil || after != before {
		t.Errorf("the installation was %s and is %s, %v", before, after, err)
	}
	if page, err := other.AuditEntries(t.Context(), fleet.AuditFilter{Target: "database"}); err != nil || len(page.Rows) != 1 {
		t.Errorf("the record of the new one: %+v %v", page.Rows, err)
	}
	page, err := v.AuditEntries(t.Context(), fleet.AuditFilter{Target: "database"})
	if err != nil || len(page.Rows) != 2 || page.Rows[1].Outcome != "ok" ||
		page.Rows[0].Outcome != "failed" || !strings.Contains(page.Rows[0].Reason, "is there already") {
		t.Errorf("the record of backups, one of which failed: %+v %v", page.Rows, err)
	}

	// What was unfinished is worked at once more, by one worker; the job that was
	// there for the one who held it opens nothing.
	f := &finisher{db: other.DB}
	queue, err := jobs.New(other.Pool(), jobs.Options{Runner: f, Sweeper: other.DB, TakeoverAfter: time.Minute})
	v.must(err)
	other.Enqueue = queue.Enqueue
	v.must(queue.Start(t.Context()))
	deadline := time.Now().Add(3 * time.Minute)
	for other.count(`SELECT count(*) FROM operations WHERE state IN ('queued', 'running')`)+
		other.count(`SELECT count(*) FROM river_job WHERE kind = 'operation' AND finalized_at IS NULL`) > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the unfinished operations never end")
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	v.must(queue.Stop(t.Context()))
	if n := f.runs.Load(); n != 2 {
		t.Errorf("two unfinished operations were run %d times", n)
	}
	for id, token := range map[string]int64{held.ID: 2, waiting.ID: 1} {
		if op, err := other.Operation(t.Context(), id); err != nil || op.Token != token || op.State != fleet.OperationFailed {
			t.Errorf("%+v %v", op, err)
		}
	}
	if op, err := v.Operation(t.Context(), held.ID); err != nil || op.State != fleet.OperationRunning {
		t.Errorf("the database that was read has changed: %+v %v", op, err)
	}
}

// TestADamagedBackupIsNotHalfRestored: what cannot be read to its end leaves
// the database empty.
func TestADamagedBackupIsNotHalfRestored(t *testing.T) {
	t.Parallel()
	v := newVault(t, 50, key("k1", 1))
	file := filepath.Join(t.TempDir(), "portolan.backup")
	v.says(false, seal.NewKey(), []string{"backup", file}, "wrote")
	raw, err := os.ReadFile(file)
	v.must(err)
	v.must(os.WriteFile(file, raw[:len(raw)*3/4], 0o600))
	other := v.at(postgrestest.URL(t))
	other.says(true, key("k1", 1), []string{"restore", file}, "pg_restore failed")
	if empty, err := other.Empty(t.Context()); err != nil || !empty {
		t.Errorf("empty: %v %v", empty, err)
	}
}
