//go:build unix

package localpg

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Running returns the connection string of the server that works in a data
// folder at the moment, started by whichever process, and false when there is
// none.
func Running(dataDir string) (string, bool) {
	const socketLine = 5 // of the pid file, as src/include/utils/pidfile.h says
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", false
	}
	filesDir := filepath.Join(dir, "postgres")
	pm, ok := readPostmaster(filesDir)
	if !ok || !pm.ready || syscall.Kill(pm.pid, 0) == syscall.ESRCH {
		return "", false
	}
	text, err := os.ReadFile(pidFile(filesDir))
	if err != nil {
		return "", false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < socketLine || lines[socketLine-1] == "" {
		return "", false
	}
	return socketURL(lines[socketLine-1]), true
}

func socketURL(socketDir string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.User(roleName),
		Path:   "/" + databaseName,
		RawQuery: url.Values{
			"host": {socketDir},
			"port": {strconv.Itoa(port)},
		}.Encode(),
	}
	return u.String()
}

// Tool returns the path of one of PostgreSQL's client programs, such as
// pg_dump, that fits a server of the major version: the same version, or else
// the next one above. An older program refuses a newer server.
func Tool(name string, major int) (string, error) {
	var dirs []string
	for _, pattern := range usualPlaces {
		matches, _ := filepath.Glob(pattern) // the only error is a bad pattern, and these are constants
		dirs = append(dirs, matches...)
	}
	// The programs on the path come last: there they may be wrappers.
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	best, bestMajor := "", 0
	var found []string
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if !filepath.IsAbs(path) || !executable(path) {
			continue
		}
		output, err := exec.Command(path, "--version").Output()
		if err != nil {
			continue
		}
		match := versionOutput.FindSubmatch(output)
		if match == nil {
			continue
		}
		version, _ := strconv.Atoi(string(match[1])) // digits, as the pattern says
		if version >= major && (best == "" || version < bestMajor) {
			best, bestMajor = path, version
		}
		if !slices.Contains(found, string(match[1])) {
			found = append(found, string(match[1]))
		}
	}
	switch {
	case best != "":
		return best, nil
	case len(found) > 0:
		return "", fmt.Errorf("the database is PostgreSQL %d, but this machine has %s of version %s: install that of version %[1]d (apt-get install postgresql-client-%[1]d)",
			major, name, strings.Join(found, " and "))
	default:
		return "", fmt.Errorf("%s was not found on this machine: install PostgreSQL's client programs (apt-get install postgresql-client); "+
			"where PostgreSQL runs in a container, %[1]s is there and can be run in it (README.md, “Backup of the Compose deployment”)", name)
	}
}
