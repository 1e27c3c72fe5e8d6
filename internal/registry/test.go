package registry

import (
	"context"
	"errors"
	"time"

	"portolan/internal/fleet"
)

// StartTest begins a connection test and returns at once; the test goes on in
// the background and stores its progress. One that runs already is
// CodeConflict. Where as many run as may, the cluster is the next in line.
func (r *Registry) StartTest(ctx context.Context, actor fleet.Actor, id string) error {
	if err := r.startOrWait(ctx, id, actor.Email); err != nil {
		return r.refused(ctx, actor, "test", id, err)
	}
	return r.Store.Audit(ctx, r.audit(actor, "test", id))
}

func (r *Registry) startOrWait(ctx context.Context, id, by string) error {
	err := r.startInSlot(ctx, id, fleet.TriggerPerson, by, true)
	if !errors.Is(err, errNoSlot) {
		return err
	}
	c, err := r.Store.Cluster(ctx, id)
	if err != nil {
		return err
	}
	if !c.Enabled { // nothing tests it by itself
		return fleet.Unavailable("%d tests run already, which is as many as may at a time. Try again in a moment.", r.MaxTests)
	}
	return r.Store.WantTests(ctx, []string{id}, by)
}

// TestAll has every enabled cluster tested that has no test running: a few at a
// time, by whichever process has room.
func (r *Registry) TestAll(ctx context.Context, actor fleet.Actor) (wanted int, err error) {
	all, err := r.Store.AllClusters(ctx)
	if err != nil {
		return 0, err
	}
	var ids []string
	for _, s := range all {
		if s.Cluster.Enabled && !s.Running {
			ids = append(ids, s.Cluster.ID)
		}
	}
	if err := r.Store.WantTests(ctx, ids, actor.Email); err != nil {
		return 0, err
	}
	r.running.Go(func() { r.drain(r.ctx) })
	return len(ids), r.Store.Audit(ctx, r.audit(actor, "test", "*"))
}

// startInSlot starts a test within the bound on those that run at a time, or
// returns errNoSlot. A test is stored as running only when it runs: one that
// waited in line would be taken for dead. One that a person watches shows every
// stage as it begins and ends.
func (r *Registry) startInSlot(ctx context.Context, id string, trigger fleet.TestTrigger, by string, watched bool) error {
	if !r.slots.take(watched) {
		return errNoSlot
	}
	err := r.start(ctx, id, trigger, by, watched)
	if err != nil {
		r.slots.free()
	}
	return err
}

// start inserts the running test and hands it to the background, which frees
// the slot if start returns nil.
func (r *Registry) start(ctx context.Context, id string, trigger fleet.TestTrigger, by string, watched bool) error {
	request, err := r.request(ctx, id)
	if err != nil {
		return err
	}
	// What the identity is compared with must be known: a test without it would
	// let a credential that leads elsewhere pass.
	pinned, err := r.Store.PinnedIdentity(ctx, id)
	if err != nil {
		return err
	}
	test := pendingTest(request.Cluster, trigger, by, r.TestDeadline)
	test.Watched = watched
	if test.ID, err = r.Store.BeginTest(ctx, test); err != nil {
		return err
	}
	request.Deadline = r.TestDeadline
	if !watched {
		request.Yield = r.pages.pass
	}
	request.Pinned = pinned
	r.running.Go(func() {
		defer r.slots.free()
		r.run(test, request)
	})
	return nil
}

// request returns a cluster with its credential, as they belong together: what
// the row says, such as what is allowed, is never applied to the credential that
// replaced its own. An Error at the credential is left to the test to tell.
func (r *Registry) request(ctx context.Context, id string) (TestRequest, error) {
	for range 3 { // replaced again and again, it is tested by whoever replaced it
		c, err := r.Store.Cluster(ctx, id)
		if err != nil {
			return TestRequest{}, err
		}
		raw, err := r.Kubeconfig(ctx, &c)
		if err != nil && fleet.CodeOf(err) == "" && c.CredentialMode == fleet.CredentialEncrypted {
			return TestRequest{}, err // the database failed, which says nothing about the cluster
		}
		if c.CredentialMode == fleet.CredentialMounted {
			// Of these bytes: the file may change at any moment.
			if err := r.storeHash(ctx, &c, raw, err); err != nil {
				return TestRequest{}, err
			}
		}
		if err != nil {
			return TestRequest{Cluster: c, KubeconfigError: err}, nil
		}
		cloud, err := r.CloudCredential(ctx, &c)
		if err != nil && fleet.CodeOf(err) == "" {
			return TestRequest{}, err
		}
		if err != nil || hashOf(raw) == c.CredentialHash && (!c.Cloud.Sealed() || cloud.Identity().Hash == c.Cloud.Hash) {
			return TestRequest{Cluster: c, Kubeconfig: raw, KubeconfigError: err, Cloud: cloud}, nil
		}
	}
	return TestRequest{}, fleet.Unavailable("The credential is being replaced. Try again in a moment.")
}

// pendingTest is a test of which no stage has begun.
func pendingTest(c fleet.Cluster, trigger fleet.TestTrigger, by string, deadline time.Duration) fleet.ConnectionTest {
	t := fleet.ConnectionTest{
		ClusterID: c.ID, Fingerprint: c.Fingerprint(), State: fleet.TestRunning, Trigger: trigger, Actor: by,
		StartedAt: time.Now(), Deadline: deadline,
	}
	for _, stage := range fleet.Stages {
		t.Checks = append(t.Checks, fleet.Check{Stage: stage, State: fleet.CheckPending})
	}
	return t
}

// run works through a test and stores how it goes.
func (r *Registry) run(test fleet.ConnectionTest, request TestRequest) {
	result := r.try(test, request)
	if request.Yield != nil {
		request.Yield(r.ctx)
	}
	if r.ctx.Err() != nil && result.State != fleet.TestOK {
		// The process shuts down: this says nothing about the cluster, and
		// another process makes up for it.
		r.write(test, func(ctx context.Context) error { return r.Store.DropTest(ctx, test) })
		return
	}
	r.write(test, func(ctx context.Context) error { return r.Store.SaveTest(ctx, result) })
}

// How often the progress of a test is stored, by whether somebody waits for it: as
// good as at once, or so seldom that most end sooner, and a thousand of them cost
// few writes.
const (
	watchedProgress   = time.Millisecond
	unwatchedProgress = 200 * time.Millisecond
)

// try runs the test and stores its progress, but not its end.
func (r *Registry) try(test fleet.ConnectionTest, request TestRequest) fleet.ConnectionTest {
	// The fingerprint stays the tester's: that of the bytes it was given.
	named := func(t fleet.ConnectionTest) fleet.ConnectionTest {
		t.ID, t.ClusterID, t.Trigger, t.Actor, t.Trial = test.ID, test.ClusterID, test.Trigger, test.Actor, test.Trial
		t.StartedAt, t.Deadline, t.Watched = test.StartedAt, test.Deadline, test.Watched
		return t
	}
	p := &progress{every: watchedProgress, save: func(t fleet.ConnectionTest) {
		if r.ctx.Err() != nil {
			return
		}
		t = named(t)
		t.State = fleet.TestRunning
		r.write(test, func(ctx context.Context) error { return r.Store.SaveTest(ctx, t) })
	}}
	if !test.Watched {
		p.every = unwatchedProgress
	}
	result := r.Tester.Test(r.ctx, request, p.report)
	p.end()
	result.FinishedAt = time.Now()
	return named(result)
}

// writeTimeout bounds a write about a test, which the end of the process does
// not cut short: without it the test would have to be done again.
const writeTimeout = 8 * time.Second

// write stores what became of a test, also while the process shuts down. One
// that was closed meanwhile, or whose cluster is gone, needs no more.
func (r *Registry) write(test fleet.ConnectionTest, store func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), writeTimeout)
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
	r.pollFiles(ctx)
	for {
		r.startDue(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.pollFiles(ctx)
		case <-r.slots.freed: // for whichever is the next in line
		}
	}
}

// filesAtOnce are read between two looks whether somebody waits for a page: a
// file takes some hundredths of a millisecond.
const filesAtOnce = 50

// pollFiles looks at the mounted files of all clusters, once at each.
func (r *Registry) pollFiles(ctx context.Context) {
	files, err := r.Store.MountedFiles(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.Logger.ErrorContext(ctx, "read clusters", "err", err)
		}
		return
	}
	hashes := map[string]string{} // by path; "" = not readable
	for _, f := range files {
		hash, known := hashes[f.Path]
		if !known {
			if len(hashes)%filesAtOnce == filesAtOnce-1 {
				r.pages.pass(ctx)
			}
			if raw, err := r.Kubeconfigs.Read(f.Path); err == nil {
				hash = hashOf(raw)
			}
			hashes[f.Path] = hash
		}
		if hash == f.Hash {
			continue
		}
		c, err := r.Store.Cluster(ctx, f.ClusterID)
		if err == nil {
			err = r.noticeFile(ctx, &c)
		}
		if err != nil && fleet.CodeOf(err) != fleet.CodeNotFound && ctx.Err() == nil {
			r.Logger.ErrorContext(ctx, "store credential hash", "cluster", f.ClusterID, "err", err)
		}
	}
}

// drain starts due tests until none is left.
func (r *Registry) drain(ctx context.Context) {
	ticker := time.NewTicker(r.PollInterval)
	defer ticker.Stop()
	for r.startDue(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.slots.freed:
		}
	}
}

// unwatchedPace is the least time between the starts of tests that nobody waits
// for: a thousand of them are spread over most of a minute, and leave room on the
// processors for pages.
const unwatchedPace = 55 * time.Millisecond

// startDue starts as many of the due tests as there is room for, and reports
// whether there may be more.
func (r *Registry) startDue(ctx context.Context) (more bool) {
	r.starting.Lock() // else another would start what has just been tested
	defer r.starting.Unlock()
	room := r.slots.left()
	if room == 0 {
		return true
	}
	due, err := r.Store.DueTests(ctx, r.TestInterval, room)
	if err != nil && ctx.Err() == nil {
		r.Logger.ErrorContext(ctx, "read due tests", "err", err)
	}
	for _, d := range due {
		if r.pace.Wait(ctx) != nil {
			return false
		}
		r.pages.pass(ctx)
		trigger := fleet.TriggerSchedule
		if d.By != "" {
			trigger = fleet.TriggerPerson
		}
		if r.startQuietly(ctx, d.ClusterID, trigger, d.By) {
			return true // the rest stay due
		}
	}
	return len(due) > 0
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
		r.startQuietly(ctx, c.ID, fleet.TriggerFile, "")
	}
	return nil
}

// startQuietly starts a test that nobody waits for, unless one runs already, and
// reports whether there was no room for it. by = who asked for it, "" = nobody.
func (r *Registry) startQuietly(ctx context.Context, id string, trigger fleet.TestTrigger, by string) (full bool) {
	err := r.startInSlot(ctx, id, trigger, by, false)
	if full = errors.Is(err, errNoSlot); full || err == nil || fleet.CodeOf(err) != "" || ctx.Err() != nil {
		return full
	}
	r.Logger.ErrorContext(ctx, "start connection test", "cluster", id, "err", err)
	return false
}
