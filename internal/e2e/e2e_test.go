// Package e2e shows the facts of Portolan's behaviour through its outermost
// door: HTTP requests and a browser against the real program, with a real
// PostgreSQL and real clusters. It knows routes, form fields and page markers,
// and reads no prose but the words that are promised.
//
// Tests share the clusters and, where they don't stop or starve it, one
// Portolan; each has its own cluster rows and namespaces in them.
package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"portolan/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		// The tests wait for clusters more than they compute, but the clusters
		// compute on this machine, too.
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
	}
	code := postgrestest.Main(m)
	if err := endShared(); err != nil {
		fmt.Fprintln(os.Stderr, "the shared Portolan:", err)
		code = max(code, 1)
	}
	if buildDir != "" {
		_ = os.RemoveAll(buildDir)
	}
	os.Exit(code)
}

// moduleRoot is the folder of go.mod, seen from this package's folder.
const moduleRoot = "../.."

var buildDir string

// program is the path of the portolan binary, built once a run, with the race
// detector when the tests have it.
var program = sync.OnceValues(func() (string, error) {
	removeLeftovers()
	dir := filepath.Join(os.TempDir(), folderPrefix+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	buildDir = dir
	path := filepath.Join(dir, "portolan")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./cmd/portolan")...)
	build.Dir = moduleRoot
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/portolan: %w\n%s", err, out)
	}
	return path, nil
})

const folderPrefix = "portolan-e2e-"

// removeLeftovers removes the folders of runs that were killed.
func removeLeftovers() {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	if err != nil {
		return // the pattern is a good one
	}
	for _, folder := range folders {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(folder), folderPrefix))
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(folder)
		}
	}
}

// artefact returns the path of a file that outlives the run, for people to
// look at. The folder is not under version control.
func artefact(elements ...string) (string, error) {
	path, err := filepath.Abs(filepath.Join(append([]string{moduleRoot, "artefacts"}, elements...)...))
	if err != nil {
		return "", err
	}
	return path, os.MkdirAll(filepath.Dir(path), 0o755)
}
