package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/cloudtest"
	"portolan/internal/clustertest"
)

const (
	accessKeyID  = "AKIAIOSFODNN7PORTOLAN"
	otherKeyID   = "AKIAIOSFODNN7ROTATED"
	ambientKeyID = "AKIAIOSFODNN7AMBIENT"
	secretKey    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYportolanKEY"
	otherSecret  = "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"
)

// keptFrom fails the test where a secret is in anything that Portolan says.
func (pl *place) keptFrom(t *testing.T, secrets ...string) {
	t.Helper()
	says := map[string]string{
		"page": pl.read(t, pl.path("")).body, "form": pl.read(t, pl.path("/edit")).body, "log": pl.web.log.String(),
	}
	for _, secret := range secrets {
		for where, text := range says {
			if strings.Contains(text, secret) {
				t.Errorf("the %s of %s shows a secret", where, pl.id)
			}
		}
	}
}

func TestEKSFromASealedAccessKey(t *testing.T) {
	t.Parallel()
	on := profile{"eks", "kwok"}
	on.kubeconfig(t)
	eks := &cloudtest.AWS{Cluster: clustertest.Name(on.name, on.nodes), Keys: map[string]string{accessKeyID: secretKey, otherKeyID: otherSecret}}
	clustertest.Authenticate(t, on.name, on.nodes, cloudtest.Authenticator(t, eks.Check))

	stanza := clustertest.ExecKubeconfig(t, on.name, on.nodes)
	if !strings.Contains(string(stanza), "get-token") {
		t.Fatalf("no exec stanza in\n%s", stanza)
	}
	pl := shared(t).stake(t, on, stanza, fields{
		"credential_mode": "encrypted", "kubeconfig": string(stanza), "kubeconfig_path": "",
		"cloud_credential": "sealed", "aws_access_key_id": accessKeyID, "aws_secret_access_key": "another/secret/than/that/of/the/key",
	})
	// What a wrong secret signs is found out by the API server.
	pl.test(t, "failed")
	if stage, says := pl.failedStage(t); stage != "authenticate" || !strings.Contains(says, "access entry") {
		t.Errorf("with a wrong secret it fails at %s: %s", stage, says)
	}

	// A new key id needs its secret; the secret alone is replaced.
	expect(t, pl.tryEdit(t, fields{"aws_access_key_id": "AKIAIOSFODNN7SOMEBODY"}), http.StatusUnprocessableEntity)
	pl.edit(t, fields{"aws_secret_access_key": secretKey})
	if got := pl.testState(t); got != "untested" {
		t.Errorf("after the secret was replaced: %s, want untested", got)
	}
	pl.test(t, "ok")
	pl.edit(t, fields{"label": "Renamed, with the secret left blank"})
	if got := pl.testState(t); got != "ok" {
		t.Errorf("after an edit that leaves the secret blank: %s, want ok", got)
	}
	if form := pl.editForm(t); form["aws_access_key_id"] != accessKeyID || form["aws_secret_access_key"] != "" {
		t.Errorf("the form shows %q and %q", form["aws_access_key_id"], form["aws_secret_access_key"])
	}
	// A kubeconfig that leads to the same server keeps the secret; one that leads
	// elsewhere needs it again.
	elsewhere := clustertest.Edit(t, stanza, func(c *api.Config) {
		for _, cluster := range c.Clusters {
			cluster.Server = "https://127.0.0.1:1"
		}
	})
	if answer := expect(t, pl.tryEdit(t, fields{"kubeconfig": string(elsewhere)}), http.StatusUnprocessableEntity); !answer.says("enter it again") {
		t.Errorf("a kubeconfig that leads elsewhere is refused for another reason: %s", clipped(answer.text()))
	}
	pl.edit(t, fields{"kubeconfig": "# fetched anew\n" + string(stanza)})
	pl.test(t, "ok")
	w := pl.deploy(t, nil)

	// Rotated to another key of the same account, which is tested first.
	other := fields{
		"credential_mode": "encrypted", "kubeconfig": string(stanza),
		"cloud_credential": "sealed", "aws_access_key_id": otherKeyID, "aws_secret_access_key": "wrong/" + otherSecret,
	}
	expect(t, pl.post(t, pl.path("/credential"), other), http.StatusUnprocessableEntity)
	expect(t, pl.post(t, pl.path("/credential"), other.but(fields{"aws_secret_access_key": otherSecret})), http.StatusSeeOther)
	if state, form := pl.testState(t), pl.editForm(t); state != "ok" || form["aws_access_key_id"] != otherKeyID {
		t.Errorf("after the rotation: %s with the key %s, want ok with %s", state, form["aws_access_key_id"], otherKeyID)
	}
	pl.operationAt(t, expect(t, pl.post(t, w.path("/restart"), nil), http.StatusSeeOther).location()).ends(t, "succeeded")
	pl.keptFrom(t, secretKey, otherSecret, "another/secret/than/that/of/the/key", "k8s-aws-v1.")
}

func TestASealedAccessKeyDoesNotFollowAMountedFile(t *testing.T) {
	t.Parallel()
	on := profile{"eks", "kwok"}
	on.kubeconfig(t)
	const keyID = "AKIAIOSFODNN7MOUNTED"
	eks := &cloudtest.AWS{Cluster: clustertest.Name(on.name, on.nodes), Keys: map[string]string{keyID: secretKey}}
	clustertest.Authenticate(t, on.name, on.nodes, cloudtest.Authenticator(t, eks.Check))
	stanza := clustertest.ExecKubeconfig(t, on.name, on.nodes)
	pl := shared(t).stake(t, on, stanza, fields{"cloud_credential": "sealed", "aws_access_key_id": keyID, "aws_secret_access_key": secretKey})
	pl.test(t, "ok")

	pl.mount(t, pl.id, clustertest.Edit(t, stanza, func(c *api.Config) {
		for _, cluster := range c.Clusters {
			cluster.Server = "https://127.0.0.1:1"
		}
	}))
	becomes := func(want string) {
		eventually(t, patience, "the changed file is tested: "+want, func() (bool, string) {
			state := pl.testState(t)
			return state == want, state
		})
	}
	becomes("failed")
	if stage, says := pl.failedStage(t); stage != "credential" || !strings.Contains(says, "enter the cloud credential again") {
		t.Errorf("with a file that leads elsewhere it fails at %s: %s", stage, says)
	}
	pl.mount(t, pl.id, append([]byte("# renewed\n"), stanza...))
	becomes("ok")
}

func TestCloudCredentialsOfTheMachine(t *testing.T) {
	t.Parallel()
	entra, google := cloudtest.NewEntra(t, time.Hour), cloudtest.NewGoogle(t, time.Hour)
	machine := cloudtest.NewIdentities(t, entra, time.Hour)
	aws := &cloudtest.AWS{Cluster: clustertest.Name("eks", "kwok"), Keys: map[string]string{ambientKeyID: secretKey}}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// What the cloud's libraries look for, and trust in the stand-ins.
	p := separate(t, map[string]string{
		"AWS_ACCESS_KEY_ID": ambientKeyID, "AWS_SECRET_ACCESS_KEY": secretKey,
		"GOOGLE_APPLICATION_CREDENTIALS": write("key.json", google.LocalKeyJSON(t)),
		"AZURE_TENANT_ID":                entra.Tenant, "AZURE_CLIENT_ID": entra.Client, "AZURE_CLIENT_SECRET": entra.Secret,
		"AZURE_FEDERATED_TOKEN_FILE": write("federated", entra.Federated(t)), "AZURE_AUTHORITY_HOST": entra.URL,
		"IDENTITY_ENDPOINT": machine.Endpoint, "IDENTITY_HEADER": machine.Header,
		"SSL_CERT_FILE": write("authorities", string(entra.Authority)),
	})
	login := func(args ...string) func(*api.Config) {
		return func(c *api.Config) {
			for _, user := range c.AuthInfos {
				user.Exec.Args = append([]string{"get-token"}, args...)
			}
		}
	}
	for _, on := range []struct {
		name, profile string
		check         cloudtest.Check
		change        func(*api.Config)
		user          string
	}{
		{"EKS", "eks", aws.Check, nil, "arn:aws:iam::123456789012:user/" + ambientKeyID},
		{"GKE", "gke", google.Check, nil, google.Email},
		{"AKS by client secret", "aks", entra.Check, login("--login", "spn", "--server-id", cloudtest.AKSServer), entra.Client},
		{"AKS by workload identity", "aks", entra.Check, login("-l", "workloadidentity", "--server-id="+cloudtest.AKSServer), entra.Client},
		{"AKS by managed identity", "aks", entra.Check, login("-l", "msi", "--server-id", cloudtest.AKSServer), machine.System},
		{"AKS by an assigned managed identity", "aks", entra.Check, login("-l", "msi", "--identity-resource-id", machine.Resource), machine.Assigned},
	} {
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			at := profile{on.profile, "kwok"}
			at.kubeconfig(t)
			clustertest.Authenticate(t, at.name, at.nodes, cloudtest.Authenticator(t, on.check))
			stanza := clustertest.ExecKubeconfig(t, at.name, at.nodes)
			if on.change != nil {
				stanza = clustertest.Edit(t, stanza, on.change)
			}
			pl := p.stake(t, at, stanza, nil)
			pl.test(t, "ok")
			if page := pl.read(t, pl.path("")); !page.says("As " + on.user) {
				t.Errorf("not as %s: %s", on.user, clipped(page.text()))
			}
			// Nobody knows an address of GKE's by its looks.
			if page := pl.read(t, pl.path("")); page.says("which is none of the addresses of") != (on.profile != "gke") {
				t.Errorf("where the token goes: %s", clipped(page.text()))
			}
			pl.keptFrom(t, secretKey, entra.Secret, machine.Header)
		})
	}
}

func TestAttack02TheMachinesTokensGoWhereTheyMay(t *testing.T) {
	t.Parallel()
	const id, sealed = "AKIAIOSFODNN7MACHINE", "AKIAIOSFODNN7SEALED"
	on := profile{"eks", "kwok"}
	on.kubeconfig(t)
	eks := &cloudtest.AWS{Cluster: clustertest.Name(on.name, on.nodes), Keys: map[string]string{id: secretKey, sealed: otherSecret}}
	clustertest.Authenticate(t, on.name, on.nodes, cloudtest.Authenticator(t, eks.Check))
	p := separate(t, map[string]string{
		"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secretKey, "PORTOLAN_CLOUD_SERVERS": "*.eks.amazonaws.com, 10.0.0.0/8",
	})
	pl := p.stake(t, on, clustertest.ExecKubeconfig(t, on.name, on.nodes), nil)
	pl.test(t, "failed")
	if stage, says := pl.failedStage(t); stage != "credential" || !strings.Contains(says, "PORTOLAN_CLOUD_SERVERS") {
		t.Errorf("it fails at %s: %s", stage, says)
	}
	// What is sealed with the cluster is the cluster's own.
	pl.edit(t, fields{"cloud_credential": "sealed", "aws_access_key_id": sealed, "aws_secret_access_key": otherSecret})
	pl.test(t, "ok")
}

func TestTheWayOutOfARefusedStanza(t *testing.T) {
	t.Parallel()
	at := profile{"aks", "kwok"}
	admin := at.kubeconfig(t)
	stanza := clustertest.ExecKubeconfig(t, at.name, at.nodes) // as az writes it: devicecode
	p := shared(t)
	pl := &place{portolan: p, on: at, id: clustertest.UniqueName("person"), kubectl: clustertest.Client(t, admin), namespace: clustertest.UniqueName("test")}
	form := fields{
		"id": pl.id, "label": "By a person", "provider": "aks", "credential_mode": "encrypted", "kubeconfig": string(stanza),
		"namespace": pl.namespace, "exposure_mode": "cluster-ip", "enabled": "true",
	}
	answer := expect(t, p.post(t, "/admin/clusters", form), http.StatusUnprocessableEntity)
	for _, word := range []string{"devicecode", "needs a person", "service account"} {
		if !answer.says(word) {
			t.Errorf("the refusal does not mention %s: %s", word, clipped(answer.text()))
		}
	}

	// An application that is about to be sealed logs in instead of a person.
	applied := form.but(fields{"cloud_credential": "sealed", "azure_tenant_id": "harbour.onmicrosoft.com", "azure_client_id": "pilot"})
	if answer := expect(t, p.post(t, "/admin/clusters/inspect", applied), http.StatusOK); answer.says("needs a person") {
		t.Errorf("with an application filled in, the stanza is still refused: %s", clipped(answer.text()))
	}

	// The page prints what makes a service account, to be done as it stands.
	marked := answer.with("data-manifest")
	if len(marked) != 1 {
		t.Fatalf("%d manifests on the page", len(marked))
	}
	manifest := verbatim(marked[0])
	manifest = manifest[strings.Index(manifest, "# What"):]
	ways := commands(manifest)
	if len(ways) != 2 || len(ways[0]) < 3 || !strings.HasPrefix(ways[0][1], "TOKEN=") {
		t.Fatalf("not two ways in\n%s", manifest)
	}
	clustertest.DeleteNamespace(t, pl.kubectl, pl.namespace)
	made := byCommands(t, admin, manifest, ways[0])
	mayBecome(t, made, true, pl.namespace, "create", "apps", "deployments")
	expect(t, p.post(t, "/admin/clusters", form.but(fields{"kubeconfig": string(made)})), http.StatusSeeOther)
	pl.test(t, "ok")
	if _, user := theOnly(t, made); expiry(t, user.Token).Unix() == 0 {
		t.Error("the token that was asked for has no end")
	}

	// Rotating prints the same; and for clusters that cut tokens short, the way
	// to one that has no end.
	marked = pl.read(t, pl.path("/credential")).with("data-manifest")
	if len(marked) != 1 {
		t.Fatalf("%d manifests on the page", len(marked))
	}
	again := commands(verbatim(marked[0]))
	if !slices.EqualFunc(ways, again, slices.Equal) {
		t.Errorf("other commands for rotating: %v", again)
	}
	endless := byCommands(t, admin, manifest, slices.Concat(ways[0][:1], ways[1], ways[0][2:]))
	pl.rotate(t, endless)
	pl.test(t, "ok")
	if _, user := theOnly(t, endless); expiry(t, user.Token).Unix() != 0 || !pl.read(t, pl.path("")).says("service account token") {
		t.Errorf("the token that is kept in a Secret ends %s", expiry(t, user.Token))
	}
}

// commands are those of a manifest's comments, by the block in which they stand.
func commands(manifest string) [][]string {
	var out [][]string
	before := false
	for line := range strings.Lines(manifest) {
		command, ok := strings.CutPrefix(line, "#   ")
		if ok && !before {
			out = append(out, nil)
		}
		if before = ok; ok {
			out[len(out)-1] = append(out[len(out)-1], strings.TrimSpace(command))
		}
	}
	return out
}

// byCommands has a shell run commands beside the manifest, as an administrator
// of the cluster, and returns the kubeconfig that they make.
func byCommands(t *testing.T, admin []byte, manifest string, list []string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"rbac.yaml": manifest, "admin": string(admin)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	devcluster, err := filepath.Abs(filepath.Join(moduleRoot, "bin", "devcluster"))
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-e", "-c", "kubectl() { \"$DEVCLUSTER\" kubectl \"$@\"; }\n"+strings.Join(list, "\n"))
	shell.Dir, shell.Env = dir, append(os.Environ(), "KUBECONFIG="+filepath.Join(dir, "admin"), "DEVCLUSTER="+devcluster)
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, err := os.ReadFile(filepath.Join(dir, "portolan.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// verbatim is the text of an element with its lines as they are.
func verbatim(n *html.Node) string {
	var text strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			text.WriteString(d.Data)
		}
	}
	return text.String()
}
