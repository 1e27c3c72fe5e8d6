package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
	"portolan/internal/seal"
)

// vault is a database with sealed values in it.
type vault struct {
	*testing.T
	*postgres.DB
	url, workload string
	releases      int
}

// key is a keyring entry whose key is one byte repeated.
func key(id string, fill byte) string {
	return id + ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func keyring(t *testing.T, text string) *seal.Keyring {
	t.Helper()
	ring, err := seal.ParseKeyring(text)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// newVault seals three kubeconfigs, a cloud credential beside two of them and
// the secrets of some releases with the first of the keys. Releases with an even number are bound as they once were,
// to the workload alone.
func newVault(t *testing.T, releases int, keys string) *vault {
	t.Helper()
	v := &vault{T: t, url: postgrestest.MigratedURL(t), workload: "018f0000-0000-7000-8000-000000000001", releases: releases}
	db, err := postgres.Open(t.Context(), v.url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	v.DB = db
	ring := keyring(t, keys)
	for _, id := range []string{"aks-one", "eks-two", "gke-three"} {
		sealed, err := ring.Seal([]byte("kubeconfig of "+id), seal.AAD{Purpose: fleet.PurposeKubeconfig, Subject: id})
		v.must(err)
		c := fleet.Cluster{
			ID: id, Label: id, Provider: fleet.ProviderKubernetes, CredentialMode: fleet.CredentialEncrypted, CredentialHash: "h",
			Namespace: "apps", Exposure: fleet.Exposure{Mode: fleet.ExposureClusterIP}, Enabled: true,
		}
		if cloud := map[string]fleet.Cloud{"eks-two": fleet.CloudAWS, "gke-three": fleet.CloudGoogle}[id]; cloud != "" {
			secret, err := ring.Seal([]byte("cloud credential of "+id), seal.AAD{Purpose: fleet.PurposeCloudCredential, Subject: id})
			v.must(err)
			c.Cloud = fleet.CloudIdentity{Cloud: cloud, Hash: "h"}
			c.SealedCloud = &fleet.SealedCredential{KeyID: secret.KeyID, Sealed: secret.Data}
		}
		v.must(db.CreateCluster(t.Context(), c, &fleet.SealedCredential{KeyID: sealed.KeyID, Sealed: sealed.Data}, fleet.AuditEntry{}))
	}
	v.exec(`INSERT INTO workloads (id, name, cluster_id, namespace, runtime, kind, release, replicas, stopped, created_by)
		VALUES ($1, 'web', 'aks-one', 'apps', 'container', 'Deployment', 1, 1, false, 'op')`, v.workload)
	batch := &pgx.Batch{}
	for n := 1; n <= releases; n++ {
		subject := fleet.ReleaseSubject(v.workload, n)
		if n%2 == 0 {
			subject = v.workload
		}
		sealed, err := ring.Seal(fmt.Appendf(nil, "secret %d", n), seal.AAD{Purpose: fleet.PurposeReleaseSecrets, Subject: subject})
		v.must(err)
		batch.Queue(`INSERT INTO releases (workload_id, number, spec, sealed_secrets, sealed_key_id, from_release, created_by)
			VALUES ($1, $2, '{}', $3, $4, 0, 'op')`, v.workload, n, sealed.Data, sealed.KeyID)
	}
	// One without secrets, which needs no key.
	batch.Queue(`INSERT INTO releases (workload_id, number, spec, sealed_key_id, from_release, created_by)
		VALUES ($1, $2, '{}', '', 0, 'op')`, v.workload, releases+1)
	v.must(db.Pool().SendBatch(t.Context(), batch).Close())
	return v
}

func (v *vault) must(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

func (v *vault) exec(sql string, args ...any) {
	v.Helper()
	_, err := v.Pool().Exec(v.Context(), sql, args...)
	v.must(err)
}

func (v *vault) count(sql string, args ...any) (n int) {
	v.Helper()
	v.must(v.Pool().QueryRow(v.Context(), sql, args...).Scan(&n))
	return n
}

// command is portolan as people run it, with these variables and no others of
// its own.
func command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "portolan", args...)
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PORTOLAN_") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func (v *vault) command(ctx context.Context, keys string, args ...string) *exec.Cmd {
	return command(ctx, []string{"PORTOLAN_DATABASE_URL=" + v.url, "PORTOLAN_ENCRYPTION_KEYS=" + keys}, args...)
}

// says runs a command to its end and checks what it prints.
func (v *vault) says(fails bool, keys string, args []string, want ...string) string {
	v.Helper()
	ctx, cancel := context.WithTimeout(v.Context(), 5*time.Minute)
	defer cancel()
	out, err := v.command(ctx, keys, args...).CombinedOutput()
	if (err != nil) != fails {
		v.Fatalf("%v: %v\n%s", args, err, out)
	}
	spaced := strings.Join(strings.Fields(string(out)), " ")
	for _, text := range want {
		if !strings.Contains(spaced, text) {
			v.Errorf("%v does not say %q:\n%s", args, text, out)
		}
	}
	return spaced
}

// opens checks that each value opens with the keys, where it is and bound to
// it alone, and holds what it held.
func (v *vault) opens(keys string) {
	v.Helper()
	ring := keyring(v.T, keys)
	for _, kind := range v.SealedKinds() {
		values, err := v.SealedValues(v.Context(), kind, nil, 10_000)
		v.must(err)
		for _, value := range values {
			text, err := ring.Open(seal.Sealed{KeyID: value.KeyID, Data: value.Data}, seal.AAD{Purpose: value.Purpose, Subject: value.Subject})
			if err != nil {
				v.Fatalf("%s %v: %v", kind, value.Row, err)
			}
			want := strings.TrimSuffix(kind, "s") + " of " + value.Row[0]
			if kind == "release secrets" {
				want = "secret " + value.Row[1]
			}
			if string(text) != want {
				v.Fatalf("%s %v holds %q", kind, value.Row, text)
			}
		}
		if len(values) == 0 {
			v.Errorf("there are no %s to try", kind) // whatever is sealed belongs into these tests
		}
	}
}

var (
	status = []string{"keys", "status"}
	rotate = []string{"keys", "rotate"}
)

func TestKeysAreRotated(t *testing.T) {
	t.Parallel()
	before, both, after := key("old", 1), key("new", 2)+","+key("old", 1), key("new", 2)
	v := newVault(t, 250, before)
	v.says(false, both, status, "old kubeconfigs 3 due", "old cloud credentials 2 due", "old release secrets 250 due", "new - 0 seals, nothing yet")
	v.says(false, both, rotate, "release secrets: 250 of 250 looked at, 250 sealed anew", "cloud credentials: 2 of 2 looked at, 2 sealed anew", "255 values were sealed anew with the key new")
	v.opens(after)
	v.says(false, both, status, "new kubeconfigs 3 current", "new cloud credentials 2 current", "new release secrets 250 current", "old - 0 unused, can be removed")
	v.says(false, after, rotate, "0 values were sealed anew")
	if n := v.count(`SELECT count(*) FROM audit WHERE action = 'keys.rotate' AND target = 'key/new' AND outcome = 'ok'`); n != 2 {
		t.Errorf("%d entries in the record", n)
	}

	// The same key, and an earlier binding: rotation brings it up to date.
	former := newVault(t, 4, before)
	former.says(false, before, status, "old release secrets 2 current", "old release secrets 2 due")
	former.says(false, before, rotate, "2 values were sealed anew with the key old")
	former.opens(before)
}

func TestMissingAndWrongKeysAreToldApart(t *testing.T) {
	t.Parallel()
	v := newVault(t, 3, key("old", 1))
	v.exec(`UPDATE cluster_credentials SET key_id = 'lost' WHERE cluster_id = 'eks-two'`)
	// That of another row, which is bound to it.
	v.exec(`UPDATE cluster_cloud_credentials SET sealed = (SELECT sealed FROM cluster_cloud_credentials WHERE cluster_id = 'eks-two') WHERE cluster_id = 'gke-three'`)
	v.exec(`UPDATE releases SET sealed_secrets = (SELECT sealed_secrets FROM releases WHERE number = 1) WHERE number = 3`)
	both := key("new", 2) + "," + key("old", 1)
	said := v.says(true, both, status,
		"lost kubeconfigs 1 key missing", `1 of the kubeconfigs are sealed with the key "lost"`,
		"old cloud credentials 1 does not open", "old cloud credentials 1 due", `1 of the cloud credentials; the key under the id "old"`,
		"old release secrets 1 does not open", `1 of the release secrets; the key under the id "old"`)
	if strings.Contains(said, "secret 1") {
		t.Error("a secret is shown")
	}
	// What can be rotated is, and the rest is left as it was.
	v.says(true, both, rotate, "5 values were sealed anew", `key "lost"`, `id "old"`)
	v.says(true, both, rotate, "0 values were sealed anew")
	if n := v.count(`SELECT count(*) FROM cluster_credentials WHERE key_id = 'lost'`); n != 1 {
		t.Error("the value of the missing key is gone")
	}
	// Another key under the id: nothing opens, and nothing is written.
	wrong := newVault(t, 3, key("k", 1))
	wrong.says(true, key("k", 9), rotate, "sealed value does not open", "0 values were sealed anew")
	wrong.says(false, key("k", 1), status, "k kubeconfigs 3 current")
}

// hold locks the row of a release, so that a rotation waits there.
func (v *vault) hold(number int) pgx.Tx {
	v.Helper()
	tx, err := v.Pool().Begin(v.Context())
	v.must(err)
	v.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(v.Context())) })
	_, err = tx.Exec(v.Context(), `SELECT FROM releases WHERE number = $1 FOR UPDATE`, number)
	v.must(err)
	return tx
}

// waits returns when the rotation waits for a lock.
func (v *vault) waits() {
	v.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for v.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0 {
		if time.Now().After(deadline) {
			v.Fatal("nothing waits")
		}
	}
}

func TestAKilledRotationIsResumed(t *testing.T) {
	t.Parallel()
	both := key("new", 2) + "," + key("old", 1)
	v := newVault(t, 60, key("old", 1))
	held := v.hold(35)
	cmd := v.command(t.Context(), both, "keys", "rotate", "--batch", "10")
	v.must(cmd.Start())
	v.waits()
	v.must(cmd.Process.Kill())
	_ = cmd.Wait() // killed
	v.must(held.Rollback(t.Context()))

	// Whole batches are done or not begun; all is readable with both keys.
	if n := v.count(`SELECT count(*) FROM releases WHERE sealed_key_id = 'new'`); n != 30 {
		t.Errorf("%d releases were sealed anew, want the 30 of three batches", n)
	}
	v.says(false, both, status, "new release secrets 30 current", "old release secrets 30 due", "new kubeconfigs 3 current")
	v.says(false, both, rotate, "30 values were sealed anew")
	v.opens(key("new", 2))
}

func TestRotationLeavesWhatIsSavedMeanwhile(t *testing.T) {
	t.Parallel()
	both := key("new", 2) + "," + key("old", 1)
	v := newVault(t, 5, key("old", 1))
	earlier, err := keyring(t, key("old", 1)).Seal([]byte("an earlier secret"), seal.AAD{Purpose: fleet.PurposeReleaseSecrets, Subject: fleet.ReleaseSubject(v.workload, 3)})
	v.must(err)
	v.exec(`UPDATE releases SET sealed_secrets = $1 WHERE number = 3`, earlier.Data)
	held := v.hold(3)
	cmd := v.command(t.Context(), both, rotate...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	v.must(cmd.Start())
	v.waits()
	// A process that still seals with the old key writes another value.
	sealed, err := keyring(t, key("old", 1)).Seal([]byte("secret 3"), seal.AAD{Purpose: fleet.PurposeReleaseSecrets, Subject: fleet.ReleaseSubject(v.workload, 3)})
	v.must(err)
	_, err = held.Exec(t.Context(), `UPDATE releases SET sealed_secrets = $1 WHERE number = 3`, sealed.Data)
	v.must(err)
	v.must(held.Commit(t.Context()))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	v.opens(key("new", 2))
	if !strings.Contains(out.String(), "10 values were sealed anew") {
		t.Errorf("it says:\n%s", out.String())
	}
}
