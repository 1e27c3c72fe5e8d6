// Package backup writes a database into a file and reads it back, by
// PostgreSQL's own pg_dump and pg_restore. Which programs those are, and
// whether a database may be written to, is for the caller to find out.
package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// emptyTables are not worth their place in a file: after a restore everybody
// signs in again.
var emptyTables = []string{"sessions", "login_failures", "river_leader"}

// Dump writes the database into a new file that only its owner may read, and
// returns the file's size in bytes. The file appears under its name when it is
// whole; one that is there already is an error.
func Dump(ctx context.Context, pgDump, databaseURL, path string) (size int64, err error) {
	if _, err := os.Lstat(path); err == nil {
		return 0, errTaken(path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part") // for its owner only
	if err != nil {
		return 0, err
	}
	defer func() {
		file.Close()
		os.Remove(file.Name())
	}()
	args := []string{"--format=custom", "--no-owner", "--no-privileges", "--no-password"}
	for _, table := range emptyTables {
		args = append(args, "--exclude-table-data="+table)
	}
	if err := run(ctx, file, pgDump, databaseURL, args...); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), name(os.Link, file.Name(), path)
}

// name gives a whole file its name, and replaces nothing that has been made
// under it meanwhile. The file may keep its old name too. link is os.Link.
func name(link func(old, name string) error, part, path string) error {
	err := link(part, path)
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return errTaken(path)
	}
	// A file system without hard links, such as exFAT: an empty file holds the
	// name for an instant.
	held, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errTaken(path)
	}
	if err != nil {
		return err
	}
	held.Close()
	if err := os.Rename(part, path); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

func errTaken(path string) error {
	return fmt.Errorf("%s is there already: choose another name", path)
}

// Restore reads a file of Dump into a database without tables. It is done as a
// whole or not at all.
func Restore(ctx context.Context, pgRestore, databaseURL, path string) error {
	path, err := filepath.Abs(path) // never taken for a flag
	if err != nil {
		return err
	}
	return run(ctx, io.Discard, pgRestore, databaseURL,
		"--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password", path)
}

// run runs one of PostgreSQL's programs on the database. The password goes
// through the environment: arguments are seen by everybody on the machine.
func run(ctx context.Context, out io.Writer, program, databaseURL string, args ...string) error {
	address, password, err := forLibpq(databaseURL)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"--dbname=" + address}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
	}
	var complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &complaint
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit):
		return fmt.Errorf("%s failed: %s", filepath.Base(program), lastLines(complaint.String()))
	default:
		return err
	}
}

// forLibpq returns the address as PostgreSQL's own programs take it: without
// the password, which is returned apart, and without pgx's parameters.
func forLibpq(databaseURL string) (address, password string, err error) {
	u, err := url.Parse(databaseURL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", "", errors.New("the database's address must be of the form postgres://user:password@host/database")
	}
	if u.User != nil {
		password, _ = u.User.Password()
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	if p := q.Get("password"); p != "" {
		password = p
	}
	for name := range q {
		if name == "password" || strings.HasPrefix(name, "pool_") || strings.HasSuffix(name, "_cache_capacity") || name == "default_query_exec_mode" {
			q.Del(name)
		}
	}
	// libpq takes a plus sign for itself, not for a space.
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String(), password, nil
}

// lastLines is enough of a program's complaint to know what is wrong.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
