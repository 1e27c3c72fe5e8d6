package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Channel is the one NOTIFY channel. A payload names what changed:
// operation:<id>, workload:<id> or cluster:<id>.
const Channel = "portolan"

func operationBell(id string) string { return "operation:" + id }
func workloadBell(id string) string  { return "workload:" + id }
func clusterBell(id string) string   { return "cluster:" + id }

// querier is the pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ringSQL takes the channel and the bells.
const ringSQL = "SELECT pg_notify($1, bell) FROM unnest($2::text[]) AS bell"

// ring rings the bells when the transaction commits.
func ring(ctx context.Context, q querier, bells ...string) error {
	_, err := q.Exec(ctx, ringSQL, Channel, bells)
	return err
}

// queueRing is ring as part of a batch.
func queueRing(batch *pgx.Batch, bells ...string) { batch.Queue(ringSQL, Channel, bells) }
