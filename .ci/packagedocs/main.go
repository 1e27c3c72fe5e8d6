// Command packagedocs fails unless every package of the repository has exactly
// one doc comment: none leaves its reader guessing, two contradict each other
// in the end. Packages of tests alone, and generated files, don't count.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	commented := map[string][]string{} // files with a doc comment, by folder
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if hidden(entry.Name()) && path != ".ci" {
				return fs.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return err
		}
		if ast.IsGenerated(file) {
			return nil
		}
		folder := filepath.Dir(path)
		commented[folder] = append(commented[folder], documented(path, file)...)
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	wrong := false
	for folder, files := range commented {
		if len(files) == 1 {
			continue
		}
		wrong = true
		slices.Sort(files)
		fmt.Printf("%s: %d package comments %v\n", folder, len(files), files)
	}
	if wrong {
		os.Exit(1)
	}
}

// hidden says whether Go leaves a folder of that name out.
func hidden(name string) bool {
	return len(name) > 1 && (name[0] == '.' || name[0] == '_') || name == "testdata" || name == "bin"
}

// documented is the file itself if it comments its package.
func documented(path string, file *ast.File) []string {
	if file.Doc == nil || strings.TrimSpace(file.Doc.Text()) == "" {
		return []string{}
	}
	return []string{filepath.Base(path)}
}
