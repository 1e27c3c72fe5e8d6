package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"portolan/internal/fleet"
)

const (
	testsKept = 50 // of each cluster
	// A test whose process died is closed this long after its deadline: one that
	// has reached it may still be writing, twice (registry's writeTimeout), where
	// the machine is busy.
	testGrace = 20 * time.Second
)

// aliveSQL is true of a running test while its process may be alive. Afterwards
// it counts as none; the next one closes it.
var aliveSQL = fmt.Sprintf(`started_at + deadline + interval '%d milliseconds' > now()`, testGrace.Milliseconds())

type testRow struct {
	ID            int64
	ClusterID     string
	Fingerprint   string
	State         fleet.TestState
	Trigger       fleet.TestTrigger
	Actor         string
	StartedAt     time.Time
	FinishedAt    *time.Time
	Deadline      time.Duration
	Checks        []fleet.Check
	ServerVersion string
	Identity      string
	ClusterUID    string
	UIDNamespace  string
	Destination   string
	Permissions   []fleet.PermissionRow
	Credential    fleet.CredentialFacts
	Trial         bool
}

const (
	testColumnsBut = `t.id, t.cluster_id, t.fingerprint, t.state, t.trigger, t.actor, t.started_at, t.finished_at,
		t.deadline, t.server_version, t.identity, t.cluster_uid, t.uid_namespace, t.destination, t.credential, t.trial`
	testColumns = testColumnsBut + `, t.checks, t.permissions`
	// Permissions are some hundred rows a test: lists do without.
	testColumnsBrief = testColumnsBut + `, t.checks, '[]'::jsonb AS permissions`
)

func (r testRow) test() fleet.ConnectionTest {
	return fleet.ConnectionTest{
		ID: r.ID, ClusterID: r.ClusterID, Fingerprint: r.Fingerprint, State: r.State, Trigger: r.Trigger,
		Actor: r.Actor, StartedAt: r.StartedAt, FinishedAt: timeOf(r.FinishedAt), Deadline: r.Deadline,
		Checks: r.Checks, ServerVersion: r.ServerVersion, Identity: r.Identity,
		Pinned:      fleet.ClusterIdentity{Namespace: r.UIDNamespace, UID: r.ClusterUID, Destination: r.Destination},
		Permissions: r.Permissions, Credential: r.Credential, Trial: r.Trial,
	}
}

// BeginTest inserts a running test and returns its id. While one runs for the
// cluster it is CodeConflict; one whose deadline has passed without an end (its
// process died) is closed as failed first. Until SaveTest stores its end, or a
// person changes what it is about, the cluster stays due for a test.
func (db *DB) BeginTest(ctx context.Context, t fleet.ConnectionTest) (id int64, err error) {
	id, err = db.insertTest(ctx, t)
	if runs(err) {
		if err = pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error { return closeDeadTest(ctx, tx, t.ClusterID) }); err == nil {
			id, err = db.insertTest(ctx, t)
		}
	}
	if runs(err) {
		return 0, fleet.Conflict("A test of %s is already running.", t.ClusterID)
	}
	return id, wrap("begin test", orNotFound(err, "There is no such cluster."))
}

// runs reports whether err says that a test of the cluster runs already.
func runs(err error) bool { return violatesConstraint(err, "connection_tests_running_key") }

// insertTest is one way to the database and back. What of it was not on disk when
// the database's machine crashed is a test that is due again.
func (db *DB) insertTest(ctx context.Context, t fleet.ConnectionTest) (id int64, err error) {
	var batch pgx.Batch
	if !t.Watched {
		batch.Queue(commitSoon)
	}
	batch.Queue(`
		INSERT INTO connection_tests (cluster_id, fingerprint, credential_mode, state, trigger, actor, started_at, deadline,
			checks, server_version, identity, cluster_uid, uid_namespace, destination, permissions, credential, trial)
		SELECT c.id, $2, c.credential_mode, 'running', $3, $4, coalesce($5, now()), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
		FROM clusters c WHERE c.id = $1 RETURNING id`,
		t.ClusterID, t.Fingerprint, t.Trigger, t.Actor, nullTime(t.StartedAt), t.Deadline, orEmpty(t.Checks),
		t.ServerVersion, t.Identity, t.Pinned.UID, t.Pinned.Namespace, t.Pinned.Destination, orEmpty(t.Permissions), t.Credential, t.Trial,
	).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
	// A trial says nothing about the cluster, whether it ends or not.
	if !t.Trial {
		batch.Queue(wantTestsSQL, []string{t.ClusterID}, t.Actor)
	}
	queueRing(&batch, clusterBell(t.ClusterID))
	err = db.pool.SendBatch(ctx, &batch).Close()
	return id, err
}

// commitSoon lets a transaction end before it is on disk, which is some tenths of
// a second later (synchronous_commit in PostgreSQL's manual). A crash of the
// database's machine may undo it, as a whole.
const commitSoon = "SELECT set_config('synchronous_commit', 'off', true)"

// closeDeadTest ends the cluster's running test if its process must be dead. It
// says nothing about the cluster, whose verdict stays what it was.
func closeDeadTest(ctx context.Context, tx pgx.Tx, clusterID string) error {
	row, err := one[testRow](ctx, tx, `
		SELECT `+testColumns+` FROM connection_tests t
		WHERE cluster_id = $1 AND state = 'running' AND NOT `+aliveSQL+` FOR UPDATE`, clusterID)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	t := row.test()
	t.State, t.FinishedAt = fleet.TestFailed, time.Now().UTC()
	const message = "The process that ran this test ended before the test did."
	for i := range t.Checks {
		switch c := &t.Checks[i]; c.State {
		case fleet.CheckRunning:
			c.State, c.Message, c.Remedy = fleet.CheckFailed, message, "Test again."
		case fleet.CheckPending:
			c.State = fleet.CheckSkipped
		}
	}
	if t.Failed() == nil {
		t.Checks = append(t.Checks, fleet.Check{
			Stage: fleet.StageCredential, State: fleet.CheckFailed, Message: message, Remedy: "Test again.",
		})
	}
	var batch pgx.Batch
	queueTest(&batch, t)
	return tx.SendBatch(ctx, &batch).Close()
}

// DropTest forgets a running test that its process cannot end. The cluster
// stays due for one.
func (db *DB) DropTest(ctx context.Context, t fleet.ConnectionTest) error {
	return wrap("drop test", pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM connection_tests WHERE id = $1 AND state = 'running'`, t.ID); err != nil {
			return err
		}
		return ring(ctx, tx, clusterBell(t.ClusterID))
	}))
}

// SaveTest stores the progress or, when its State is ok or failed, the end of
// a test, and keeps the newest 50 of the cluster. A test that has ended, or
// whose cluster is gone, is CodeConflict.
func (db *DB) SaveTest(ctx context.Context, t fleet.ConnectionTest) error {
	counts := false
	err := pgx.BeginFunc(ctx, db.pool, func(tx pgx.Tx) (err error) {
		counts, err = saveTest(ctx, tx, t)
		return err
	})
	switch {
	case counts && t.Watched:
		db.tiles.forget()
	case counts:
		db.tiles.outdate()
	}
	return wrap("save test", err)
}

// saveTest is SaveTest in tx. counts is true where it changes what the clusters
// are counted by, which the tests of a healthy fleet never do.
func saveTest(ctx context.Context, tx pgx.Tx, t fleet.ConnectionTest) (counts bool, err error) {
	if t.State == fleet.TestRunning {
		t.FinishedAt = time.Time{}
	} else if t.FinishedAt.IsZero() {
		t.FinishedAt = time.Now().UTC()
	}
	var batch pgx.Batch
	if !t.Watched {
		batch.Queue(commitSoon)
	}
	queueTest(&batch, t)
	if t.State != fleet.TestRunning && !t.Trial {
		// A result of another configuration than the present one leaves the
		// cluster due, if it was. The credential's end is that of Status.Credential:
		// the test tells it only where the credential itself has said nothing.
		batch.Queue(`
			UPDATE clusters c SET test_id = $2, test_state = $3, test_fingerprint = $4, tested_at = $5,
				credential_ends_at = CASE WHEN c.fingerprint = $4 AND c.credential = '{}' THEN $6 ELSE c.credential_ends_at END,
				test_wanted = c.test_wanted AND c.fingerprint <> $4
			FROM (SELECT id, standing, credential_ends_at FROM clusters WHERE id = $1 FOR NO KEY UPDATE) was
			WHERE c.id = was.id AND coalesce(c.test_id, 0) < $2
			RETURNING c.standing <> was.standing OR c.credential_ends_at IS DISTINCT FROM was.credential_ends_at`,
			t.ClusterID, t.ID, t.State, t.Fingerprint, t.FinishedAt, nullTime(t.Credential.NotAfter),
		).QueryRow(func(row pgx.Row) error {
			if err := row.Scan(&counts); !absent(err) {
				return err
			}
			return nil
		})
		// The tests that pin the identity stay, however many have failed since.
		batch.Queue(`
			DELETE FROM connection_tests WHERE cluster_id = $1 AND id < (
				SELECT id FROM connection_tests WHERE cluster_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1
			) AND id NOT IN (
				SELECT max(id) FROM connection_tests
				WHERE cluster_id = $1 AND state = 'ok' AND cluster_uid <> '' GROUP BY credential_mode
			)`, t.ClusterID, testsKept-1)
	}
	queueRing(&batch, clusterBell(t.ClusterID))
	err = tx.SendBatch(ctx, &batch).Close()
	return counts, err
}

// queueTest stores how a running test stands.
func queueTest(batch *pgx.Batch, t fleet.ConnectionTest) {
	batch.Queue(`
		UPDATE connection_tests SET fingerprint = $2, state = $3, finished_at = $4, checks = $5, server_version = $6,
			identity = $7, cluster_uid = $8, uid_namespace = $9, destination = $10, permissions = $11, credential = $12
		WHERE id = $1 AND state = 'running'`,
		t.ID, t.Fingerprint, t.State, nullTime(t.FinishedAt), orEmpty(t.Checks), storable(t.ServerVersion), storable(t.Identity),
		t.Pinned.UID, t.Pinned.Namespace, t.Pinned.Destination, orEmpty(t.Permissions), t.Credential,
	).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return fleet.Conflict("This test of %s has already ended.", t.ClusterID)
		}
		return nil
	})
}

// Tests returns the newest tests of a cluster, a running one included unless its
// process must be dead, without permissions. limit 0 = 50.
func (db *DB) Tests(ctx context.Context, clusterID string, limit int) ([]fleet.ConnectionTest, error) {
	rows, err := many[testRow](ctx, db.pool, `
		SELECT `+testColumnsBrief+` FROM connection_tests t
		WHERE cluster_id = $1 AND (state <> 'running' OR `+aliveSQL+`) ORDER BY id DESC LIMIT $2`,
		clusterID, pageLimit(limit))
	if err != nil {
		return nil, fmt.Errorf("postgres: tests: %w", err)
	}
	out := make([]fleet.ConnectionTest, len(rows))
	for i, r := range rows {
		out[i] = r.test()
	}
	return out, nil
}

// Test returns one test of a cluster; CodeNotFound.
func (db *DB) Test(ctx context.Context, clusterID string, id int64) (fleet.ConnectionTest, error) {
	row, err := one[testRow](ctx, db.pool, `
		SELECT `+testColumns+` FROM connection_tests t WHERE cluster_id = $1 AND id = $2`, clusterID, id)
	if err != nil {
		return fleet.ConnectionTest{}, fmt.Errorf("postgres: test: %w", orNotFound(err, "There is no such test."))
	}
	return row.test(), nil
}

// RunningTest returns the test that runs for the cluster now, or nil.
func (db *DB) RunningTest(ctx context.Context, clusterID string) (*fleet.ConnectionTest, error) {
	row, err := one[testRow](ctx, db.pool, `
		SELECT `+testColumns+` FROM connection_tests t WHERE cluster_id = $1 AND state = 'running' AND `+aliveSQL, clusterID)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("postgres: test: %w", err)
	}
	t := row.test()
	return &t, nil
}

// identityColumns are a fleet.ClusterIdentity. Tests that kept no destination have
// at least their server.
const identityColumns = `t.uid_namespace AS namespace, t.cluster_uid AS uid,
	coalesce(nullif(t.destination, ''), t.credential->>'server', '') AS destination`

// PinnedIdentity returns what the newest passed test pinned that pinned anything;
// without a UID there is none. While there is no workload, only tests of the cluster's
// present credential mode count: to change it is to begin anew. With workloads
// it must lead to where they are.
func (db *DB) PinnedIdentity(ctx context.Context, clusterID string) (fleet.ClusterIdentity, error) {
	pinned, err := one[fleet.ClusterIdentity](ctx, db.pool, `
		SELECT `+identityColumns+` FROM connection_tests t
		JOIN clusters c ON c.id = t.cluster_id AND (c.credential_mode = t.credential_mode
			OR EXISTS (SELECT FROM workloads w WHERE w.cluster_id = c.id))
		WHERE t.cluster_id = $1 AND t.state = 'ok' AND t.cluster_uid <> ''
		ORDER BY t.id DESC LIMIT 1`, clusterID)
	if absent(err) {
		return fleet.ClusterIdentity{}, nil
	}
	return pinned, wrap("pinned identity", err)
}

// WantTests makes clusters due for a test that by has asked for; "" = nobody
// did. Whoever asked first for one that is wanted already stays named.
func (db *DB) WantTests(ctx context.Context, ids []string, by string) error {
	_, err := db.pool.Exec(ctx, wantTestsSQL, ids, by)
	return wrap("want tests", err)
}

// wantTestsSQL leaves the rows alone that say so already.
const wantTestsSQL = `
	UPDATE clusters SET test_wanted = true,
		test_wanted_by = CASE WHEN test_wanted AND test_wanted_by <> '' THEN test_wanted_by ELSE $2 END
	WHERE id = ANY($1) AND NOT (test_wanted AND (test_wanted_by <> '' OR $2 = ''))`

// How long a watch must fail before that is a reason to test its cluster, since most
// that break are begun anew within seconds; and how long after a test that reason
// counts at the earliest, since one that breaks again and again must not have its
// cluster tested without a pause.
const (
	brokenFor = 10 * time.Second
	spared    = time.Minute
)

// contradictedSQL is a cluster c of which a watch says something else than its
// latest test: that has passed, and the watch has broken since; or it could not
// reach the API server, which the watch does. It does not depend on the row of c, so
// that it is found once for all.
var contradictedSQL = fmt.Sprintf(`c.id IN (
	SELECT k.id FROM observation_sources s JOIN clusters k ON k.id = s.cluster_id
	WHERE k.tested_at < now() - interval '%[1]d seconds' AND CASE WHEN s.error <> ''
		THEN k.verdict = 'ok' AND s.error_at < now() - interval '%[2]d seconds' AND k.tested_at < s.error_at + interval '%[2]d seconds'
		ELSE k.verdict = 'failed' AND s.alive_at > now() - interval '%[3]d seconds' AND EXISTS (
			SELECT FROM connection_tests t, jsonb_array_elements(t.checks) e WHERE t.id = k.test_id AND e->>'state' = 'failed'
				AND e->>'stage' IN ('%[4]s', '%[5]s', '%[6]s', '%[7]s', '%[8]s')) END)`,
	int(spared.Seconds()), int(brokenFor.Seconds()), int(fleet.UnknownAfter.Seconds()),
	fleet.StageResolve, fleet.StageConnect, fleet.StageTLS, fleet.StageAuthenticate, fleet.StageVersion)

// DueTests returns the enabled clusters whose latest test of the present
// configuration ended longer than interval ago or is contradicted by a watch, and
// before them those for which a test is wanted: one that somebody asked for, that
// never came to its end, or of a mounted kubeconfig that has changed. Of both, those
// that failed come first, since they may take long, and the others need not wait for
// their end; then the oldest test. None has a test running. limit 0 = all.
func (db *DB) DueTests(ctx context.Context, interval time.Duration, limit int) ([]fleet.DueTest, error) {
	due, err := many[fleet.DueTest](ctx, db.pool, `
		SELECT c.id AS cluster_id, CASE WHEN c.test_wanted THEN c.test_wanted_by ELSE '' END AS by FROM clusters c
		WHERE c.enabled AND (c.test_wanted OR c.test_fingerprint = c.fingerprint AND (c.tested_at < now() - $1::interval OR `+contradictedSQL+`))
			AND NOT EXISTS (SELECT FROM connection_tests t WHERE t.cluster_id = c.id AND t.state = 'running' AND `+aliveSQL+`)
		ORDER BY c.test_wanted DESC, c.verdict = 'failed' DESC, c.tested_at LIMIT NULLIF($2, 0)`, interval, limit)
	return due, wrap("due tests", err)
}
