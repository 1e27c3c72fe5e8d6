// Package postgres keeps everything that Portolan knows, one file per subject.
// It implements the stores that the use cases declare, and the reads of the
// pages. Rows are the truth; what it announces with NOTIFY is only a bell.
package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"portolan/internal/fleet"
)

// DB is Portolan's database.
type DB struct {
	pool *pgxpool.Pool

	// Enqueue inserts the job that makes a worker run an operation, in the
	// transaction that began it. It is set once, before the first operation.
	Enqueue func(ctx context.Context, tx pgx.Tx, operationID string, token int64) error

	phases memo[fleet.PhaseCounts] // of all workloads
	nav    memo[fleet.NavCounts]
	tiles  memo[fleet.ClusterCounts] // of all clusters
	names  memo[[]fleet.ClusterName]
	uses   memo[kubeconfigUses] // of the files in the kubeconfigs folder
}

// Options tune the connections.
type Options struct {
	// MaxConns bounds the pool; 0 = what the address says as pool_max_conns,
	// or else 16. pgxpool's own default, 4 on a small machine, makes pages wait
	// for each other.
	MaxConns int32
	// Name is shown in pg_stat_activity.
	Name string
}

const defaultMaxConns = 16

// Open makes the pool and one connection, to find out whether there is a
// database. It neither reads nor changes the schema: see Migrate and Ready.
func Open(ctx context.Context, url string, opts Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The parser's text may repeat the address, password and all.
		return nil, errors.New("postgres: the database's address cannot be understood")
	}
	switch {
	case opts.MaxConns > 0:
		config.MaxConns = opts.MaxConns
	case !strings.Contains(url, "pool_max_conns"):
		config.MaxConns = defaultMaxConns
	}
	config.ConnConfig.ConnectTimeout = 10 * time.Second
	params := config.ConnConfig.RuntimeParams
	params["timezone"] = "UTC"
	params["application_name"] = "portolan"
	if opts.Name != "" {
		params["application_name"] = opts.Name
	}
	// A transaction whose process hangs must not hold its locks for good.
	params["idle_in_transaction_session_timeout"] = "60s"
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		types := conn.TypeMap()
		types.RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID,
			Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		types.RegisterType(&pgtype.Type{
			Name: "jsonb", OID: pgtype.JSONBOID,
			Codec: &pgtype.JSONBCodec{Marshal: marshalStorable, Unmarshal: json.Unmarshal},
		})
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return &DB{pool: pool}, nil
}

// Pool is for the libraries that keep rows of their own here: the job queue
// and the sessions.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Close ends all connections, once they are idle.
func (db *DB) Close() { db.pool.Close() }

// inTx runs do in one transaction, which is kept only if it returns nil.
func (db *DB) inTx(ctx context.Context, do func(tx pgx.Tx) error) error {
	defer db.changed()
	return pgx.BeginFunc(ctx, db.pool, do)
}

// atOnce runs reads that see the database as it was at one moment, so that what
// they return fits together.
func (db *DB) atOnce(ctx context.Context, read func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, read)
}

// changed is called after what the kept counts count may have changed.
func (db *DB) changed() {
	db.phases.forget()
	db.nav.forget()
	db.tiles.forget()
	db.names.forget()
	db.uses.forget()
}
