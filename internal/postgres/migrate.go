package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"portolan/migrations"
)

// Migrate brings the schema up to date. Processes that start together do it
// one after the other.
func (db *DB) Migrate(ctx context.Context) error {
	// Not through the pool: its connections keep statements of the old schema.
	conns := stdlib.OpenDB(*db.pool.Config().ConnConfig)
	defer conns.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, conns, migrations.Files,
		goose.WithSessionLocker(migrationLock{}), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("postgres: migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("postgres: migrate: %w", err)
	}
	return nil
}

// migrationLock waits in the database, so that whoever comes second goes on
// the moment the first has ended; goose's own lock asks again after seconds.
type migrationLock struct{}

// migrationLockID is "portolan" as bytes.
const migrationLockID int64 = 0x706f72746f6c616e

func (migrationLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", migrationLockID)
	return err
}

func (migrationLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", migrationLockID)
	return err
}

// ErrNotMigrated says that the database answers but its schema is older than
// the program.
var ErrNotMigrated = errors.New("postgres: the schema is not up to date: run portolan migrate")

// Ready returns nil when the database answers and its schema is current. A
// newer schema is fine: that is what a process sees while it is replaced.
func (db *DB) Ready(ctx context.Context) error {
	want, err := latestMigration()
	if err != nil {
		return err
	}
	var have int64
	err = db.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&have)
	switch {
	case violates(err, undefinedTable):
		return ErrNotMigrated
	case err != nil:
		return fmt.Errorf("postgres: %w", err)
	case have < want:
		return ErrNotMigrated
	}
	return nil
}

// latestMigration is the number of the newest embedded migration.
var latestMigration = sync.OnceValues(func() (int64, error) {
	entries, err := migrations.Files.ReadDir(".")
	if err != nil {
		return 0, fmt.Errorf("postgres: migrations: %w", err)
	}
	version, err := goose.NumericComponent(entries[len(entries)-1].Name())
	if err != nil {
		return 0, fmt.Errorf("postgres: migrations: %w", err)
	}
	return version, nil
})
