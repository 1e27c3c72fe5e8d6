package web

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

// ended ends what is being done to a workload: its operation in a state, the
// cluster showing a release.
func (b *bundle) ended(workload string, state fleet.OperationState, release int) {
	b.t.Helper()
	b.exec(`UPDATE operations SET state = $2, started_at = created_at, finished_at = now() WHERE workload_id = $1 AND finished_at IS NULL`, workload, state)
	b.exec(`
		INSERT INTO observations SELECT $1, now() + interval '1 hour', now(), true, 'u', 1, 1, 1, 1, 1, 1, 1, $2, 'Current', '', '', '[]', '[]', '[]'
		ON CONFLICT (workload_id) DO UPDATE SET release = excluded.release`, workload, release)
}

var (
	inputValue = regexp.MustCompile(`<input\s[^>]*name="([^"]+)"[^>]*?\svalue="([^"]*)"`)
	areaValue  = regexp.MustCompile(`(?s)<textarea\s[^>]*name="([^"]+)"[^>]*>\s*(.*?)</textarea>`)
)

// shown are the fields of the edit form as a page has them.
func shown(page string) fields {
	form := fields{}
	_, page, _ = strings.Cut(page, `id="edit-form"`)
	for _, m := range append(inputValue.FindAllStringSubmatch(page, -1), areaValue.FindAllStringSubmatch(page, -1)...) {
		form[m[1]] = m[2]
	}
	form["health_type"] = "none"
	return form
}

// TestAnEditPutsNothingBackSilently: who saves an edit after somebody else has
// changed the workload is told what would be put back.
func TestAnEditPutsNothingBackSilently(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	id, _ := b.deployed(operator, "one", "web")
	b.ended(id, fleet.OperationSucceeded, 1)
	edit := func() fields { return shown(operator.get("/workloads/" + id + "/edit").body) }
	save := func(form fields) answer { return operator.post("/workloads/"+id+"/update", form) }
	mustSave := func(form fields) {
		t.Helper()
		if a := save(form); a.status != http.StatusSeeOther {
			t.Fatalf("save: %d\n%s", a.status, a.body)
		}
		b.ended(id, fleet.OperationSucceeded, 1)
	}
	conflict := func(a answer, want ...string) {
		t.Helper()
		if a.status != http.StatusConflict {
			t.Fatalf("%d\n%s", a.status, a.body)
		}
		for _, text := range want {
			if !strings.Contains(a.body, text) {
				t.Errorf("no %q in\n%s", text, a.body)
			}
		}
	}

	mine := edit().but("env", "MINE=1")
	mustSave(edit().but("image", "demo:2").but("memory", "64Mi"))
	a := save(mine)
	conflict(a, "changed image, memory of web", `<th scope="row">image</th><td class="mono">demo:2</td><td class="mono">demo:1</td>`, "MINE=1", `value="demo:1"`)
	if strings.Contains(a.body, `<th scope="row">env</th>`) {
		t.Error("what I alone have changed is said to be changed meanwhile")
	}
	if a := save(mine); a.status != http.StatusConflict {
		t.Errorf("the same once more: %d", a.status)
	}
	mustSave(shown(a.body)) // with its eyes open

	mine = edit().but("env", "MINE=2")
	b.exec(`UPDATE workloads SET replicas = 10 WHERE id = $1`, id) // as a scale does
	a = save(mine)
	conflict(a, "changed replicas of web", `<td class="mono">10</td><td class="mono">1</td>`)
	mustSave(shown(a.body).but("replicas", "10"))

	mine = edit().but("env", "MINE=3")
	mustSave(edit().but("env", "MINE=3").but("secret_env", "TOKEN=theirs"))
	conflict(save(mine.but("secret_env", "TOKEN=sEcReT")), "changed secret_env of web", "another one is stored")
	mustSave(mine) // what was changed meanwhile is the same, or kept

	old := edit().but("env", "OLD=1")
	mustSave(edit().but("image", "demo:3"))
	delete(old, "release")
	delete(old, "replicas_before")
	mustSave(old) // a script that does not say
	if form := edit(); form["image"] != "demo:1" || form["replicas"] != "10" {
		t.Errorf("it holds %v", form)
	}
	conflict(save(edit().but("release", "99").but("image", "demo:4")), "changed image of web")
	conflict(save(edit().but("release", "x").but("image", "demo:4")), "changed image of web")
	conflict(save(edit().but("release", "99999999999").but("image", "demo:4")), "changed image of web")
	if a := operator.post("/workloads/"+id+"/rollback", fields{"release": "99999999999"}); a.status != http.StatusUnprocessableEntity {
		t.Errorf("back to a release beyond all numbers: %d", a.status)
	}

	// While theirs is being rolled out the form stays one of the release before.
	mine = edit().but("env", "MINE=5")
	if a := save(edit().but("image", "demo:5")); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	a = save(mine)
	conflict(a, "is busy")
	b.ended(id, fleet.OperationSucceeded, 1)
	conflict(save(shown(a.body)), "changed image of web")
}

// TestAReleaseThatNeverRanIsNotShownAsRunning: an edit that failed before it
// changed anything leaves the release before it in the cluster.
func TestAReleaseThatNeverRanIsNotShownAsRunning(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	id, _ := b.deployed(operator, "one", "web")
	b.ended(id, fleet.OperationSucceeded, 1)
	b.exec(`UPDATE releases SET succeeded = true`)
	outcome := func(release int) string {
		t.Helper()
		page := operator.get("/workloads/" + id).body
		_, row, ok := strings.Cut(page, fmt.Sprintf(`<tr data-release="%d">`, release))
		if !ok {
			t.Fatalf("no release %d in\n%s", release, page)
		}
		_, row, _ = strings.Cut(row, `<td data-label="Outcome">`)
		row, _, _ = strings.Cut(row, "</td>")
		return strings.Join(strings.Fields(tag.ReplaceAllString(row, " ")), " ")
	}
	expect := func(want ...string) {
		t.Helper()
		for i, text := range want {
			if got := outcome(i + 1); got != text {
				t.Errorf("release %d: %q, want %q", i+1, got, text)
			}
		}
	}
	const note = "Release 1 is what runs; release 2 failed. Redeploy makes release 2. To stay with release 1, roll back to it."
	expect("running current")

	if a := operator.post("/workloads/"+id+"/update", fields{"image": "demo:2"}); a.status != http.StatusSeeOther {
		t.Fatal(a.status)
	}
	b.exec(`UPDATE operations SET state = 'running' WHERE finished_at IS NULL`)
	expect("running", "rolling out current")
	b.ended(id, fleet.OperationFailed, 1)
	expect("running", "failed current")
	page := operator.get("/workloads/" + id).body
	if !strings.Contains(page, note) || !strings.Contains(page, "makes those of release 2 anew") {
		t.Errorf("it does not say what runs:\n%s", page)
	}
	b.ended(id, fleet.OperationFailed, 2) // it was written, and did not come up
	expect("succeeded", "failed current")
	b.exec(`UPDATE releases SET succeeded = true`) // but with a redeploy
	expect("succeeded", "running current")
	if strings.Contains(operator.get("/workloads/"+id).body, "is what runs") {
		t.Error("what is as it should be is noted")
	}

	// The operations are not kept for as long as the releases.
	b.exec(`INSERT INTO operations (id, workload_id, workload_name, cluster_id, namespace, runtime, verb, state, release, params, actor, created_at, finished_at)
		SELECT gen_random_uuid(), workload_id, workload_name, cluster_id, namespace, runtime, 'restart', 'succeeded', 0, '{}', actor, now(), now()
		FROM operations LIMIT 1`)
	b.exec(`DELETE FROM operations WHERE verb <> 'restart'`)
	expect("succeeded", "running current")
}

// A release that brings nothing but another value of a secret is not said to
// have the settings of the one before.
func TestAReleaseOfAnotherSecretIsNotCalledTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	id, _ := b.deployed(operator, "one", "web")
	b.ended(id, fleet.OperationSucceeded, 1)
	says := func(secrets, want string) {
		t.Helper()
		form := shown(operator.get("/workloads/" + id + "/edit").body)
		if a := operator.post("/workloads/"+id+"/update", form.but("secret_env", secrets)); a.status != http.StatusSeeOther {
			t.Fatalf("%d\n%s", a.status, a.body)
		}
		b.ended(id, fleet.OperationSucceeded, 1)
		_, row, _ := strings.Cut(operator.get("/workloads/"+id).body, "<tr data-release=")
		_, row, _ = strings.Cut(row, `<span class="note">`)
		if got, _, _ := strings.Cut(row, "</span>"); got != want {
			t.Errorf("with %q: %q, want %q", secrets, got, want)
		}
	}
	says("TOKEN=another", "the same settings; values of secrets are not compared")
	says("-TOKEN", "changed: secret environment")
	says("", "the same settings")
}

// TestASecretIsRemovedOrMadePlain as the form says.
func TestASecretIsRemovedOrMadePlain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	id, _ := b.deployed(operator, "one", "web")
	b.ended(id, fleet.OperationSucceeded, 1)
	if page := operator.get("/workloads/" + id + "/edit").body; !strings.Contains(page, "Now set: TOKEN.") || !strings.Contains(page, "-KEY removes it") {
		t.Error("the form does not say how a secret is removed")
	}
	release := 1
	save := func(env, secrets string) fleet.Spec {
		t.Helper()
		if a := operator.post("/workloads/"+id+"/update", fields{"image": "demo:1", "env": env, "secret_env": secrets}); a.status != http.StatusSeeOther {
			t.Fatalf("%d\n%s", a.status, a.body)
		}
		release++
		b.ended(id, fleet.OperationSucceeded, release)
		r, err := b.db.Release(t.Context(), id, release)
		if err != nil {
			t.Fatal(err)
		}
		return r.Spec
	}
	if s := save("", "OTHER=s3cret"); len(s.SecretEnv) != 2 {
		t.Errorf("secrets %v", s.SecretEnv)
	}
	if s := save("TOKEN=plain", ""); len(s.SecretEnv) != 1 || s.SecretEnv[0] != "OTHER" || len(s.Env) != 1 {
		t.Errorf("made plain: secrets %v, env %v", s.SecretEnv, s.Env)
	}
	for _, typed := range []string{"-OTHR", "-----END PRIVATE KEY-----"} { // to go on as if nothing were wrong would keep it, or cut a value short
		a := operator.post("/workloads/"+id+"/update", fields{"image": "demo:1", "env": "TOKEN=plain", "secret_env": typed})
		refused(t, a, "secret_env", "line 1 has no “=”")
	}
	if s := save("TOKEN=plain", "- OTHER"); len(s.SecretEnv) != 0 {
		t.Errorf("removed: secrets %v", s.SecretEnv)
	}
	a := operator.post("/workloads/"+id+"/update", fields{"image": "demo:1", "env": "TOKEN=plain", "secret_env": "TOKEN=s3cret"})
	refused(t, a, "secret_env", "TOKEN", "stands in both")
}

// TestTheEditFormSaysHowPodsAreReplaced, and promises nothing that its saving
// would not keep.
func TestTheEditFormSaysHowPodsAreReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	const serve = "The old pods serve until the new ones are ready"
	for name, test := range map[string]struct {
		form     fields
		promises bool
		says     string
	}{
		"plain":    {nil, true, serve + ", unless you add a volume: then they end first."},
		"volume":   {fields{"volumes": "data=/data 1Gi"}, false, "the old pods end before the new ones start"},
		"stateful": {fields{"workload_kind": "statefulset"}, false, "each ends before the one in its place starts"},
		"both":     {fields{"workload_kind": "statefulset", "volumes": "data=/data 1Gi"}, false, "each ends before the one in its place starts"},
	} {
		form := fields{"target": "k8s:one", "runtime": "container", "name": name, "image": "demo:1"}
		for field, value := range test.form {
			form[field] = value
		}
		a := operator.post("/deploy", form)
		op, err := b.db.Operation(t.Context(), strings.TrimPrefix(a.location(), "/operations/"))
		if err != nil {
			t.Fatal(err)
		}
		page := operator.get("/workloads/" + op.WorkloadID + "/edit").body
		if !strings.Contains(page, test.says) || strings.Contains(page, serve) != test.promises {
			t.Errorf("%s: not as it is", name)
		}
		b.exec(`UPDATE workloads SET stopped = true WHERE id = $1`, op.WorkloadID)
		page = operator.get("/workloads/" + op.WorkloadID + "/edit").body
		if !strings.Contains(page, "The workload is stopped and stays so") || strings.Contains(page, test.says) || strings.Contains(page, "roll out") {
			t.Errorf("%s: not as it is while it is stopped", name)
		}
	}
}

// TestAWorkloadsPageShowsTheNewestEvents of its last operation, however long the
// record, and claims none of the cluster's others.
func TestAWorkloadsPageShowsTheNewestEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	id, op := b.deployed(operator, "one", "web")
	page := operator.get("/workloads/" + id).body
	if !strings.Contains(page, "Events of the last operation") || !strings.Contains(page, "It recorded none.") {
		t.Error("it says more than it knows")
	}
	b.exec(`
		INSERT INTO operation_events (operation_id, seq, at, type, step, state, reason, object, message)
		SELECT o.id, o.last_seq + n, now(), 'normal', '', '', 'Pulled', 'Pod/web-a', 'message ' || n || '.' FROM operations o, generate_series(1, 1500) n WHERE o.id = $1`, op)
	b.exec(`UPDATE operations SET last_seq = last_seq + 1500 WHERE id = $1`, op)
	page = operator.get("/workloads/" + id).body
	if !strings.Contains(page, "message 1500.") || !strings.Contains(page, "message 1481.") || strings.Contains(page, "message 1480.") {
		t.Error("it does not show the newest twenty")
	}
}

var tag = regexp.MustCompile(`(?s)<[^>]*>`)

// TestADeletionAsksForVolumesThatNoReleaseUsesNow: an edit that drops a volume
// leaves it in the cluster, and a deletion takes it away unless it is kept.
func TestADeletionAsksForVolumesThatNoReleaseUsesNow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	id, _ := b.deployed(operator, "one", "web")
	b.ended(id, fleet.OperationSucceeded, 1)
	asks := func(volume bool) {
		t.Helper()
		for _, path := range []string{"/workloads/" + id, "/workloads/" + id + "/delete"} {
			page := operator.get(path).body
			if strings.Contains(page, `name="keep_volumes"`) != volume || strings.Contains(page, "<code>web-data</code>") != volume {
				t.Errorf("%s asks for the volume: %t", path, !volume)
			}
		}
	}
	asks(false)
	older := fields{"confirm": "web", "volumes": deletion(operator.get("/workloads/" + id).body)}
	for _, volumes := range []string{"data=/data 1Gi", "none"} {
		if a := operator.post("/workloads/"+id+"/update", shown(operator.get("/workloads/"+id+"/edit").body).but("volumes", volumes)); a.status != http.StatusSeeOther {
			t.Fatalf("%d\n%s", a.status, a.body)
		}
		b.ended(id, fleet.OperationSucceeded, 1)
		asks(true)
	}

	// The dialog of a page that was opened before there was one does not ask.
	a := operator.post("/workloads/"+id+"/delete", older)
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "web-data was not among the volumes that you were asked about") {
		t.Errorf("it is not asked about: %d\n%s", a.status, a.body)
	}
	asks(true)
	if a := operator.post("/workloads/"+id+"/delete", fields{"confirm": "web", "volumes": deletion(a.body)}); a.status != http.StatusSeeOther {
		t.Errorf("asked again: %d\n%s", a.status, a.body)
	}
}

// deletion are the volumes that the form of a page for a deletion names.
func deletion(page string) string {
	m := regexp.MustCompile(`<input type="hidden" name="volumes" value="([^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		return "no form"
	}
	return m[1]
}
