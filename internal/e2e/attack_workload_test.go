package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
)

// TestAttack04SecretsStaySecret: a secret value is in its Secret, in the pods and
// nowhere else: no page, difference, preview, annotation, record, log or row.
func TestAttack04SecretsStaySecret(t *testing.T) {
	t.Parallel()
	p := separate(t, nil)
	p.worker(t)
	raw := real.kubeconfig(t)
	kubectl := clustertest.Client(t, raw)
	pl := &place{portolan: p, on: real, id: clustertest.UniqueName("secretive"), kubectl: kubectl, namespace: clustertest.Namespace(t, kubectl)}
	const first, second = "first-s3cret-value", "second-s3cret-value"
	secrets := []string{first, second, base64.StdEncoding.EncodeToString([]byte(first))[:20], "client-key-data", adminPassword}
	var pages []*page
	look := func(answers ...*page) { pages = append(pages, answers...) }

	form := fields{
		"id": pl.id, "label": pl.id, "provider": "k3s", "credential_mode": "encrypted", "kubeconfig": string(raw),
		"namespace": pl.namespace, "exposure_mode": "cluster-ip", "enabled": "true",
	}
	look(p.post(t, "/admin/clusters", form.but(fields{"label": ""})), p.post(t, "/admin/clusters/inspect", form))
	expect(t, p.post(t, "/admin/clusters", form), http.StatusSeeOther)
	pl.test(t, "ok")
	draft := pl.draft(clustertest.UniqueName("keeps"), fields{"secret_env": "TOKEN=" + first, "env": "PLAIN=shown"})
	look(
		expect(t, p.post(t, "/deploy/preview", draft), http.StatusOK),
		expect(t, p.post(t, "/deploy", draft.but(fields{"replicas": "many"})), http.StatusUnprocessableEntity),
	)
	look(pl.begin(t, draft).ends(t, "succeeded"))
	w := pl.workload(t, draft["name"])
	look(w.updates(t, fields{"secret_env": "TOKEN=" + second}).ends(t, "succeeded"))
	look(expect(t, w.post(t, w.path("/update"), fields{"secret_env": "TOKEN=" + first, "image": "not an image"}), http.StatusUnprocessableEntity))
	for _, path := range []string{
		"/", "/admin/clusters", pl.path(""), pl.path("/edit"), pl.path("/rbac.yaml"), pl.path("/credential"), "/workloads", w.path(""), w.path("/edit"),
		"/operations", "/admin/audit", "/admin/audit?format=csv", "/admin/audit?format=jsonl", "/deploy",
	} {
		look(p.get(t, path))
	}
	for _, page := range pages {
		for _, secret := range secrets {
			if strings.Contains(page.body, secret) {
				t.Errorf("%s shows %q", page.request, secret)
			}
		}
	}
	for _, secret := range secrets {
		if strings.Contains(p.web.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}

	// What others in the cluster may read.
	objects, err := json.Marshal(w.deployment(t))
	if err != nil {
		t.Fatal(err)
	}
	maps, err := kubectl.CoreV1().ConfigMaps(pl.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := kubectl.CoreV1().Events(pl.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	others, err := json.Marshal([]any{maps, events, w.service(t)})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := kubectl.CoreV1().Secrets(pl.namespace).Get(t.Context(), w.name+"-env", metav1.GetOptions{})
	if err != nil || len(kept.Data["TOKEN"]) == 0 {
		t.Fatalf("the Secret: %v", err)
	}
	annotations, err := json.Marshal(kept.ObjectMeta)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{first, second} {
		for name, text := range map[string]string{"Deployment": string(objects), "namespace": string(others), "metadata of the Secret": string(annotations)} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s holds %q", name, secret)
			}
		}
	}

	// A dump of the database.
	conn, err := pgx.Connect(t.Context(), p.env["PORTOLAN_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	for _, table := range tables {
		for _, secret := range secrets {
			var n int
			sql := `SELECT count(*) FROM ` + pgx.Identifier{table}.Sanitize() + ` r WHERE position($1 in r::text) > 0
				OR position(encode(convert_to($1, 'UTF8'), 'hex') in r::text) > 0`
			if err := conn.QueryRow(t.Context(), sql, secret).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				t.Errorf("%d rows of %s hold %q", n, table, secret)
			}
		}
	}
}

// TestAttack16NamesReachNothingOfOthers: no name or namespace leads to another
// workload's objects, not even where two names and their suffixes meet.
func TestAttack16NamesReachNothingOfOthers(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	for _, name := range []string{
		"", "..", "../other", "a/b", "a.b", "A", "-a", "a-", "a b", "a\x00b", "a%2fb", strings.Repeat("a", 51), "kube-system/coredns", "a?x=y", "a#b", "ａ",
	} {
		answer := pl.post(t, "/deploy", pl.draft(name, nil))
		if answer.status != http.StatusUnprocessableEntity || answer.problem("name") == "" {
			t.Errorf("name %q: %d", name, answer.status)
		}
	}
	for _, form := range []fields{{"namespace": "kube-system"}, {"target": pl.target() + "/kube-system"}, {"target": "k8s:../" + pl.id}} {
		answer := pl.post(t, "/deploy", pl.draft(clustertest.UniqueName("out"), form))
		if answer.status == http.StatusSeeOther {
			op := pl.operationAt(t, answer.location())
			op.ends(t, "succeeded")
		} else if form["namespace"] != "" {
			t.Errorf("%v: %d", form, answer.status)
		}
	}
	list, err := pl.kubectl.AppsV1().Deployments("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=portolan"})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("%d Deployments in kube-system, %v", len(list.Items), err)
	}

	// A StatefulSet's headless Service and a Service of that name; the volume
	// b-c of a and the volume c of a-b.
	a := clustertest.UniqueName("a")
	set := pl.deploy(t, fields{"name": a, "workload_kind": "statefulset", "volumes": "b-c=/data 64Mi"})
	before, err := json.Marshal(pl.owned(t, a))
	if err != nil {
		t.Fatal(err)
	}
	pl.conflicts(t, a+"-headless", "Service/"+a+"-headless")
	second := pl.begin(t, pl.draft(a+"-b", fields{"volumes": "c=/data 64Mi"})).ends(t, "failed")
	if !second.says("conflict", "PersistentVolumeClaim/"+a+"-b-c") {
		t.Errorf("another's volume: %s", clipped(second.text()))
	}
	for _, name := range []string{a + "-headless", a + "-b"} {
		w := pl.workload(t, name)
		w.did(t, "delete", fields{"confirm": name})
	}
	after, err := json.Marshal(pl.owned(t, a))
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Errorf("the first one's objects were touched:\n%s\n%s", before, after)
	}
	set.becomes(t, "running")
}

// owned are the UIDs and versions of what a workload keeps, by name.
func (pl *place) owned(t *testing.T, name string) map[string]string {
	t.Helper()
	out := map[string]string{}
	services, err := pl.kubectl.CoreV1().Services(pl.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + name})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range services.Items {
		out["Service/"+o.Name] = string(o.UID) + " " + o.ResourceVersion
	}
	claims, err := pl.kubectl.CoreV1().PersistentVolumeClaims(pl.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + name})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range claims.Items {
		out["PersistentVolumeClaim/"+o.Name] = string(o.UID)
	}
	if len(services.Items) != 2 || len(claims.Items) != 1 {
		t.Fatalf("%s has %v", name, out)
	}
	return out
}
