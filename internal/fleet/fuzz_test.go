package fleet

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"
)

func FuzzAnnotations(f *testing.F) {
	for _, seed := range []string{
		`{"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}`, `{"a":"b"}}`, `{"a":null,"a":"c"}`, `{"a":{"b":"c"}}`, `{}`, `{`,
		"service.beta.kubernetes.io/aws-load-balancer-type=nlb\nexample.com/a = b ", "=", "a=b\na=c", "portolan.dev/workload=x", "a/b/c=d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := reader{Problems{}}
		out := r.notOurs("a", r.annotations("a", text))
		if len(r.problems) > 0 {
			return
		}
		if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, "{") && !json.Valid([]byte(trimmed)) {
			t.Errorf("accepted %q, which is no JSON", text)
		}
		for key, value := range out {
			if len(validation.IsQualifiedName(strings.ToLower(key))) > 0 || strings.HasPrefix(key, "portolan.dev/") {
				t.Errorf("accepted the key %q", key)
			}
			if strings.ContainsFunc(value, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }) {
				t.Errorf("accepted the value %q", value)
			}
		}
		again := reader{Problems{}}
		written, err := json.Marshal(out)
		if err != nil || len(out) > 0 && len(again.annotations("a", string(written))) != len(out) {
			t.Errorf("%s is not read as it was written: %v, %v", written, err, again.problems)
		}
	})
}

func FuzzCIDRs(f *testing.F) {
	for _, seed := range []string{"10.0.0.0/8, 192.168.0.0/16", "::/0", "2001:db8::/32 203.0.113.7/32", "10.0.0.1/8", "::ffff:10.0.0.0/104", "10.0.0.0/08", "fe80::%eth0/64", ",,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := reader{Problems{}}
		out := r.cidrs("a", text)
		for _, c := range out {
			p, err := netip.ParsePrefix(c)
			if err != nil || p != p.Masked() || p.String() != c {
				t.Errorf("accepted %q of %q", c, text)
			}
		}
		if again := r.cidrs("a", strings.Join(out, ", ")); len(r.problems) == 0 && len(again) != len(out) {
			t.Errorf("%v is read again as %v", out, again)
		}
	})
}

func FuzzCloudCredential(f *testing.F) {
	f.Add("sealed", "AKIAIOSFODNN7EXAMPLE", "secret", "", "", "", "")
	f.Add("sealed", "", "", `{"type":"service_account","client_email":"a@b","private_key":"","token_uri":"https://evil"}`, "", "", "")
	f.Add("sealed", "", "", "", "contoso.onmicrosoft.com", "00000000-0000-0000-0000-000000000001", "secret")
	f.Add("ambient", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, choice, keyID, secretKey, account, tenant, client, secret string) {
		problems := Problems{}
		identity, cred := ClusterForm{
			"cloud_credential": choice, "aws_access_key_id": keyID, "aws_secret_access_key": secretKey, "gcp_service_account": account,
			"azure_tenant_id": tenant, "azure_client_id": client, "azure_client_secret": secret,
		}.CloudCredential(CloudIdentity{}, problems)
		for _, typed := range []string{secretKey, secret} {
			if len(typed) > 12 && strings.Contains(problems.String(), typed) && !strings.Contains(keyID+tenant+client+choice, typed) {
				t.Errorf("a secret is quoted: %s", problems)
			}
		}
		if len(problems) == 0 && identity.Sealed() && (cred == nil || cred.Identity() != identity) {
			t.Errorf("%+v without the credential for it", identity)
		}
	})
}
