//go:build unix

package localpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// helperDir makes the test binary a process that owns a server, so that a test can kill the owner.
const helperDir = "LOCALPG_TEST_HELPER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		os.Exit(ownServer(dir))
	}
	os.Exit(m.Run())
}

func ownServer(dir string) int {
	s, err := Start(context.Background(), Options{DataDir: dir, Unsafe: true})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println(s.URL(), s.process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed
	return 0
}

// patience bounds one step, on a machine that has much else to do.
const patience = 3 * time.Minute

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(testContext(t), Options{DataDir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	if _, err := connect(t, url).Exec(testContext(t), sql); err != nil {
		t.Fatal(err)
	}
}

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	var value T
	if err := connect(t, url).QueryRow(testContext(t), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// reachableDir is a data folder that every user can get to; t.TempDir itself lies below a folder of root's alone when
// root runs the tests.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

// privateDir is a data folder below one that only the present user may enter.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

func TestDataOutlivesTheServer(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"reachable folder": reachableDir(t), "private folder": privateDir(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, dir)
			execute(t, s.URL(), "CREATE TABLE harbour (name text); INSERT INTO harbour VALUES ('Piræus')")
			stop(t, s)
			stop(t, s) // again does nothing
			select {
			case <-s.Done():
			default:
				t.Fatal("Done is open after Stop")
			}

			began := time.Now()
			s = start(t, dir)
			t.Logf("warm start took %v", time.Since(began))
			if got := query[string](t, s.URL(), "SELECT upper(name) FROM harbour"); got != "PIRÆUS" {
				t.Errorf("read %q", got)
			}
		})
	}
}

func TestRoleMayCreateDatabasesButIsNoSuperuser(t *testing.T) {
	t.Parallel()
	s := start(t, privateDir(t))
	if query[bool](t, s.URL(), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") {
		t.Error("the role is a superuser")
	}
	execute(t, s.URL(), "CREATE DATABASE another")
	execute(t, s.URL(), "CREATE TABLE in_public (id int)")
	if got := query[string](t, s.URL(), "SHOW listen_addresses"); got != "" {
		t.Errorf("listens on %q", got)
	}
	if got := query[string](t, s.URL(), "SHOW server_encoding"); got != "UTF8" {
		t.Errorf("encoding is %q", got)
	}
}

func TestDurableUnlessUnsafe(t *testing.T) {
	t.Parallel()
	s, err := Start(testContext(t), Options{DataDir: privateDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if got := query[string](t, s.URL(), "SHOW "+setting); got != "on" {
			t.Errorf("%s is %s", setting, got)
		}
	}
}

func TestSocketIsPrivate(t *testing.T) {
	t.Parallel()
	s := start(t, reachableDir(t))
	info, err := os.Stat(s.socketDir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory has mode %v", info.Mode())
	}
	if info, err = os.Stat(socketPath(s.socketDir)); err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the socket has mode %v", info.Mode())
	}
}

func TestLongPathGetsShortSocketDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(reachableDir(t), strings.Repeat("far", 40))
	s := start(t, dir)
	if n := len(socketPath(s.socketDir)); n > maxSocketPath {
		t.Errorf("the socket's path has %d bytes", n)
	}
	if got := query[int](t, s.URL(), "SELECT 1"); got != 1 {
		t.Errorf("read %d", got)
	}
	short := s.socketDir
	stop(t, s)
	if _, err := os.Stat(short); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", short, err)
	}
}

func TestForeignSocketDirIsNotUsed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "taken")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := makePrivateDir(dir, account{how: same, uid: os.Getuid(), gid: os.Getgid()}); err == nil {
		t.Error("a directory open to others was taken for private")
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	start(t, dir)
	_, err := Start(testContext(t), Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "in use by another portolan process (pid "+strconv.Itoa(os.Getpid())+")") {
		t.Errorf("got %v", err)
	}
}

func TestServerDiesWithItsKilledOwner(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"reachable folder": reachableDir(t), "private folder": privateDir(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			owner := exec.CommandContext(testContext(t), os.Args[0])
			owner.Env = append(os.Environ(), helperDir+"="+dir, "PORTOLAN_ENCRYPTION_KEYS=not-for-postgresql")
			owner.Stderr = os.Stderr
			if _, err := owner.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			stdout, err := owner.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := owner.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(stdout).ReadString('\n')
			url, pid, ok := strings.Cut(strings.TrimSpace(line), " ")
			if err != nil || !ok || url == "error" {
				t.Fatalf("helper said %q, %v", line, err)
			}
			if environ, err := os.ReadFile("/proc/" + pid + "/environ"); err == nil && strings.Contains(string(environ), "not-for-postgresql") {
				t.Error("PostgreSQL was given a secret of the environment")
			}
			execute(t, url, "CREATE TABLE harbour (name text); INSERT INTO harbour VALUES ('Ostia')")

			if err := owner.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = owner.Wait() // its error is the kill
			if runtime.GOOS == "linux" {
				awaitNoPostgres(t, dir)
			}
			s := start(t, dir)
			if got := query[string](t, s.URL(), "SELECT name FROM harbour"); got != "Ostia" {
				t.Errorf("read %q", got)
			}
		})
	}
}

// awaitNoPostgres waits until every PostgreSQL process of the folder has ended by itself.
func awaitNoPostgres(t *testing.T, dir string) {
	t.Helper()
	ctx := testContext(t)
	lock, err := os.OpenFile(filepath.Join(dir, "postgres.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for tryLock(lock) != nil {
		select {
		case <-ctx.Done():
			t.Fatal("PostgreSQL outlived the process that started it")
		case <-tick.C:
		}
	}
}

func TestOrphanIsStoppedByTheNextStart(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	orphan := start(t, dir)
	execute(t, orphan.URL(), "CREATE TABLE harbour (name text); INSERT INTO harbour VALUES ('Tyre')")
	// What the kernel does when the owner is killed where there is no parent-death signal.
	giveFolder(orphan.ownLock) // not merely closed: a parallel test's process that is being started may hold a copy
	orphan.postgresLock.Close()

	s := start(t, dir)
	select {
	case <-orphan.Done():
	case <-time.After(patience):
		t.Fatal("the orphan still runs")
	}
	if got := query[string](t, s.URL(), "SELECT name FROM harbour"); got != "Tyre" {
		t.Errorf("read %q", got)
	}
}

func TestCrashedServerIsRecovered(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	s := start(t, dir)
	execute(t, s.URL(), "CREATE TABLE harbour (name text); INSERT INTO harbour VALUES ('Gades')")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.shutdown(canceled); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	s.release()
	s.stopOnce.Do(func() {})
	// The pid of a crashed server may belong to anything by now, here to this test.
	for _, path := range []string{pidFile(s.filesDir), socketPath(s.socketDir) + ".lock"} {
		if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n%s\n0\n%d\n%s\n\n\n", os.Getpid(), s.filesDir, port, s.socketDir), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = start(t, dir)
	if got := query[string](t, s.URL(), "SELECT name FROM harbour"); got != "Gades" {
		t.Errorf("read %q", got)
	}
}

func TestInterruptedCreationIsBegunAgain(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "postgres.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	if got := query[int](t, s.URL(), "SELECT 1"); got != 1 {
		t.Errorf("read %d", got)
	}
}

func TestFolderMayMoveBetweenAccounts(t *testing.T) {
	t.Parallel()
	from, to := privateDir(t), reachableDir(t)
	stop(t, start(t, from))
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, to))
	if err := os.Rename(to, from); err != nil {
		t.Fatal(err)
	}
	start(t, from)
}

func TestFailedStartShowsTheLog(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	s := start(t, dir)
	stop(t, s)
	config := filepath.Join(s.filesDir, "postgresql.conf")
	if err := os.WriteFile(config, []byte("no_such_setting = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(testContext(t), Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v", err)
	}
}

func TestFilesOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	s := start(t, dir)
	stop(t, s)
	if err := os.WriteFile(filepath.Join(s.filesDir, "PG_VERSION"), []byte("8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(testContext(t), Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "written by PostgreSQL 8") {
		t.Errorf("got %v", err)
	}
}

func TestFolderThatIsNotADatabase(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "postgres", "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(testContext(t), Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "not a PostgreSQL data directory") {
		t.Errorf("got %v", err)
	}
}

func TestBinaries(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	install := func(dir, version string, programs ...string) string {
		dir = filepath.Join(base, dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, program := range programs {
			script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + ".3 (Test)'\n"
			// A process that a parallel test starts meanwhile would hold a copy of the open file, and Linux runs no
			// program that somebody may still write to.
			syscall.ForkLock.RLock()
			err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755)
			syscall.ForkLock.RUnlock()
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	lone := install("lone", "12", "postgres")
	install("lib/9/bin", "9", "initdb", "postgres")
	install("lib/16/bin", "16", "initdb", "postgres")
	install("lib/17/bin", "17", "postgres")
	links := install("links", "0")
	if err := os.Symlink(filepath.Join(base, "lib/9/bin/initdb"), filepath.Join(links, "initdb")); err != nil {
		t.Fatal(err)
	}
	places := []string{filepath.Join(base, "lib/*/bin")}
	none := filepath.Join(base, "none")

	tests := map[string]struct {
		path    []string
		written string
		major   string
		err     string
	}{
		"newest complete one":       {path: []string{lone, "relative"}, major: "16"},
		"the path comes first":      {path: []string{lone, links}, major: "9"},
		"the one that wrote it":     {written: "9\n", major: "9"},
		"none that could have been": {written: "14\n", err: "written by PostgreSQL 14, but this machine has 16 and 9: install PostgreSQL 14"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			filesDir := none
			if test.written != "" {
				filesDir = t.TempDir()
				if err := os.WriteFile(filepath.Join(filesDir, "PG_VERSION"), []byte(test.written), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			bin, err := findBinaries(filesDir, candidateDirs(test.path, places))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if bin.major != test.major {
				t.Errorf("found %s", bin.major)
			}
		})
	}

	if _, err := findBinaries(none, candidateDirs([]string{lone}, nil)); !errors.Is(err, ErrNotInstalled) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestARunningServerIsFound(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	if url, ok := Running(dir); ok {
		t.Errorf("before it is there: %s", url)
	}
	s := start(t, dir)
	if url, ok := Running(dir); !ok || url != s.URL() {
		t.Errorf("%q, not %q", url, s.URL())
	}
	stop(t, s)
	if url, ok := Running(dir); ok {
		t.Errorf("after its end: %s", url)
	}
}

func TestToolsFitTheServer(t *testing.T) {
	t.Parallel()
	if path, err := Tool("pg_dump", 1); err != nil || filepath.Base(path) != "pg_dump" {
		t.Errorf("%s %v", path, err)
	}
	if path, err := Tool("pg_dump", 9999); err == nil || !strings.Contains(err.Error(), "install that of version 9999") {
		t.Errorf("%s %v", path, err)
	}
	// In Portolan's own image nothing can be installed.
	if path, err := Tool("pg_no_such_tool", 1); err == nil || !strings.Contains(err.Error(), "pg_no_such_tool is there and can be run in it") {
		t.Errorf("%s %v", path, err)
	}
}
