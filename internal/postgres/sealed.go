package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"portolan/internal/fleet"
)

// sealedColumn is a place where sealed values are kept.
type sealedColumn struct {
	kind    string // what people call them
	purpose string
	table   string
	key     []sealedKeyPart // the primary key
	keyID   string          // the column of the encryption key's id
	data    string          // the column of the sealed bytes, which may be null
	subject string          // SQL: whose the value is
	former  string          // SQL: whose values of an earlier time are; '' = as above
}

type sealedKeyPart struct{ column, sqlType string }

// sealedColumns are all places where sealed values are kept: whatever is added
// here is counted and rotated by portolan keys.
var sealedColumns = []sealedColumn{
	{
		kind: "kubeconfigs", purpose: fleet.PurposeKubeconfig, table: "cluster_credentials",
		key:   []sealedKeyPart{{"cluster_id", "text"}},
		keyID: "key_id", data: "sealed", subject: "cluster_id", former: "''",
	},
	{
		kind: "cloud credentials", purpose: fleet.PurposeCloudCredential, table: "cluster_cloud_credentials",
		key:   []sealedKeyPart{{"cluster_id", "text"}},
		keyID: "key_id", data: "sealed", subject: "cluster_id", former: "''",
	},
	{
		kind: "release secrets", purpose: fleet.PurposeReleaseSecrets, table: "releases",
		key:   []sealedKeyPart{{"workload_id", "uuid"}, {"number", "integer"}},
		keyID: "sealed_key_id", data: "sealed_secrets",
		subject: "workload_id::text || '/' || number", former: "workload_id::text",
	},
}

// SealedKinds are the kinds of sealed values that are kept.
func (*DB) SealedKinds() []string {
	out := make([]string, len(sealedColumns))
	for i, c := range sealedColumns {
		out[i] = c.kind
	}
	return out
}

func sealedColumnOf(kind string) (sealedColumn, error) {
	at := slices.IndexFunc(sealedColumns, func(c sealedColumn) bool { return c.kind == kind })
	if at < 0 {
		return sealedColumn{}, fmt.Errorf("postgres: no sealed values are called %q", kind)
	}
	return sealedColumns[at], nil
}

// SealedValues returns the sealed values of a kind by the keys of their rows, at
// most limit of them, from behind the row after; nil = from the first.
func (db *DB) SealedValues(ctx context.Context, kind string, after []string, limit int) ([]fleet.SealedValue, error) {
	c, err := sealedColumnOf(kind)
	if err != nil {
		return nil, err
	}
	var columns, texts, placeholders []string
	args := []any{limit, c.purpose}
	for i, part := range c.key {
		columns = append(columns, part.column)
		texts = append(texts, part.column+"::text")
		if after != nil {
			args = append(args, after[i])
			placeholders = append(placeholders, fmt.Sprintf("$%d::text::%s", len(args), part.sqlType))
		}
	}
	where := fmt.Sprintf("octet_length(%s) > 0", c.data)
	if after != nil {
		where += fmt.Sprintf(" AND (%s) > (%s)", strings.Join(columns, ", "), strings.Join(placeholders, ", "))
	}
	values, err := many[fleet.SealedValue](ctx, db.pool, fmt.Sprintf(`
		SELECT ARRAY[%s] AS row, %s AS key_id, %s AS data, $2::text AS purpose, %s AS subject, %s AS former
		FROM %s WHERE %s ORDER BY %s LIMIT $1`,
		strings.Join(texts, ", "), c.keyID, c.data, c.subject, c.former, c.table, where, strings.Join(columns, ", ")), args...)
	return values, wrap("sealed values", err)
}

// CountSealed returns how many sealed values of a kind there are.
func (db *DB) CountSealed(ctx context.Context, kind string) (n int, err error) {
	c, err := sealedColumnOf(kind)
	if err != nil {
		return 0, err
	}
	err = db.pool.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM %s WHERE octet_length(%s) > 0`, c.table, c.data)).Scan(&n)
	return n, wrap("count sealed values", err)
}

// ReplaceSealed puts values that were sealed anew in the place of the old ones,
// in one transaction, and returns how many. A value that is not the old one any
// more is left alone: somebody has saved another secret meanwhile.
func (db *DB) ReplaceSealed(ctx context.Context, kind string, changes []fleet.SealedChange) (replaced int, err error) {
	c, err := sealedColumnOf(kind)
	if err != nil || len(changes) == 0 {
		return 0, err
	}
	where := make([]string, len(c.key))
	for i, part := range c.key {
		where[i] = fmt.Sprintf("%s = $%d::text::%s", part.column, i+5, part.sqlType)
	}
	sql := fmt.Sprintf(`UPDATE %s SET %s = $1, %s = $2 WHERE %s = $3 AND %s = $4 AND %s`,
		c.table, c.keyID, c.data, c.keyID, c.data, strings.Join(where, " AND "))
	err = db.inTx(ctx, func(tx pgx.Tx) error {
		replaced = 0
		batch := &pgx.Batch{}
		for _, change := range changes {
			args := []any{change.KeyID, change.Data, change.Old.KeyID, change.Old.Data}
			for _, part := range change.Old.Row {
				args = append(args, part)
			}
			batch.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
				replaced += int(tag.RowsAffected())
				return nil
			})
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	return replaced, wrap("replace sealed values", err)
}
