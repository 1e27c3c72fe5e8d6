package kube

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// maxFound bounds what one listing reads of a folder that is not a folder of
// kubeconfigs at all.
const maxFound = 500

// FoundFile is a file below the kubeconfigs root, and what it holds.
type FoundFile struct {
	Path string // relative to the root
	Hash string // of its bytes with what it refers to, as Hash gives it; "" = not readable
	Inspection
}

// inspectedFile is a file as it was when it was inspected.
type inspectedFile struct{ path, hash string }

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

	r.mu.Lock()
	before := r.inspected
	r.mu.Unlock()
	inspected := map[inspectedFile]Inspection{}
	var found []FoundFile
	look := func(rel string) {
		raw, err := readRegular(root, rel)
		if err != nil {
			found = append(found, FoundFile{Path: rel, Inspection: Inspection{Problem: whyUnreadable(rel, err)}})
			return
		}
		raw = r.whole(rel, raw)
		file := FoundFile{Path: rel, Hash: Hash(raw)}
		key := inspectedFile{file.Path, file.Hash}
		known := false
		if file.Inspection, known = before[key]; !known {
			file.Inspection = Inspect(raw, ParseOptions{Root: r, Path: rel})
		}
		// The list is read with every page of clusters, and parsing is most of
		// it. Why a file still refers to others may change without it.
		if !mentionsFile(raw) {
			inspected[key] = file.Inspection
		}
		file.Contexts = slices.Clone(file.Contexts)
		found = append(found, file)
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
	r.mu.Lock()
	r.inspected = inspected
	r.mu.Unlock()
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
