package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/postgres/postgrestest"
)

func TestBeginStoresWorkloadReleaseOperationAndJobTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w, op := b.deploy("c1", "web")
	if op.State != fleet.OperationQueued || op.Release != 1 || op.Token != 1 || len(op.Steps) != 4 || op.LastSeq != 1 {
		t.Fatalf("operation as stored: %+v", op)
	}
	if got := b.enqueued(); len(got) != 1 || got[0] != (doorbell{op.ID, 1}) {
		t.Fatalf("jobs: %v", got)
	}
	state, err := b.Workload(t.Context(), w.ID)
	b.must(err)
	if state.Workload.Release != 1 || state.Operation == nil || state.Operation.ID != op.ID || len(state.Operation.Steps) != 4 || state.Observation != nil {
		t.Fatalf("workload: %+v", state)
	}
	r, err := b.Release(t.Context(), w.ID, 1)
	b.must(err)
	if r.Spec.Image != "registry.example/web:1" || string(r.SealedSecrets) != "\x01\x02" || r.SealedKeyID != "k1" || r.Succeeded {
		t.Fatalf("release: %+v", r)
	}
	if phase, _ := b.phase(w.ID); phase != fleet.PhaseDeploying {
		t.Fatalf("phase %s", phase)
	}
	log, err := b.AuditEntries(t.Context(), fleet.AuditFilter{})
	b.must(err)
	if len(log.Rows) != 1 || log.Rows[0].Action != "workload.deploy" || log.Rows[0].At.IsZero() {
		t.Fatalf("audit: %+v", log.Rows)
	}
}

// A workload's page must not tell of one release and of the operation that brings
// the next.
func TestAWorkloadIsReadAsOfOneMoment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w, _ := b.deploy("c1", "web")
	tx, err := b.Pool().Begin(t.Context())
	b.must(err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `LOCK TABLE operations IN ACCESS EXCLUSIVE MODE`)
	b.must(err)

	read := make(chan fleet.WorkloadState, 1)
	go func() {
		state, err := b.Workload(t.Context(), w.ID)
		if err != nil {
			t.Error(err)
		}
		read <- state
	}()
	limit := time.After(3 * time.Minute)
	for !postgrestest.Waits(t, b.DB, "operations") {
		select {
		case state := <-read:
			t.Fatalf("read without its operation: %+v", state)
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			t.Fatal("it does not come to the operation")
		}
	}
	for _, table := range []string{"workloads SET release = 2 WHERE id", "operations SET release = 2 WHERE workload_id"} {
		_, err = tx.Exec(t.Context(), `UPDATE `+table+` = $1`, w.ID)
		b.must(err)
	}
	b.must(tx.Commit(t.Context()))
	if state := <-read; state.Operation == nil || state.Operation.Release != state.Workload.Release {
		t.Errorf("of release %d is read that %+v", state.Workload.Release, state.Operation)
	}
}

func TestBeginIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	enqueue := b.Enqueue
	b.Enqueue = nil
	w := aWorkload("c1", "web")
	if _, err := b.Begin(t.Context(), beginOf(w, fleet.VerbDeploy)); err == nil {
		t.Fatal("Begin without a queue succeeded")
	}
	_, err := b.Workload(t.Context(), w.ID)
	wantCode(t, err, fleet.CodeNotFound)
	b.Enqueue = enqueue
	_, err = b.Begin(t.Context(), beginOf(w, fleet.VerbDeploy))
	b.must(err)
}

func TestB21ASecondUnfinishedOperationIsAConflict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	var wins, conflicts atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := b.Begin(t.Context(), beginOf(w, fleet.VerbRestart))
			switch {
			case err == nil:
				wins.Add(1)
			case fleet.CodeOf(err) == fleet.CodeConflict && strings.Contains(err.Error(), "web"):
				conflicts.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 || conflicts.Load() != 7 {
		t.Fatalf("%d began, %d conflicts", wins.Load(), conflicts.Load())
	}
}

func TestB21NamesAreUniquePerClusterAndNamespaceOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	b.cluster("c2")
	b.deploy("c1", "web")
	b.deploy("c2", "web")
	_, err := b.Begin(t.Context(), beginOf(aWorkload("c1", "web"), fleet.VerbDeploy))
	wantCode(t, err, fleet.CodeConflict)
	if e := (*fleet.Error)(nil); !errors.As(err, &e) || e.Problems["name"] == "" {
		t.Fatalf("no problem at the field: %v", err)
	}
	elsewhere := aWorkload("c1", "web")
	elsewhere.Namespace = "other"
	_, err = b.Begin(t.Context(), beginOf(elsewhere, fleet.VerbDeploy))
	b.must(err)
	_, err = b.Begin(t.Context(), beginOf(aWorkload("gone", "web"), fleet.VerbDeploy))
	wantCode(t, err, fleet.CodeConflict)
}

func TestReleasesAreNumberedFromOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	w.Release, w.Replicas = 1, 3
	begin := beginOf(w, fleet.VerbUpdate)
	begin.Release.Spec.Image = "registry.example/web:2"
	op, err := b.Begin(t.Context(), begin)
	b.must(err)
	if op.Release != 2 {
		t.Fatalf("release %d", op.Release)
	}
	state, err := b.Workload(t.Context(), w.ID)
	b.must(err)
	if state.Workload.Release != 2 || state.Workload.Replicas != 3 {
		t.Fatalf("workload: %+v", state.Workload)
	}
	rows, err := b.Releases(t.Context(), w.ID)
	b.must(err)
	if len(rows) != 2 || rows[0].Number != 2 || rows[0].Latest.ID != op.ID || rows[0].SealedSecrets != nil || !rows[1].Succeeded {
		t.Fatalf("releases: %+v", rows)
	}
	page, err := b.ListWorkloads(t.Context(), fleet.WorkloadFilter{Query: "WEB:2"})
	b.must(err)
	if names(page.Rows) != "[web]" {
		t.Fatalf("search by the new image found %s", names(page.Rows))
	}
}

func TestForgetRemovesTheRowAndKeepsTheOperation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w, _ := b.deploy("c1", "busy")
	forget := func(w fleet.Workload) fleet.Begin {
		begin := beginOf(w, fleet.VerbForget)
		begin.Operation.State = fleet.OperationSucceeded
		return begin
	}
	_, err := b.Begin(t.Context(), forget(w))
	wantCode(t, err, fleet.CodeConflict)

	w = b.running("c1", "web")
	jobs := len(b.enqueued())
	op, err := b.Begin(t.Context(), forget(w))
	b.must(err)
	if op.State != fleet.OperationSucceeded || op.FinishedAt.IsZero() || len(b.enqueued()) != jobs {
		t.Fatalf("operation %+v, jobs %v", op, b.enqueued())
	}
	_, err = b.Workload(t.Context(), w.ID)
	wantCode(t, err, fleet.CodeNotFound)
	if kept, err := b.OperationsOf(t.Context(), w.ID, 10); err != nil || len(kept) != 2 || kept[0].WorkloadName != "web" {
		t.Fatalf("operations %v %v", kept, err)
	}
	_, err = b.Begin(t.Context(), forget(w))
	wantCode(t, err, fleet.CodeNotFound)
}

func TestEventsAreGaplessWhileManyWrite(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	_, op := b.deploy("c1", "web")
	_, err := b.Claim(t.Context(), op.ID, 1)
	b.must(err)

	const writers, each = 6, 15
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for j := range each {
				c := fleet.Change{Events: []fleet.Event{
					{Type: fleet.EventNormal, Message: fmt.Sprintf("%d.%d a", i, j)},
					{Type: fleet.EventNormal, Message: fmt.Sprintf("%d.%d b", i, j)},
				}}
				if err := b.Record(t.Context(), op.ID, 1, c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()

	// A reader that resumes where it left off misses nothing and sees nothing twice.
	const total = 2 + 2*writers*each
	var seen int64
	for over := false; seen < total; {
		events, err := b.EventsSince(t.Context(), op.ID, seen, 7)
		b.must(err)
		if len(events) == 0 && over {
			t.Fatalf("the record ends at %d, want %d", seen, total)
		}
		for _, e := range events {
			if e.Seq != seen+1 {
				t.Fatalf("event %d follows %d", e.Seq, seen)
			}
			seen = e.Seq
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
	<-done // what is read may have been written by one that has not heard so yet
}

func TestRecordTellsTheWholeStoryInEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w, op := b.deploy("c1", "web")
	_, err := b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	b.must(b.Record(t.Context(), op.ID, 1, fleet.Change{
		Steps: []fleet.Step{
			{Name: fleet.StepNamespace, State: fleet.StepRunning}, {Name: fleet.StepNamespace, State: fleet.StepSucceeded, Message: "there"},
			{Name: fleet.StepObjects, State: fleet.StepRunning},
		},
	}))
	b.must(b.Record(t.Context(), op.ID, 1, fleet.Change{Steps: []fleet.Step{{Name: fleet.StepObjects, State: fleet.StepRunning}}}))
	if err := b.Record(t.Context(), op.ID, 1, fleet.Change{Steps: []fleet.Step{{Name: fleet.StepNamespace, State: fleet.StepRunning}}}); err == nil || errors.Is(err, fleet.ErrFenced) {
		t.Fatalf("a step that has ended began again: %v", err)
	}
	replicas, stopped, obs := int32(4), true, seenRunning(w.ID)
	b.must(b.Record(t.Context(), op.ID, 1, fleet.Change{
		Events: []fleet.Event{{Type: fleet.EventWarning, Reason: "PortTaken", Object: "Service/web", Message: "31000 is taken."}},
		Steps:  []fleet.Step{{Name: fleet.StepObjects, State: fleet.StepSucceeded}},
		Finish: fleet.OperationSucceeded, ReleaseSucceeded: 1, Replicas: &replicas, Stopped: &stopped, Observation: &obs,
	}))
	events, err := b.EventsSince(t.Context(), op.ID, 0, 0)
	b.must(err)
	var story []string
	for _, e := range events {
		story = append(story, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Type, e.Step, e.State, e.Message)))
	}
	want := []string{
		"operation  queued", "operation  running", "step namespace running", "step namespace succeeded there",
		"step objects running", "warning   31000 is taken.", "step objects succeeded", "operation  succeeded",
	}
	if fmt.Sprint(story) != fmt.Sprint(want) {
		t.Fatalf("events:\n%s\nwant:\n%s", strings.Join(story, "\n"), strings.Join(want, "\n"))
	}
	state, err := b.Workload(t.Context(), w.ID)
	b.must(err)
	if o := state.Operation; o.State != fleet.OperationSucceeded || o.FinishedAt.IsZero() || o.LastSeq != int64(len(events)) || o.Steps[0].StartedAt.IsZero() || o.Steps[0].FinishedAt.IsZero() || o.Steps[1].State != fleet.StepSucceeded {
		t.Fatalf("operation %+v", o)
	}
	if state.Workload.Replicas != 4 || !state.Workload.Stopped || state.Observation == nil || state.Observation.Ready != 1 {
		t.Fatalf("workload %+v", state)
	}
	if r, err := b.Release(t.Context(), w.ID, 1); err != nil || !r.Succeeded {
		t.Fatalf("release %+v %v", r, err)
	}
}

func TestB16TheOperationOutlivesItsWorkload(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	op, err := b.Begin(t.Context(), beginOf(w, fleet.VerbDelete))
	b.must(err)
	if phase, _ := b.phase(w.ID); phase != fleet.PhaseDeleting {
		t.Fatalf("phase %s", phase)
	}
	_, err = b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	b.must(b.Record(t.Context(), op.ID, 1, fleet.Change{Steps: allDone(op.Steps), Finish: fleet.OperationSucceeded, Removed: true}))
	_, err = b.Workload(t.Context(), w.ID)
	wantCode(t, err, fleet.CodeNotFound)
	got, err := b.Operation(t.Context(), op.ID)
	b.must(err)
	if got.WorkloadName != "web" || len(got.Steps) != 2 || got.State != fleet.OperationSucceeded {
		t.Fatalf("operation %+v", got)
	}
	b.must(b.DeleteCluster(t.Context(), "c1", fleet.AuditEntry{}))
	_, err = b.Operation(t.Context(), op.ID)
	b.must(err)
}

func TestCancelIsHeardByTheHolderAndWakesASleeper(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	_, op := b.deploy("c1", "web")
	_, err := b.Claim(t.Context(), op.ID, 1)
	b.must(err)
	b.must(b.RequestCancel(t.Context(), op.ID, fleet.AuditEntry{Actor: "a@example.org", Action: "operation.cancel"}))
	b.must(b.RequestCancel(t.Context(), op.ID, fleet.AuditEntry{Action: "operation.cancel"})) // again: nothing new
	if cancel, err := b.Heartbeat(t.Context(), op.ID, 1); !cancel || err != nil {
		t.Fatalf("the holder hears %v, %v", cancel, err)
	}
	if len(b.enqueued()) != 1 {
		t.Fatalf("jobs %v", b.enqueued())
	}
	events, err := b.EventsSince(t.Context(), op.ID, 2, 0)
	b.must(err)
	if len(events) != 1 || events[0].Message != "a@example.org asked to cancel." {
		t.Fatalf("events %+v", events)
	}

	_, asleep := b.deploy("c1", "asleep")
	_, err = b.Claim(t.Context(), asleep.ID, 1)
	b.must(err)
	b.must(b.GiveUp(t.Context(), asleep.ID, 1, time.Hour))
	b.must(b.RequestCancel(t.Context(), asleep.ID, fleet.AuditEntry{Action: "operation.cancel"}))
	if jobs := b.enqueued(); jobs[len(jobs)-1] != (doorbell{asleep.ID, 1}) || len(jobs) != 3 {
		t.Fatalf("jobs %v", jobs)
	}
	got, err := b.Claim(t.Context(), asleep.ID, 1)
	b.must(err)
	if !got.CancelRequested {
		t.Fatal("the claim does not tell of the cancel")
	}
	b.must(b.Record(t.Context(), asleep.ID, 1, fleet.Change{Finish: fleet.OperationCancelled}))
	wantCode(t, b.RequestCancel(t.Context(), asleep.ID, fleet.AuditEntry{}), fleet.CodeConflict)
	wantCode(t, b.RequestCancel(t.Context(), "nonsense", fleet.AuditEntry{}), fleet.CodeNotFound)
}

// A worker that ends an operation and a person who begins the next one lock
// the same rows; in whatever order they come, neither is refused by a deadlock.
func TestEndingAndBeginningAtOnceNeverDeadlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w := b.running("c1", "web")
	for range 15 {
		op, err := b.Begin(t.Context(), beginOf(w, fleet.VerbUpdate))
		b.must(err)
		_, err = b.Claim(t.Context(), op.ID, 1)
		b.must(err)
		var wg sync.WaitGroup
		wg.Go(func() {
			obs := seenRunning(w.ID)
			if err := b.Record(t.Context(), op.ID, 1, fleet.Change{Finish: fleet.OperationSucceeded, Observation: &obs}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := b.SaveObservation(t.Context(), holder, seenRunning(w.ID), always); err != nil {
				t.Error(err)
			}
		})
		var next fleet.Operation
		wg.Go(func() {
			var err error
			if next, err = b.Begin(t.Context(), beginOf(w, fleet.VerbUpdate)); err != nil && fleet.CodeOf(err) != fleet.CodeConflict {
				t.Error(err)
			}
		})
		wg.Wait()
		if next.ID != "" {
			_, err := b.Claim(t.Context(), next.ID, 1)
			b.must(err)
			b.must(b.Record(t.Context(), next.ID, 1, fleet.Change{Finish: fleet.OperationFailed}))
		}
	}
}

func TestOperationsArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	for i := range 5 {
		b.deploy("c1", fmt.Sprint("w", i))
	}
	_, failed := b.deploy("c1", "w5")
	_, err := b.Claim(t.Context(), failed.ID, 1)
	b.must(err)
	b.must(b.Record(t.Context(), failed.ID, 1, fleet.Change{Finish: fleet.OperationFailed}))
	var got []string
	filter := fleet.OperationFilter{Limit: 4}
	for {
		page, err := b.Operations(t.Context(), filter)
		b.must(err)
		for _, op := range page.Rows {
			got = append(got, op.WorkloadName)
		}
		if page.Next == "" {
			break
		}
		filter.After = page.Next
	}
	if fmt.Sprint(got) != "[w5 w4 w3 w2 w1 w0]" {
		t.Fatalf("operations %v", got)
	}
	page, err := b.Operations(t.Context(), fleet.OperationFilter{State: fleet.OperationFailed})
	b.must(err)
	if len(page.Rows) != 1 || page.Rows[0].ID != failed.ID {
		t.Fatalf("failed operations %v", page.Rows)
	}
	for _, cursor := range []string{"x", "-1", "1 OR 1=1"} {
		_, err := b.Operations(t.Context(), fleet.OperationFilter{After: cursor})
		wantCode(t, err, fleet.CodeInvalid)
	}
}

func TestWhatContainersSayCanBeStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cluster("c1")
	w, op := b.deploy("c1", "web")
	_, err := b.Claim(t.Context(), op.ID, op.Token)
	b.must(err)
	const said, kept = "a\x00b\xffc \\u0000", "a\uFFFDb\uFFFDc \\u0000"
	obs := seenRunning(w.ID)
	obs.Message, obs.Pods[0].Message = said, said
	b.must(b.Record(t.Context(), op.ID, op.Token, fleet.Change{
		Events:  []fleet.Event{{Type: fleet.EventWarning, Message: said}},
		Steps:   []fleet.Step{{Name: op.Steps[0].Name, State: fleet.StepFailed, Message: said}},
		Finish:  fleet.OperationFailed,
		Failure: &fleet.Failure{Reason: "CrashLoopBackOff", Message: said, Logs: []string{said}}, Observation: &obs,
	}))
	got, err := b.Operation(t.Context(), op.ID)
	b.must(err)
	state, err := b.Workload(t.Context(), w.ID)
	b.must(err)
	for _, text := range []string{got.Steps[0].Message, got.Failure.Message, got.Failure.Logs[0], state.Observation.Message, state.Observation.Pods[0].Message} {
		if text != kept {
			t.Errorf("%q", text)
		}
	}
}
