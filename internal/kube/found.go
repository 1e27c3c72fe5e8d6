package kube

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxFound bounds what one listing reads of a folder that is not a folder of
// kubeconfigs at all.
const maxFound = 500

// FoundFile is a file below the kubeconfigs root, and what it holds.
type FoundFile struct {
	Path string // relative to the root
	Hash string // of its bytes, as Hash gives it; "" = not readable
	Inspection
}

// List looks at the files of the root and of its folders, one level deep.
// READMEs, hidden files, and the certificates and keys that kubeconfigs refer
// to are left out. A root that does not exist has no files.
func (r *Root) List() ([]FoundFile, error) {
	root, err := os.OpenRoot(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()

	var found []FoundFile
	look := func(rel string) {
		raw, err := readRegular(root, rel)
		if err != nil {
			found = append(found, FoundFile{Path: rel, Inspection: Inspection{Problem: whyUnreadable(rel, err)}})
			return
		}
		found = append(found, FoundFile{Path: rel, Hash: Hash(raw), Inspection: Inspect(raw, ParseOptions{Root: r, Path: rel})})
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name := entry.Name()
		if len(found) >= maxFound || ignored(name) {
			continue
		}
		// Stat follows links: mounted Secrets and ConfigMaps are made of them.
		info, err := root.Stat(name)
		if err != nil || !info.IsDir() {
			look(name)
			continue
		}
		inner, err := fs.ReadDir(root.FS(), name)
		if err != nil {
			continue
		}
		for _, entry := range inner {
			rel := path.Join(name, entry.Name())
			if len(found) >= maxFound || ignored(entry.Name()) {
				continue
			}
			if info, err := root.Stat(rel); err == nil && info.IsDir() {
				continue
			}
			look(rel)
		}
	}
	return found, nil
}

func ignored(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(strings.ToUpper(name), "README") {
		return true
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".pem", ".crt", ".cert", ".cer", ".key", ".token":
		return true
	}
	return false
}
