package registry

import (
	"context"
	"errors"
	"time"

	"portolan/internal/fleet"
)

// StartTest begins a connection test and returns at once; the test goes on in
// the background and stores its progress. One that runs already is
// CodeConflict.
func (r *Registry) StartTest(ctx context.Context, actor fleet.Actor, id string) error {
	if err := r.start(ctx, id, fleet.TriggerPerson, actor.Email, func() {}); err != nil {
		return r.refused(ctx, actor, "test", id, err)
	}
	return r.Store.Audit(ctx, r.audit(actor, "test", id))
}

// TestAll begins a test of every enabled cluster that has none running. Those
// for which this process has no room now are left to whoever has.
func (r *Registry) TestAll(ctx context.Context, actor fleet.Actor) (started int, err error) {
	all, err := r.Store.AllClusters(ctx)
	if err != nil {
		return 0, err
	}
	var later []string
	for _, s := range all {
		if !s.Cluster.Enabled || s.Running {
			continue
		}
		switch err := r.startInSlot(ctx, s.Cluster.ID, fleet.TriggerPerson, actor.Email); {
		case errors.Is(err, errNoSlot):
			later = append(later, s.Cluster.ID)
		case err == nil:
			started++
		case fleet.CodeOf(err) == "":
			return started, err
		}
	}
	if err := r.Store.WantTests(ctx, later); err != nil {
		return started, err
	}
	return started + len(later), r.Store.Audit(ctx, r.audit(actor, "test", "*"))
}

// errNoSlot says that as many tests run as this process may run at a time.
var errNoSlot = errors.New("registry: no room for another test now")

// startInSlot starts a test that nobody waits for, in one of the free slots, so
// that a test of all clusters is no burst. A test is stored as running only
// when it runs: one that waited in line would be taken for dead.
func (r *Registry) startInSlot(ctx context.Context, id string, trigger fleet.TestTrigger, by string) error {
	select {
	case r.slots <- struct{}{}:
	default:
		return errNoSlot
	}
	free := func() { <-r.slots }
	err := r.start(ctx, id, trigger, by, free)
	if err != nil {
		free()
	}
	return err
}

// start inserts the running test and hands it to the background, which calls
// ended, if start returns nil.
func (r *Registry) start(ctx context.Context, id string, trigger fleet.TestTrigger, by string, ended func()) error {
	status, err := r.Store.ClusterStatus(ctx, id)
	if err != nil {
		return err
	}
	c := status.Cluster
	raw, readErr := r.Kubeconfig(ctx, &c)
	if readErr != nil && fleet.CodeOf(readErr) == "" && c.CredentialMode == fleet.CredentialEncrypted {
		return readErr // the database failed, which says nothing about the cluster
	}
	if c.CredentialMode == fleet.CredentialMounted {
		// Of these bytes: the file may change at any moment.
		if err := r.storeHash(ctx, &c, raw, readErr); err != nil {
			return err
		}
	}
	var cloud fleet.CloudCredential
	if readErr == nil {
		if cloud, readErr = r.CloudCredential(ctx, &c); readErr != nil && fleet.CodeOf(readErr) == "" {
			return readErr
		}
	}
	// What the identity is compared with must be known: a test without it would
	// let a credential that leads elsewhere pass.
	namespace, uid, err := r.Store.PinnedIdentity(ctx, id)
	if err != nil {
		return err
	}
	test := fleet.ConnectionTest{
		ClusterID: id, Fingerprint: c.Fingerprint(), State: fleet.TestRunning, Trigger: trigger, Actor: by,
		StartedAt: time.Now(), Deadline: r.TestDeadline,
	}
	for _, stage := range fleet.Stages {
		test.Checks = append(test.Checks, fleet.Check{Stage: stage, State: fleet.CheckPending})
	}
	if test.ID, err = r.Store.BeginTest(ctx, test); err != nil {
		return err
	}
	request := TestRequest{
		Cluster: c, Kubeconfig: raw, KubeconfigError: readErr, Cloud: cloud,
		PinnedNamespace: namespace, PinnedUID: uid, Deadline: r.TestDeadline,
	}
	r.running.Go(func() {
		defer ended()
		r.run(test, request)
	})
	return nil
}

// run works through a test and stores how it goes.
func (r *Registry) run(test fleet.ConnectionTest, request TestRequest) {
	save := func(t fleet.ConnectionTest) {
		// The fingerprint is the tester's: that of the bytes it was given.
		t.ID, t.ClusterID, t.Trigger, t.Actor = test.ID, test.ClusterID, test.Trigger, test.Actor
		t.StartedAt, t.Deadline = test.StartedAt, test.Deadline
		r.write(test, func(ctx context.Context) error { return r.Store.SaveTest(ctx, t) })
	}
	result := r.Tester.Test(r.ctx, request, func(t fleet.ConnectionTest) {
		if r.ctx.Err() != nil {
			return
		}
		t.State = fleet.TestRunning
		save(t)
	})
	if r.ctx.Err() != nil && result.State != fleet.TestOK {
		// The process shuts down: this says nothing about the cluster, and
		// another process makes up for it.
		r.write(test, func(ctx context.Context) error { return r.Store.DropTest(ctx, test) })
		return
	}
	result.FinishedAt = time.Now()
	save(result)
}

// write stores what became of a test, also while the process shuts down. One
// that was closed meanwhile, or whose cluster is gone, needs no more.
func (r *Registry) write(test fleet.ConnectionTest, store func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), 5*time.Second)
	defer cancel()
	if err := store(ctx); err != nil && fleet.CodeOf(err) == "" {
		r.Logger.ErrorContext(ctx, "store connection test", "cluster", test.ClusterID, "err", err)
	}
}

// Run keeps the hashes of mounted files current, tests at once what has
// changed, and tests again what is due, until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	ticker := time.NewTicker(r.PollInterval)
	defer ticker.Stop()
	for {
		r.poll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *Registry) poll(ctx context.Context) {
	all, err := r.Store.AllClusters(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.Logger.ErrorContext(ctx, "read clusters", "err", err)
		}
		return
	}
	for _, s := range all {
		if err := r.noticeFile(ctx, &s.Cluster); err != nil {
			r.Logger.ErrorContext(ctx, "store credential hash", "cluster", s.Cluster.ID, "err", err)
		}
	}
	due, err := r.Store.DueTests(ctx, r.TestInterval)
	if err != nil && ctx.Err() == nil {
		r.Logger.ErrorContext(ctx, "read due tests", "err", err)
	}
	for _, id := range due {
		if r.startQuietly(ctx, id, fleet.TriggerSchedule) {
			return // the rest stay due
		}
	}
}

// noticeFile looks at a mounted file and tests its cluster when it has changed.
// Whoever notices first begins the test. Where that is not possible, such as
// while one of the old file runs, the cluster is due for it.
func (r *Registry) noticeFile(ctx context.Context, c *fleet.Cluster) error {
	before := c.CredentialHash
	if err := r.refreshHash(ctx, c); err != nil {
		return err
	}
	if c.CredentialHash != before && c.CredentialHash != "" && c.Enabled {
		r.startQuietly(ctx, c.ID, fleet.TriggerFile)
	}
	return nil
}

// startQuietly starts a test that nobody asked for, unless one runs already, and
// reports whether there was no room for it.
func (r *Registry) startQuietly(ctx context.Context, id string, trigger fleet.TestTrigger) (full bool) {
	err := r.startInSlot(ctx, id, trigger, "")
	if full = errors.Is(err, errNoSlot); full || err == nil || fleet.CodeOf(err) != "" || ctx.Err() != nil {
		return full
	}
	r.Logger.ErrorContext(ctx, "start connection test", "cluster", id, "err", err)
	return false
}
