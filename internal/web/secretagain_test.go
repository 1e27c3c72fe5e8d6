package web

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"portolan/internal/fleet"
)

// asksAgain checks that a page came back without a secret that was sent, and
// says so at its field: how a blank one would be taken, too.
func asksAgain(t *testing.T, what string, a answer, status int, field string, kept bool) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: %d, want %d", what, a.status, status)
	}
	m := regexp.MustCompile(`id="e-` + field + `">([^<]*)<`).FindStringSubmatch(a.body)
	if m == nil {
		t.Errorf("%s: nothing is said at %s", what, field)
		return
	}
	if !strings.Contains(m[1], "enter it once more") || strings.Contains(m[1], "leave this blank") != kept {
		t.Errorf("%s: at %s: %s", what, field, m[1])
	}
	if failed := strings.Contains(a.body, "another look.</p>"); failed == strings.Contains(a.body, "Nothing is wrong, but ") || failed && status == http.StatusOK {
		t.Errorf("%s: the summary does not count it, or takes it for a mistake: %t", what, failed)
	}
	if strings.Contains(a.body, "sEcReT") {
		t.Errorf("%s: the secret came back", what)
	}
}

// A secret that was sent with a form is not in the page that comes back. Left
// so, the next try would keep the old one and say that all is saved.
func TestASecretThatWasSentIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.user(fleet.RoleAdmin)
	version := func(id string) string {
		s, err := b.db.ClusterStatus(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s.Cluster.Version)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	google, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "robot@example.com", "private_key_id": "sEcReT",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		stored fields // beside what every cluster has
		secret string // the field that is filled in anew
		value  string
	}{
		"kubeconfig": {nil, "kubeconfig", "sEcReT kubeconfig"},
		"aws":        {fields{"cloud_credential": "sealed", "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "old"}, "aws_secret_access_key", "sEcReT"},
		"azure":      {fields{"cloud_credential": "sealed", "azure_tenant_id": "tenant", "azure_client_id": "app", "azure_client_secret": "old"}, "azure_client_secret", "sEcReT"},
		"google":     {fields{"cloud_credential": "sealed", "gcp_service_account": strings.ReplaceAll(string(google), "robot", "old")}, "gcp_service_account", string(google)},
	} {
		form := clusterFields(name)
		for field, value := range test.stored {
			form[field] = value
		}
		asksAgain(t, "a new "+name, admin.post("/admin/clusters", form.but(test.secret, test.value).but("region", "a\x00b")), http.StatusUnprocessableEntity, test.secret, false)
		if a := admin.post("/admin/clusters", form); a.status != http.StatusSeeOther {
			t.Fatalf("%s: %d\n%s", name, a.status, a.body)
		}

		path := "/admin/clusters/" + name
		stale := form.but("version", version(name)).but("kubeconfig", "")
		for _, secret := range fleet.CloudSecretFields {
			stale[secret] = ""
		}
		typed := stale.but(test.secret, test.value)
		asksAgain(t, name+" with a typo elsewhere", admin.post(path, typed.but("region", "a\x00b")), http.StatusUnprocessableEntity, test.secret, true)
		asksAgain(t, name+" inspected without scripts", admin.post("/admin/clusters/inspect?page="+path+"/edit", typed.but("kubeconfig", "sEcReT")), http.StatusOK, "kubeconfig", true)
		if a := admin.post(path, stale.but("region", "a\x00b")); strings.Contains(a.body, `id="e-`+test.secret+`"`) {
			t.Errorf("%s was not sent, and is asked for", name)
		}

		if a := admin.post(path, stale.but("region", "theirs")); a.status != http.StatusSeeOther {
			t.Fatalf("%s, another admin: %d\n%s", name, a.status, a.body)
		}
		const plain = "Your input is still below; saving again replaces theirs."
		a := admin.post(path, typed)
		asksAgain(t, name+" saved by another admin meanwhile", a, http.StatusConflict, test.secret, true)
		if strings.Contains(a.body, plain) || !strings.Contains(a.body, "except secrets: enter those again") || !strings.Contains(a.body, "the one you entered, if you enter it again") {
			t.Errorf("%s: the page says that everything is still there\n%s", name, a.body)
		}
		if a := admin.post(path, stale); a.status != http.StatusConflict || !strings.Contains(a.body, plain) || strings.Contains(a.body, `id="e-`+test.secret+`"`) {
			t.Errorf("%s without a secret: %d\n%s", name, a.status, a.body)
		}

		if a := admin.post(path, typed.but("version", version(name))); a.status != http.StatusSeeOther {
			t.Errorf("%s entered again: %d\n%s", name, a.status, a.body)
		}
	}

	// What belongs to a choice that was not taken cannot be lost.
	a := admin.post("/admin/clusters/kubeconfig", clusterFields("kubeconfig").but("version", "x").but("credential_mode", "mounted").
		but("kubeconfig_path", "k3s-local").but("cloud_credential", "ambient").but("azure_client_secret", "sEcReT"))
	if a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, "enter it once more") {
		t.Errorf("fields aside: %d\n%s", a.status, a.body)
	}
	// Nor does a refusal of the secret itself hide it.
	asksAgain(t, "a broken one", admin.post("/admin/clusters/kubeconfig", clusterFields("kubeconfig").but("version", version("kubeconfig")).but("kubeconfig", "broken")),
		http.StatusUnprocessableEntity, "kubeconfig", true)
	asksAgain(t, "rotating", admin.post("/admin/clusters/kubeconfig/credential", fields{"credential_mode": "encrypted", "kubeconfig": "sEcReT", "context": "absent"}),
		http.StatusUnprocessableEntity, "kubeconfig", false)
}

func TestASecretEnvironmentThatWasSentIsAskedForAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin, operator := b.user(fleet.RoleAdmin), b.user(fleet.RoleOperator)
	b.target(admin, "one")
	draft := fields{"target": "k8s:one", "runtime": "container", "name": "Upper", "image": "demo:1", "secret_env": "TOKEN=sEcReT"}
	asksAgain(t, "deploy", operator.post("/deploy", draft), http.StatusUnprocessableEntity, "secret_env", false)
	asksAgain(t, "preview", operator.post("/deploy/preview", draft), http.StatusUnprocessableEntity, "secret_env", false)
	if a := operator.post("/deploy", draft.but("secret_env", "")); strings.Contains(a.body, `id="e-secret_env"`) {
		t.Error("none was sent, and it is asked for")
	}

	workload, _ := b.deployed(operator, "one", "web")
	update := func(form fields) answer { return operator.post("/workloads/"+workload+"/update", form) }
	asksAgain(t, "update while it is busy", update(fields{"image": "demo:2", "secret_env": "OTHER=sEcReT"}), http.StatusConflict, "secret_env", true)
	b.exec(`UPDATE operations SET state = 'succeeded', finished_at = now()`)
	asksAgain(t, "update", update(fields{"image": "a b", "secret_env": "OTHER=sEcReT"}), http.StatusUnprocessableEntity, "secret_env", true)
	// Of several secrets one was wrong, and all are gone.
	asksAgain(t, "one without a value", update(fields{"image": "demo:2", "secret_env": "OTHER=sEcReT\nNEW="}), http.StatusUnprocessableEntity, "secret_env", true)
	if a := operator.get("/workloads/" + workload + "/edit"); strings.Contains(a.body, "once more") {
		t.Error("a form that was not sent asks for it")
	}
}
