// Package postgrestest gives each test a database of its own, on a real
// PostgreSQL: the one that PORTOLAN_TEST_DATABASE_URL names, or else a private
// one that lives as long as the test process.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"portolan/internal/localpg"
	"portolan/internal/postgres"
)

// Variable names the server to use, by the URL of a database on it whose role
// may create databases.
const Variable = "PORTOLAN_TEST_DATABASE_URL"

// patience bounds what is over in a second, on a machine that has much else to
// do.
const patience = 5 * time.Minute

// server is what the test process's databases are made on.
type server struct {
	url      string // of a database to make others from
	template string // name of the migrated database
	admin    *pgxpool.Pool
	private  *localpg.Server
	dir      string
}

var (
	inMain  atomic.Bool
	started *server
	start   = sync.OnceValues(func() (*server, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s := &server{}
		started = s // what has begun is ended by Main, even half done
		return s, s.start(ctx)
	})
	databases atomic.Int64
)

// Main runs a package's tests and then ends what they shared. TestMain calls
// it: func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }
func Main(m *testing.M) int {
	inMain.Store(true)
	code := m.Run()
	if started != nil {
		if err := started.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "postgrestest:", err)
			code = max(code, 1)
		}
	}
	return code
}

// New returns a migrated database that is dropped when the test ends.
func New(t testing.TB) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), MigratedURL(t), postgres.Options{Name: "portolan-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// MigratedURL returns the address of a migrated database that is dropped when
// the test ends. It is an installation of its own.
func MigratedURL(t testing.TB) string {
	t.Helper()
	s := shared(t)
	address := s.create(t, s.template)
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "UPDATE settings SET installation_id = gen_random_uuid()"); err != nil {
		t.Fatal(err)
	}
	return address
}

// URL returns the address of an empty database without a schema, which is
// dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return shared(t).create(t, "template0")
}

// Waits reports whether somebody waits for a lock of a table of db's.
func Waits(t testing.TB, db *postgres.DB, table string) (waits bool) {
	t.Helper()
	if err := db.Pool().QueryRow(t.Context(), `
		SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::regclass AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`, table).Scan(&waits); err != nil {
		t.Fatal(err)
	}
	return waits
}

func shared(t testing.TB) *server {
	t.Helper()
	if !inMain.Load() {
		t.Fatal("this package's TestMain must call postgrestest.Main")
	}
	s, err := start()
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	return s
}

func (s *server) start(ctx context.Context) error {
	s.url = os.Getenv(Variable)
	if s.url == "" {
		removeLeftovers()
		s.dir = filepath.Join(os.TempDir(), folderPrefix+strconv.Itoa(os.Getpid()))
		private, err := localpg.Start(ctx, localpg.Options{DataDir: s.dir, Unsafe: true})
		if err != nil {
			return err
		}
		s.private, s.url = private, private.URL()
	}
	admin, err := pgxpool.New(ctx, s.url)
	if err != nil {
		return err
	}
	s.admin = admin
	s.template = databaseName()
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+s.template+" TEMPLATE template0"); err != nil {
		return err
	}
	db, err := postgres.Open(ctx, s.urlOf(s.template), postgres.Options{Name: "portolan-test"})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Migrate(ctx)
}

func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	if s.admin != nil {
		if s.private == nil && s.template != "" {
			errs = append(errs, s.exec(ctx, "DROP DATABASE IF EXISTS "+s.template+" WITH (FORCE)"))
		}
		s.admin.Close()
	}
	if s.private != nil {
		errs = append(errs, s.private.Stop(ctx))
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// create makes a database from a template and drops it when the test ends.
func (s *server) create(t testing.TB, template string) string {
	t.Helper()
	name := databaseName()
	if err := s.exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.exec(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return s.urlOf(name)
}

// exec runs a statement about a whole database. The server gives its other
// processes 5 s to leave that database, and then refuses (object_in_use of
// appendix A of its manual); one of its own, such as a vacuum, it does not let us
// send away for a DROP at all (insufficient_privilege). They are waited for.
func (s *server) exec(ctx context.Context, sql string) error {
	const objectInUse, insufficientPrivilege = "55006", "42501"
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := s.admin.Exec(ctx, sql)
		var refusal *pgconn.PgError
		if !errors.As(err, &refusal) {
			return err
		}
		if refusal.Code != objectInUse && (refusal.Code != insufficientPrivilege || !strings.HasPrefix(sql, "DROP ")) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *server) urlOf(database string) string {
	u, err := url.Parse(s.url)
	if err != nil {
		return s.url // pgxpool has understood it; it is not of the URL form
	}
	u.Path = "/" + database
	return u.String()
}

// databaseName is unique among the processes that share a server.
func databaseName() string {
	return fmt.Sprintf("portolan_test_%d_%d_%d", os.Getpid(), time.Now().UnixNano()%1_000_000_000, databases.Add(1))
}

const folderPrefix = "portolan-test-postgres-"

// removeLeftovers removes the folders of test processes that were killed.
// Their servers have ended with them.
func removeLeftovers() {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	if err != nil {
		return
	}
	for _, folder := range folders {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(folder), folderPrefix))
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(folder)
		}
	}
}
