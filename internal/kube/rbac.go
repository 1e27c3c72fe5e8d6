package kube

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"text/template"

	"portolan/internal/fleet"
)

// RBACManifest returns the least that an identity needs for the present
// configuration of a cluster, ready for kubectl apply: its namespaces, a role
// in each with exactly the table fleet.Permissions, and a service account, in
// the fallback namespace, that holds them. So does the identity that the cluster
// is used as now, where it is given. What only features need is marked.
func RBACManifest(cluster *fleet.Cluster, identity string) ([]byte, error) {
	var out bytes.Buffer
	err := manifest.Execute(&out, map[string]any{
		"ID":         cluster.ID,
		"Home":       cluster.Namespace,
		"Namespaces": cluster.Namespaces(),
		"Required":   rulesOf(fleet.Permissions, false),
		"Optional":   rulesOf(fleet.Permissions, true),
		"Present":    subjectOf(identity, cluster.Namespace),
	})
	return out.Bytes(), err
}

// subject is who holds a role.
type subject struct{ Kind, Namespace, Name string }

// subjectOf returns an identity, as an API server calls it, as a subject; nil where
// there is none, or where it is the manifest's own service account. A service
// account's user name is made of four parts (“Service account tokens” in
// Kubernetes' page about authenticating).
func subjectOf(identity, home string) *subject {
	account, isAccount := strings.CutPrefix(identity, "system:serviceaccount:")
	namespace, name, _ := strings.Cut(account, ":")
	switch {
	case identity == "", isAccount && namespace == home && name == accountName:
		return nil
	case isAccount:
		return &subject{"ServiceAccount", namespace, name}
	default:
		return &subject{Kind: "User", Name: identity}
	}
}

// accountName is the manifest's own service account.
const accountName = "portolan"

// rule is one rule of a role: resources of one group that need the same verbs.
type rule struct {
	Group            string
	Resources, Verbs []string
}

func rulesOf(table []fleet.Permission, optional bool) []rule {
	var single []rule
	for _, p := range table {
		if p.Optional != optional {
			continue
		}
		at := slices.IndexFunc(single, func(r rule) bool { return r.Group == p.Group && r.Resources[0] == p.Resource })
		if at < 0 {
			single = append(single, rule{Group: p.Group, Resources: []string{p.Resource}})
			at = len(single) - 1
		}
		single[at].Verbs = append(single[at].Verbs, p.Verb)
	}
	var merged []rule
	for _, s := range single {
		at := slices.IndexFunc(merged, func(r rule) bool { return r.Group == s.Group && slices.Equal(r.Verbs, s.Verbs) })
		if at < 0 {
			merged = append(merged, s)
			continue
		}
		merged[at].Resources = append(merged[at].Resources, s.Resources...)
	}
	return merged
}

var manifest = template.Must(template.New("rbac.yaml").Funcs(template.FuncMap{
	"list":   func(items []string) string { return `["` + strings.Join(items, `", "`) + `"]` },
	"quoted": func(text string) (string, error) { quoted, err := json.Marshal(text); return string(quoted), err },
}).Parse(`# What Portolan needs in the cluster{{with .ID}} {{.}}{{end}}. With an administrator's kubeconfig:
#   kubectl apply -f rbac.yaml
#   TOKEN=$(kubectl -n {{.Home}} create token portolan --duration=8760h)
#   kubectl config view --raw --minify --flatten > portolan.kubeconfig
#   kubectl --kubeconfig portolan.kubeconfig config unset users
#   kubectl --kubeconfig portolan.kubeconfig config set-credentials portolan --token="$TOKEN"
#   kubectl --kubeconfig portolan.kubeconfig config set-context --current --user=portolan
# Then portolan.kubeconfig is the one to register. The token's end is shown with
# the cluster: managed ones, such as those of EKS and GKE, bring it down to a day
# or two. There, have the cluster keep a token in a Secret, in place of the line
# that begins with TOKEN. It is good until the Secret is deleted:
#   echo '{"apiVersion":"v1","kind":"Secret","type":"kubernetes.io/service-account-token","metadata":{"name":"portolan-token","annotations":{"kubernetes.io/service-account.name":"portolan"}}}' | kubectl -n {{.Home}} apply -f -
#   kubectl -n {{.Home}} wait secret/portolan-token --for=jsonpath='{.data.token}'
#   TOKEN=$(kubectl -n {{.Home}} get secret portolan-token -o jsonpath='{.data.token}' | base64 --decode)
{{- define "rules"}}
{{- range .}}
- apiGroups: ["{{.Group}}"]
  resources: {{list .Resources}}
  verbs: {{list .Verbs}}
{{- end}}
{{- end}}
{{- range .Namespaces}}
---
apiVersion: v1
kind: Namespace
metadata:
  name: "{{.}}"
{{- end}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: portolan
  namespace: "{{.Home}}"
{{- range .Namespaces}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: portolan
  namespace: "{{.}}"
rules:
# Required.
{{- template "rules" $.Required}}
# Optional: a connection test passes without these (exec into pods, CPU and
# memory use, recognising the cluster by the identity of a namespace).
{{- template "rules" $.Optional}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: portolan
  namespace: "{{.}}"
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: portolan
subjects:
- kind: ServiceAccount
  name: portolan
  namespace: "{{$.Home}}"
{{- end}}
{{- if .Present}}
{{- range .Namespaces}}
---
# For whom the cluster is used as now. A binding of its own: another manifest, which
# may not name them, leaves it as it is.
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: portolan-present
  namespace: "{{.}}"
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: portolan
subjects:
- kind: {{$.Present.Kind}}
  name: {{quoted $.Present.Name}}
{{- if $.Present.Namespace}}
  namespace: {{quoted $.Present.Namespace}}
{{- else}}
  apiGroup: rbac.authorization.k8s.io
{{- end}}
{{- end}}
{{- end}}
`))
