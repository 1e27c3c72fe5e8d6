//go:build unix

package localpg

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNotInstalled means that the machine has no PostgreSQL server programs.
var ErrNotInstalled = errors.New("no PostgreSQL found on this machine: install it (apt-get install postgresql, " +
	"dnf install postgresql-server, brew install postgresql) or set PORTOLAN_DATABASE_URL to a database elsewhere")

// usualPlaces are where distributions put PostgreSQL when it is not on the PATH.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/lib/postgresql*/bin",
	"/usr/libexec/postgresql*",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// binaries are one installed PostgreSQL.
type binaries struct {
	initdb, postgres string
	major            string // "15"
}

// findBinaries returns the PostgreSQL among the directories that fits the files: the one of their major version, or the
// first when there are no files yet.
func findBinaries(filesDir string, dirs []string) (binaries, error) {
	text, err := os.ReadFile(filepath.Join(filesDir, "PG_VERSION"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return binaries{}, err
	}
	wanted := strings.TrimSpace(string(text))
	var found []string
	for _, dir := range dirs {
		bin, ok := inspect(dir)
		if !ok {
			continue
		}
		if wanted == "" || bin.major == wanted {
			return bin, nil
		}
		found = append(found, bin.major)
	}
	if len(found) == 0 {
		return binaries{}, ErrNotInstalled
	}
	return binaries{}, fmt.Errorf("the files in %s were written by PostgreSQL %s, but this machine has %s: "+
		"install PostgreSQL %s, or move that folder away to start anew",
		filesDir, wanted, strings.Join(found, " and "), wanted)
}

// candidateDirs lists each directory that holds both initdb and postgres once: those on the path in its order, then the
// other places, newest version first. Links are followed, because a lone link or wrapper on the path says nothing of
// the rest of the installation.
func candidateDirs(path, places []string) []string {
	var dirs []string
	add := func(dir string) {
		initdb, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		if err != nil {
			return
		}
		dir = filepath.Dir(initdb)
		if executable(initdb) && executable(filepath.Join(dir, "postgres")) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range path {
		if filepath.IsAbs(dir) {
			add(dir)
		}
	}
	for _, pattern := range places {
		matches, _ := filepath.Glob(pattern) // the only error is a bad pattern, and these are constants
		slices.SortStableFunc(matches, func(a, b string) int { return cmp.Compare(versionIn(b), versionIn(a)) })
		for _, dir := range matches {
			add(dir)
		}
	}
	return dirs
}

var (
	pathNumber    = regexp.MustCompile(`\d+`)
	versionOutput = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)
)

// versionIn is the last number in a path such as /usr/lib/postgresql/15/bin, 0 when there is none.
func versionIn(dir string) int {
	numbers := pathNumber.FindAllString(dir, -1)
	if len(numbers) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(numbers[len(numbers)-1])
	return n
}

func inspect(dir string) (binaries, bool) {
	bin := binaries{initdb: filepath.Join(dir, "initdb"), postgres: filepath.Join(dir, "postgres")}
	output, err := exec.Command(bin.postgres, "--version").Output()
	if err != nil {
		return binaries{}, false
	}
	match := versionOutput.FindSubmatch(output)
	if match == nil {
		return binaries{}, false
	}
	bin.major = string(match[1])
	return bin, true
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
