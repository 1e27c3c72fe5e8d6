package kube

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a kubeconfig. A real one with dozens of contexts stays far below
// each of them; what is beyond is a mistake or made to harm.
const (
	MaxKubeconfigBytes = 1 << 20
	maxStructure       = 50_000 // characters that can begin a YAML node
	maxNodes           = 50_000 // after following aliases
	maxDepth           = 32
)

// document is the part of a kubeconfig that is used or refused. Other fields
// are tolerated, as kubectl tolerates them.
type document struct {
	APIVersion     string         `yaml:"apiVersion"`
	Kind           string         `yaml:"kind"`
	CurrentContext string         `yaml:"current-context"`
	Clusters       []namedCluster `yaml:"clusters"`
	Users          []namedUser    `yaml:"users"`
	Contexts       []namedContext `yaml:"contexts"`
}

type namedCluster struct {
	Name    string       `yaml:"name"`
	Cluster clusterEntry `yaml:"cluster"`
}

type clusterEntry struct {
	Server     string `yaml:"server"`
	ServerName string `yaml:"tls-server-name"`
	Insecure   bool   `yaml:"insecure-skip-tls-verify"`
	CAFile     string `yaml:"certificate-authority"`
	CAData     string `yaml:"certificate-authority-data"`
	ProxyURL   string `yaml:"proxy-url"`
}

type namedUser struct {
	Name string    `yaml:"name"`
	User userEntry `yaml:"user"`
}

type userEntry struct {
	CertFile         string     `yaml:"client-certificate"`
	CertData         string     `yaml:"client-certificate-data"`
	KeyFile          string     `yaml:"client-key"`
	KeyData          string     `yaml:"client-key-data"`
	Token            string     `yaml:"token"`
	TokenFile        string     `yaml:"tokenFile"`
	Impersonate      yaml.Node  `yaml:"as"`
	ImpersonateUID   yaml.Node  `yaml:"as-uid"`
	ImpersonateGroup yaml.Node  `yaml:"as-groups"`
	ImpersonateExtra yaml.Node  `yaml:"as-user-extra"`
	Username         string     `yaml:"username"`
	Password         string     `yaml:"password"`
	AuthProvider     yaml.Node  `yaml:"auth-provider"`
	Exec             *execEntry `yaml:"exec"`
}

type execEntry struct {
	Command string     `yaml:"command"`
	Args    []string   `yaml:"args"`
	Env     []envEntry `yaml:"env"`
}

type envEntry struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

type namedContext struct {
	Name    string       `yaml:"name"`
	Context contextEntry `yaml:"context"`
}

type contextEntry struct {
	Cluster   string `yaml:"cluster"`
	User      string `yaml:"user"`
	Namespace string `yaml:"namespace"`
}

// decode reads one YAML document within the bounds. Its errors are sentences
// for the person who brought the file and quote nothing from it: a kubeconfig
// is full of secrets.
func decode(raw []byte) (*document, *refusal) {
	root, err := parseYAML(raw)
	if err != nil {
		return nil, err
	}
	var doc document
	if err := root.Decode(&doc); err != nil {
		return nil, refuse("", "A field of the kubeconfig has the wrong type: %s.", unquoted(err))
	}
	return &doc, nil
}

// parseYAML returns the mapping at the top of raw.
func parseYAML(raw []byte) (*yaml.Node, *refusal) {
	if len(raw) > MaxKubeconfigBytes {
		return nil, refuse("", "The kubeconfig is %.1f MiB; the limit is 1 MiB.", float64(len(raw))/(1<<20))
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, refuse("", "The kubeconfig is empty.")
	}
	structure := 0
	for _, c := range raw {
		switch c {
		case ',', ':', '-', '[', '{', '?', '&', '*':
			structure++
		}
	}
	if structure > maxStructure {
		return nil, errTooComplex
	}

	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var top yaml.Node
	if err := decoder.Decode(&top); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, refuse("", "The kubeconfig is empty.")
		}
		return nil, refuse("", "The kubeconfig is not valid YAML: %s.", unquoted(err))
	}
	var next yaml.Node
	if err := decoder.Decode(&next); !errors.Is(err, io.EOF) {
		return nil, refuse("", "The kubeconfig holds more than one YAML document; keep only one.")
	}
	if len(top.Content) != 1 {
		return nil, refuse("", "The kubeconfig is empty.")
	}
	w := walker{}
	if err := w.walk(top.Content[0], 0); err != nil {
		return nil, err
	}
	switch root := top.Content[0]; {
	case root.Kind == yaml.MappingNode:
		return root, nil
	case root.Tag == "!!null":
		return nil, refuse("", "The kubeconfig is empty.")
	default:
		return nil, refuse("", "This is not a kubeconfig: it should begin with “apiVersion: v1” and “kind: Config”.")
	}
}

var errTooComplex = refuse("", "The kubeconfig is nested too deeply or has too many parts to be a real one.")

// walker visits what a decoder would visit, aliases followed, and stops where
// a small file would grow into a large one.
type walker struct{ nodes int }

func (w *walker) walk(n *yaml.Node, depth int) *refusal {
	w.nodes++
	if w.nodes > maxNodes || depth > maxDepth {
		return errTooComplex
	}
	if n.Kind == yaml.AliasNode {
		return w.walk(n.Alias, depth+1)
	}
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				continue
			}
			if seen[key.Value] {
				return refuse("", "The kubeconfig is not valid YAML: line %d repeats a key.", key.Line)
			}
			seen[key.Value] = true
		}
	}
	for _, child := range n.Content {
		if err := w.walk(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// unquoted returns the first complaint of a YAML error without what it quotes
// from the file, unless that is the punctuation that is missing.
func unquoted(err error) string {
	_, text, found := strings.Cut(err.Error(), "line ")
	if !found {
		return "it cannot be read"
	}
	text, _, _ = strings.Cut(text, "\n")
	if start := strings.IndexAny(text, quotes); start >= 0 && !punctuation.MatchString(text) {
		end := strings.LastIndexAny(text, quotes)
		if end == start { // the quotation goes on in the next line
			end = len(text) - 1
		}
		text = text[:start] + "…" + text[end+1:]
	}
	return "line " + text
}

const quotes = "`'\""

// punctuation matches a text that quotes nothing else.
var punctuation = regexp.MustCompile("^[^`'\"]*('[^`'\"\\w\\s]'[^`'\"]*)+$")
