package registry

import (
	"context"
	"time"

	"portolan/internal/fleet"
)

// StartTest begins a connection test and returns at once; the test goes on in
// the background and stores its progress. One that runs already is
// CodeConflict.
func (r *Registry) StartTest(ctx context.Context, actor fleet.Actor, id string) error {
	if err := r.start(ctx, id, fleet.TriggerPerson, actor.Email); err != nil {
		return r.refused(ctx, actor, "test", id, err)
	}
	return r.Store.Audit(ctx, r.audit(actor, "test", id))
}

// TestAll begins a test of every enabled cluster that has none running.
func (r *Registry) TestAll(ctx context.Context, actor fleet.Actor) (started int, err error) {
	all, err := r.Store.AllClusters(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range all {
		if !s.Cluster.Enabled {
			continue
		}
		switch err := r.start(ctx, s.Cluster.ID, fleet.TriggerPerson, actor.Email); {
		case err == nil:
			started++
		case fleet.CodeOf(err) == "":
			return started, err
		}
	}
	return started, r.Store.Audit(ctx, r.audit(actor, "test", "*"))
}

// start inserts the running test and hands it to the background.
func (r *Registry) start(ctx context.Context, id string, trigger fleet.TestTrigger, by string) error {
	status, err := r.Store.ClusterStatus(ctx, id)
	if err != nil {
		return err
	}
	c := status.Cluster
	raw, readErr := r.Kubeconfig(ctx, &c)
	if err := r.refreshHash(ctx, &c); err != nil {
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
	r.running.Go(func() { r.run(test, c, raw, readErr) })
	return nil
}

// run works through a test and stores how it goes. It waits for a free slot
// first, so that a test of all clusters is no burst.
func (r *Registry) run(test fleet.ConnectionTest, c fleet.Cluster, raw []byte, readErr error) {
	ctx := r.ctx
	save := func(t fleet.ConnectionTest) {
		// The fingerprint is the tester's: that of the bytes it was given.
		t.ID, t.ClusterID, t.Trigger, t.Actor = test.ID, test.ClusterID, test.Trigger, test.Actor
		t.StartedAt, t.Deadline = test.StartedAt, test.Deadline
		// Stored also while the process shuts down: a test must not stay running.
		write, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := r.Store.SaveTest(write, t); err != nil && fleet.CodeOf(err) != fleet.CodeNotFound {
			r.Logger.ErrorContext(ctx, "save connection test", "cluster", c.ID, "err", err)
		}
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
	}
	namespace, uid, err := r.Store.PinnedIdentity(ctx, c.ID)
	if err != nil {
		r.Logger.ErrorContext(ctx, "read pinned identity", "cluster", c.ID, "err", err)
	}
	result := r.Tester.Test(ctx, TestRequest{
		Cluster: c, Kubeconfig: raw, KubeconfigError: readErr,
		PinnedNamespace: namespace, PinnedUID: uid, Deadline: r.TestDeadline,
	}, func(t fleet.ConnectionTest) {
		t.State = fleet.TestRunning
		save(t)
	})
	result.FinishedAt = time.Now()
	save(result)
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
		r.startQuietly(ctx, id, fleet.TriggerSchedule)
	}
}

// noticeFile looks at a mounted file and tests its cluster when it has changed.
// Whoever notices first begins the test: nobody else will see a change.
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

func (r *Registry) startQuietly(ctx context.Context, id string, trigger fleet.TestTrigger) {
	if err := r.start(ctx, id, trigger, ""); err != nil && fleet.CodeOf(err) == "" && ctx.Err() == nil {
		r.Logger.ErrorContext(ctx, "start connection test", "cluster", id, "err", err)
	}
}
