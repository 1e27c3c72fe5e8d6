package kube

import (
	"bytes"
	"encoding/base64"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mentionsFile reports whether a kubeconfig may refer to files. Mounted ones are
// read every few seconds, and parsing all of them would be most of that work.
func mentionsFile(raw []byte) bool {
	if bytes.Contains(raw, []byte("tokenFile")) {
		return true
	}
	for _, name := range []string{"certificate-authority", "client-certificate", "client-key"} {
		for rest := raw; ; {
			_, after, found := bytes.Cut(rest, []byte(name))
			if !found {
				break
			}
			if !bytes.HasPrefix(after, []byte("-")) { // -data holds it itself
				return true
			}
			rest = after
		}
	}
	return false
}

// inline returns raw with every file reference that read can follow replaced
// by what it refers to. Without such references raw comes back as it was.
func inline(raw []byte, read func(ref string) ([]byte, error)) []byte {
	if !mentionsFile(raw) {
		return raw
	}
	top, refused := parseYAML(raw)
	if refused != nil {
		return raw
	}
	changed := false
	replace := func(entry *yaml.Node, field, with string, encode func([]byte) string) {
		ref := mapValue(entry, field)
		if ref == nil || ref.Kind != yaml.ScalarNode || ref.Value == "" {
			return
		}
		content, err := read(ref.Value)
		if err != nil {
			return
		}
		// Where both stand, data wins over a file, but a token file over a
		// token: kubectl's rules.
		if present := mapValue(entry, with); present == nil || field == "tokenFile" {
			setMapValue(entry, with, encode(content))
		}
		deleteMapValue(entry, field)
		changed = true
	}
	for _, cluster := range sequence(mapValue(top, "clusters")) {
		entry := mapValue(cluster, "cluster")
		replace(entry, "certificate-authority", "certificate-authority-data", base64.StdEncoding.EncodeToString)
	}
	for _, user := range sequence(mapValue(top, "users")) {
		entry := mapValue(user, "user")
		replace(entry, "client-certificate", "client-certificate-data", base64.StdEncoding.EncodeToString)
		replace(entry, "client-key", "client-key-data", base64.StdEncoding.EncodeToString)
		replace(entry, "tokenFile", "token", func(b []byte) string { return strings.TrimSpace(string(b)) })
	}
	if !changed {
		return raw
	}
	out, err := yaml.Marshal(top)
	if err != nil {
		return raw
	}
	return out
}

// mapValue returns the value of key in a mapping, or nil.
func mapValue(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func setMapValue(n *yaml.Node, key, value string) {
	node := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if present := mapValue(n, key); present != nil {
		*present = node
		return
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &node)
}

func deleteMapValue(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}

// sequence returns the items of a list, or nil.
func sequence(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}
