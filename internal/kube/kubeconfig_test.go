package kube_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/kube"
)

const tokenUser = "    token: s3cr3t-t0ken\n"

// refused checks that a kubeconfig is refused at a field with certain words,
// and that nothing secret is in the error.
func refused(t *testing.T, raw string, opts kube.ParseOptions, field string, words ...string) {
	t.Helper()
	_, err := kube.Parse([]byte(raw), opts)
	var e *fleet.Error
	if !errors.As(err, &e) || e.Code != fleet.CodeInvalid {
		t.Errorf("not refused as invalid: %v", err)
		return
	}
	if e.Problems[field] == "" || !strings.HasSuffix(strings.TrimRight(e.Problems[field], "”"), ".") {
		t.Errorf("problems %v, want a sentence at %s", e.Problems, field)
	}
	for _, word := range words {
		if !strings.Contains(e.Problems[field], word) {
			t.Errorf("says %q, want it to mention %q", e.Problems[field], word)
		}
	}
	if strings.Contains(fmt.Sprintf("%v %+v %s", err, e.Problems, e.Message), "s3cr3t") {
		t.Errorf("the error quotes a secret: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	cert, key := ca.issue(t, "pilot", time.Now().Add(time.Hour))
	_, otherKey := ca.issue(t, "pilot", time.Now().Add(time.Hour))
	caLine := "    certificate-authority-data: " + b64(ca.pem) + "\n"
	certLine := "    client-certificate-data: " + b64(cert) + "\n"
	good := kubeconfigWith(caLine, tokenUser)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := range 10 {
		letter, next := string(rune('a'+i)), string(rune('b'+i))
		bomb += fmt.Sprintf("%s: &%s [*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s]\n", next, next, letter, letter, letter, letter, letter, letter, letter, letter)
	}
	for name, test := range map[string]struct {
		raw   string
		field string
		words []string
	}{
		"empty":                {"", "", []string{"empty"}},
		"blank":                {" \n\t\n", "", []string{"empty"}},
		"only a comment":       {"# nothing\n", "", []string{"empty"}},
		"null":                 {"null\n", "", []string{"empty"}},
		"not YAML":             {"a: [s3cr3t\nb: }", "", []string{"not valid YAML"}},
		"not closed":           {"this is not: [yaml", "", []string{"not valid YAML", "',' or ']'"}},
		"unknown alias":        {"password: *s3cr3t", "", []string{"not valid YAML"}},
		"a sentence":           {"hello there", "", []string{"not a kubeconfig"}},
		"binary":               {"\x00\x01\x02", "", []string{"not valid YAML"}},
		"5 MB":                 {good + "# " + strings.Repeat("x", 5<<20), "", []string{"5.0 MiB", "1 MiB"}},
		"deep":                 {strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "", []string{"nested"}},
		"deep blocks":          {strings.Repeat("a: {", 200) + strings.Repeat("}", 200), "", []string{"nested"}},
		"wide":                 {"a: [" + strings.Repeat("1,", 100_000) + "]", "", []string{"too many parts"}},
		"bomb":                 {bomb, "", []string{"too many parts"}},
		"circle":               {"a: &a\n  b: *a\n", "", nil},
		"repeated key":         {"clusters: []\nclusters: []\n", "", []string{"repeats a key"}},
		"repeated inner key":   {kubeconfigWith(caLine, tokenUser+tokenUser), "", []string{"repeats a key"}},
		"two documents":        {good + "---\n" + good, "", []string{"more than one"}},
		"a Secret":             {"apiVersion: v1\nkind: Secret\n", "", []string{"not a kubeconfig"}},
		"wrong type":           {"apiVersion: v1\nkind: Config\ncontexts: s3cr3t\n", "", []string{"wrong type"}},
		"no contexts":          {"apiVersion: v1\nkind: Config\n", "", []string{"no contexts"}},
		"missing cluster":      {strings.Replace(good, "cluster: harbour", "cluster: elsewhere", 1), "", []string{"“elsewhere”", "cluster"}},
		"missing user":         {strings.Replace(good, "user: pilot", "user: nobody", 1), "", []string{"“nobody”", "user"}},
		"no such context":      {strings.Replace(good, "current-context: here", "current-context: there", 1), "context", []string{"“there”", "“here”"}},
		"two of one name":      {strings.Replace(good, "users:\n", "users:\n- name: pilot\n  user: {}\n", 1), "", []string{"twice"}},
		"exec":                 {kubeconfigWith(caLine, "    exec: {apiVersion: client.authentication.k8s.io/v1, command: /tmp/steal}\n"), "", []string{"“steal”", "runs no programs"}},
		"exec of AWS":          {kubeconfigWith(caLine, "    exec: {command: aws, args: [eks, describe-cluster, --name, x]}\n"), "", []string{"aws eks get-token", "service account"}},
		"exec of Google":       {kubeconfigWith(caLine, "    exec: {command: gke-gcloud-auth-plugin, args: [--impersonate_service_account=x@y]}\n"), "", []string{"impersonates", "service account"}},
		"exec of Azure":        {kubeconfigWith(caLine, "    exec: {command: /usr/bin/kubelogin, args: [get-token]}\n"), "", []string{"devicecode", "needs a person", "service account"}},
		"exec beside a token":  {kubeconfigWith(caLine, tokenUser+"    exec: {command: x}\n"), "", []string{"runs no programs"}},
		"auth-provider":        {kubeconfigWith(caLine, "    auth-provider: {name: gcp}\n"), "", []string{"auth-provider"}},
		"tokenFile":            {kubeconfigWith(caLine, "    tokenFile: /var/run/token\n"), "", []string{"tokenFile", "--flatten"}},
		"CA file":              {kubeconfigWith("    certificate-authority: /etc/passwd\n", tokenUser), "", []string{"certificate-authority", "--flatten"}},
		"certificate file":     {kubeconfigWith(caLine, "    client-certificate: a.crt\n"), "", []string{"client-certificate"}},
		"key file":             {kubeconfigWith(caLine, certLine+"    client-key: a.key\n"), "", []string{"client-key"}},
		"insecure":             {kubeconfigWith("    insecure-skip-tls-verify: true\n", tokenUser), "", []string{"insecure-skip-tls-verify"}},
		"proxy":                {kubeconfigWith("    proxy-url: http://proxy:3128\n", tokenUser), "", []string{"proxy-url"}},
		"as":                   {kubeconfigWith(caLine, tokenUser+"    as: system:admin\n"), "", []string{"impersonates"}},
		"as-uid":               {kubeconfigWith(caLine, tokenUser+"    as-uid: \"1\"\n"), "", []string{"impersonates"}},
		"as-groups":            {kubeconfigWith(caLine, tokenUser+"    as-groups: [system:masters]\n"), "", []string{"impersonates"}},
		"as-user-extra":        {kubeconfigWith(caLine, tokenUser+"    as-user-extra: {a: [b]}\n"), "", []string{"impersonates"}},
		"basic auth":           {kubeconfigWith(caLine, "    username: admin\n    password: s3cr3t\n"), "", []string{"user name and password"}},
		"no credential":        {kubeconfigWith(caLine, "    {}\n"), "", []string{"no credential"}},
		"http":                 {kubeconfigFor("http://127.0.0.1", caLine, tokenUser), "", []string{"plain http"}},
		"no scheme":            {kubeconfigFor("127.0.0.1:6443", caLine, tokenUser), "", []string{"https://host:6443"}},
		"no server":            {kubeconfigFor(`""`, caLine, tokenUser), "", []string{"no server"}},
		"user info":            {kubeconfigFor("https://me:s3cr3t@host", caLine, tokenUser), "", []string{"user name or password"}},
		"query":                {kubeconfigFor("https://host/?token=s3cr3t", caLine, tokenUser), "", []string{"query"}},
		"bad port":             {kubeconfigFor("https://host:99999", caLine, tokenUser), "", []string{"port"}},
		"base64":               {kubeconfigWith("    certificate-authority-data: '!!!'\n", tokenUser), "", []string{"base64"}},
		"PEM not encoded":      {kubeconfigWith("    certificate-authority-data: \"-----BEGIN CERTIFICATE-----\"\n", tokenUser), "", []string{"base64 -w0"}},
		"left out":             {kubeconfigWith("    certificate-authority-data: DATA+OMITTED\n", "    token: REDACTED\n"), "", []string{"--raw"}},
		"no PEM":               {kubeconfigWith("    certificate-authority-data: "+b64([]byte("hello"))+"\n", tokenUser), "", []string{"no certificate in PEM form"}},
		"certificate alone":    {kubeconfigWith(caLine, certLine), "", []string{"without its key"}},
		"key alone":            {kubeconfigWith(caLine, "    client-key-data: "+b64(key)+"\n"), "", []string{"without its certificate"}},
		"somebody else's key":  {kubeconfigWith(caLine, certLine+"    client-key-data: "+b64(otherKey)+"\n"), "", []string{"does not belong"}},
		"no key":               {kubeconfigWith(caLine, certLine+"    client-key-data: "+b64([]byte("s3cr3t"))+"\n"), "", []string{"no private key"}},
		"damaged token":        {kubeconfigWith(caLine, "    token: \"s3cr3t\\r\\nImpersonate-User: root\"\n"), "", []string{"token", "characters"}},
		"control in a name":    {strings.Replace(good, "user: pilot", "user: \"\\e[31mx\"", 1), "", []string{"“[31mx”"}},
		"insecure in a string": {kubeconfigWith("    insecure-skip-tls-verify: s3cr3t\n", tokenUser), "", []string{"wrong type"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			field := test.field
			if field == "" {
				field = "kubeconfig"
			}
			began := time.Now()
			refused(t, test.raw, kube.ParseOptions{}, field, test.words...)
			if took := time.Since(began); took > 30*time.Second { // what is hostile would take minutes
				t.Errorf("took %s", took)
			}
			if inspection := kube.Inspect([]byte(test.raw), kube.ParseOptions{}); inspection.Problem == "" && test.field == "" {
				if len(inspection.Contexts) != 1 || inspection.Contexts[0].Refusal == "" {
					t.Errorf("an inspection finds nothing wrong: %+v", inspection)
				}
				if c := inspection.Contexts[0]; c.Account != strings.Contains(c.Refusal, "the form prints the manifest") {
					t.Errorf("a form would print the manifest: %t, for %s", c.Account, c.Refusal)
				}
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	until := time.Now().Add(48 * time.Hour).Truncate(time.Second).UTC()
	cert, key := ca.issue(t, "pilot", until)
	caLine := "    certificate-authority-data: " + b64(ca.pem) + "\n    tls-server-name: api.example\n    some-future-field: {a: b}\n"
	k, err := kube.Parse([]byte(kubeconfigWith(caLine, "    client-certificate-data: "+b64(cert)+"\n    client-key-data: "+b64(key)+"\n")), kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := k.RESTConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://127.0.0.1:6443" || cfg.ServerName != "api.example" || len(cfg.CertData) == 0 || len(cfg.KeyData) == 0 || len(cfg.CAData) == 0 {
		t.Errorf("%s, %s, %d, %d, %d", cfg.Host, cfg.ServerName, len(cfg.CertData), len(cfg.KeyData), len(cfg.CAData))
	}
	want := fleet.CredentialFacts{Kind: "client certificate", Subject: "pilot", Server: "https://127.0.0.1:6443", Context: "here", NotAfter: until, CAExpires: ca.cert.NotAfter.UTC()}
	if facts := k.Facts(""); facts != want {
		t.Errorf("facts %+v, want %+v", facts, want)
	}

	// While an authority's certificate takes the place of another, the old one's end
	// is no end of the authority.
	for what, c := range map[string]struct {
		in   []time.Duration
		want int
	}{
		"one has ended":  {[]time.Duration{-2 * time.Hour, 40 * time.Hour, 30 * time.Hour}, 2},
		"the same, last": {[]time.Duration{30 * time.Hour, 40 * time.Hour, -2 * time.Hour}, 0},
		"all have":       {[]time.Duration{-2 * time.Hour, -1 * time.Hour, -3 * time.Hour}, 1},
	} {
		var bundle []byte
		now := time.Now().Truncate(time.Second).UTC()
		for _, in := range c.in {
			root, _ := ca.issue(t, "root", now.Add(in))
			bundle = append(bundle, root...)
		}
		k, err := kube.Parse([]byte(kubeconfigWith("    certificate-authority-data: "+b64(bundle)+"\n", tokenUser)), kube.ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Facts("").CAExpires; !got.Equal(now.Add(c.in[c.want])) {
			t.Errorf("%s: the authority ends in %v", what, got.Sub(now))
		}
	}

	// A refused context beside the chosen one does no harm, and is shown.
	two := kubeconfigWith("    certificate-authority-data: "+b64(ca.pem)+"\n", tokenUser)
	two = strings.Replace(two, "contexts:\n", "contexts:\n- name: bad\n  context: {cluster: harbour, user: runner}\n", 1) +
		"- name: runner\n  user: {exec: {command: evil}}\n"
	if _, err := kube.Parse([]byte(two), kube.ParseOptions{}); err != nil {
		t.Errorf("a refused context elsewhere in the file: %v", err)
	}
	refused(t, two, kube.ParseOptions{Context: "bad"}, "kubeconfig", "evil")
	refused(t, two, kube.ParseOptions{Context: "none"}, "context", "“none”")
	inspection := kube.Inspect([]byte(two), kube.ParseOptions{})
	if inspection.Problem != "" || inspection.Current != "here" || len(inspection.Contexts) != 2 {
		t.Fatalf("%+v", inspection)
	}
	if bad := inspection.Contexts[0]; bad.Name != "bad" || !strings.Contains(bad.Refusal, "evil") || !bad.Account {
		t.Errorf("%+v", bad)
	}
	if good := inspection.Contexts[1]; good != (kube.InspectedContext{Name: "here", Cluster: "harbour", User: "pilot", Namespace: "quay", Server: "https://127.0.0.1:6443", Says: good.Says}) || good.Says.Kind != "token" {
		t.Errorf("%+v", good)
	}

	// Anchors are YAML like any other as long as they stay small.
	anchored := strings.Replace(two, "{exec: {command: evil}}", "&u {token: t}\n- name: again\n  user: *u", 1)
	if _, err := kube.Parse([]byte(anchored), kube.ParseOptions{Context: "bad"}); err != nil {
		t.Errorf("anchors: %v", err)
	}
}

func TestTokenFacts(t *testing.T) {
	t.Parallel()
	claims := b64url(`{"sub":"system:serviceaccount:apps:portolan","exp":1893456000}`)
	k, err := kube.Parse([]byte(kubeconfigWith("", "    token: e30."+claims+".c2ln\n")), kube.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	facts := k.Facts("")
	if facts.Kind != "service account token" || facts.Subject != "system:serviceaccount:apps:portolan" || facts.NotAfter.Year() != 2030 {
		t.Errorf("%+v", facts)
	}
}

func b64url(s string) string {
	return strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(b64([]byte(s))), "=")
}

func FuzzParse(f *testing.F) {
	ca := testCA(f)
	cert, key := ca.issue(f, "pilot", time.Now().Add(time.Hour))
	for _, shape := range shapes(f, ca, cert, key) {
		f.Add([]byte(shape), false)
		f.Add([]byte(shape), true)
	}
	f.Add([]byte(kubeconfigWith("", tokenUser)), false)
	f.Add([]byte(kubeconfigWith("    certificate-authority-data: DATA+OMITTED\n", "    exec: {command: aws, args: [eks, get-token]}\n")), false)
	f.Add([]byte("a: &a [*a, {<<: *a}]"), false)
	f.Add([]byte(`{"apiVersion":"v1","kind":"Config","contexts":[{"name":"a","context":{"cluster":"b"}}]}`), true)
	f.Fuzz(func(t *testing.T, raw []byte, allow bool) {
		opts := kube.ParseOptions{Allows: fleet.Allowances{TLSSkip: allow, Proxy: allow}}
		k, err := kube.Parse(raw, opts)
		inspection := kube.Inspect(raw, opts)
		if err != nil {
			if fleet.CodeOf(err) != fleet.CodeInvalid {
				t.Errorf("an error that cannot be shown: %v", err)
			}
			return
		}
		cfg, err := k.RESTConfig("")
		if err != nil {
			t.Fatalf("parsed, but: %v", err)
		}
		if !strings.HasPrefix(strings.ToLower(cfg.Host), "https://") || (cfg.Insecure || cfg.Proxy != nil) && !allow || cfg.ExecProvider != nil || cfg.AuthProvider != nil ||
			cfg.CAFile != "" || cfg.CertFile != "" || cfg.KeyFile != "" || cfg.BearerTokenFile != "" || cfg.Impersonate.UserName != "" || cfg.Username != "" {
			t.Errorf("unsound: %s", cfg)
		}
		made := slices.Contains([]string{"EKS token", "GKE token", "AKS token", "in-cluster token"}, k.Facts("").Kind)
		if given := cfg.BearerToken != "" || len(cfg.CertData) > 0; given == made {
			t.Errorf("a credential in it: %t, made by us: %t", given, made)
		}
		if inspection.Problem != "" || len(inspection.Contexts) == 0 {
			t.Errorf("parsed, but inspected as %+v", inspection)
		}
	})
}
