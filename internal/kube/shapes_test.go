package kube_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

// shapes are kubeconfigs as the tools of each provider write them, by name.
func shapes(t testing.TB, ca *authority, cert, key []byte) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/kubeconfigs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".yaml")] = strings.NewReplacer(
			"{{CA}}", b64(ca.pem), "{{CERT}}", b64(cert), "{{KEY}}", b64(key)).Replace(string(raw))
	}
	return out
}

func TestKubeconfigsAsTheProvidersWriteThem(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	cert, key := ca.issue(t, "pilot", time.Now().Add(time.Hour))
	kinds := map[string]string{
		"eks-aws-cli": "EKS token", "eks-eksctl": "EKS token", "gke": "GKE token",
		"aks-spn": "AKS token", "aks-workloadidentity": "AKS token", "aks-msi": "AKS token",
		"eks-authenticator": "EKS token", "gke-dns": "GKE token", "rancher": "token",
		"aks-local": "client certificate", "k3s": "client certificate", "kind": "client certificate", "kubeadm": "client certificate",
		"service-account": "service account token", "oidc": "OIDC token",
	}
	refusals := map[string]string{
		"aks-devicecode": "devicecode", "gke-old": "gcloud container clusters get-credentials", "oidc-old": "Put its id-token into the user as token", "aks-old": "kubelogin convert-kubeconfig", "oidc-login": "program “kubectl”", "doks": "program “doctl”",
		"minikube": "refers to a file", "in-cluster": "does not run in one", "openshift": "insecure-skip-tls-verify", "proxied": "proxy-url",
	}
	if _, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"); err == nil {
		kinds["in-cluster"] = "in-cluster token" // the tests run in a pod
		delete(refusals, "in-cluster")
	}
	for name, raw := range shapes(t, ca, cert, key) {
		want, refusal := kinds[name], refusals[name]
		if want == "" && refusal == "" {
			t.Errorf("%s is not listed here", name)
		}
		k, err := kube.Parse([]byte(raw), kube.ParseOptions{})
		switch {
		case want == "" && err == nil:
			t.Errorf("%s is taken", name)
		case want == "":
			refused(t, raw, kube.ParseOptions{}, "kubeconfig", refusal)
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case k.Facts("").Kind != want:
			t.Errorf("%s has a %s, want %s", name, k.Facts("").Kind, want)
		}
	}

	for _, name := range []string{"openshift", "proxied"} {
		allowed := kube.ParseOptions{Allows: fleet.Allowances{TLSSkip: true, Proxy: true}}
		if _, err := kube.Parse([]byte(shapes(t, ca, cert, key)[name]), allowed); err != nil {
			t.Errorf("%s, allowed: %v", name, err)
		}
	}

	// What needs a person needs none with an application sealed; what is sealed
	// must be the right cloud's.
	all := shapes(t, ca, cert, key)
	sealed := func(cloud fleet.Cloud) kube.ParseOptions {
		return kube.ParseOptions{Cloud: fleet.CloudCredential{Cloud: cloud}}
	}
	if _, err := kube.Parse([]byte(all["aks-devicecode"]), sealed(fleet.CloudAzure)); err != nil {
		t.Errorf("with an application sealed: %v", err)
	}
	refused(t, all["gke"], sealed(fleet.CloudAWS), "kubeconfig", "needs a token of Google Cloud", "is of AWS")
}

func TestStanzasThatCannotBeFulfilled(t *testing.T) {
	t.Parallel()
	// Values may be secrets: only names of options and variables are quoted.
	for name, test := range map[string]struct{ exec, words string }{
		"another endpoint":             {`{command: aws, args: [eks, get-token, --cluster-name, x, --endpoint-url, "https://s3cr3t"]}`, "“--endpoint-url”"},
		"another output":               {`{command: aws, args: [eks, get-token, --cluster-name, x, --output, text]}`, "another output"},
		"no cluster":                   {`{command: aws, args: [eks, get-token]}`, "does not name the EKS cluster"},
		"a region with a host":         {`{command: aws, args: [--region, "evil.example/#", eks, get-token, --cluster-name, x]}`, "region"},
		"a role that is none":          {`{command: aws-iam-authenticator, args: [token, -i, x, -r, s3cr3t]}`, "IAM role"},
		"a credentials file":           {`{command: aws, args: [eks, get-token, --cluster-name, x], env: [{name: AWS_SHARED_CREDENTIALS_FILE, value: s3cr3t}]}`, "“AWS_SHARED_CREDENTIALS_FILE”"},
		"an endpoint by variable":      {`{command: aws, args: [eks, get-token, --cluster-name, x], env: [{name: AWS_ENDPOINT_URL_STS, value: "https://s3cr3t"}]}`, "“AWS_ENDPOINT_URL_STS”"},
		"half a key":                   {`{command: aws, args: [eks, get-token, --cluster-name, x], env: [{name: AWS_SECRET_ACCESS_KEY, value: s3cr3t}]}`, "half an AWS access key"},
		"authenticator server":         {`{command: aws-iam-authenticator, args: [server]}`, "something else"},
		"a credentials file of Google": {`{command: gke-gcloud-auth-plugin, env: [{name: GOOGLE_APPLICATION_CREDENTIALS, value: s3cr3t}]}`, "“GOOGLE_APPLICATION_CREDENTIALS”"},
		"an account of gcloud's":       {`{command: gke-gcloud-auth-plugin, args: [--account, s3cr3t]}`, "gcloud's own settings (--account)"},
		"a chain of accounts":          {`{command: gke-gcloud-auth-plugin, args: ["--impersonate_service_account=s3cr3t@p.iam.gserviceaccount.com,b@p.iam.gserviceaccount.com"]}`, "by way of others"},
		"an account with a path":       {`{command: gke-gcloud-auth-plugin, args: [--impersonate_service_account, "s3cr3t/../x"]}`, "has not the form of one"},
		"an edge cloud":                {`{command: gke-gcloud-auth-plugin, args: [--use_edge_cloud]}`, "“--use_edge_cloud”"},
		"a browser":                    {`{command: kubelogin, args: [get-token, --login, interactive]}`, "needs a person"},
		"a password":                   {`{command: kubelogin, args: [get-token, -l, ropc, -u, me, -p, s3cr3t]}`, "needs a person"},
		"the az tool":                  {`{command: kubelogin.exe, args: [get-token, --login=azurecli]}`, "“azurecli”"},
		"an authority":                 {`{command: kubelogin, args: [get-token, -l, spn, --authority-host, "https://s3cr3t"]}`, "“--authority-host”"},
		"a federated token file":       {`{command: kubelogin, args: [get-token, -l, workloadidentity, --federated-token-file, /etc/s3cr3t]}`, "“--federated-token-file”"},
		"a client certificate":         {`{command: kubelogin, args: [get-token, -l, spn, --client-certificate, /s3cr3t.pfx]}`, "“--client-certificate”"},
		"an unknown environment":       {`{command: kubelogin, args: [get-token, -l, spn, -e, AzureStackCloud]}`, "environment"},
		"another service's token":      {`{command: kubelogin, args: [get-token, -l, msi, --server-id, 00000003-0000-0000-c000-000000000000]}`, "another application (--server-id)"},
		"the old kind":                 {`{command: kubelogin, args: [get-token, -l, spn, --legacy]}`, "let in people only"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, kubeconfigWith("", "    exec: "+test.exec+"\n"), kube.ParseOptions{}, "kubeconfig", test.words)
		})
	}
}
