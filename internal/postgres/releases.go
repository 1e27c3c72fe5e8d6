package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"portolan/internal/fleet"
)

type releaseRow struct {
	WorkloadID    string
	Number        int
	Spec          fleet.Spec
	SealedSecrets []byte
	SealedKeyID   string
	FromRelease   int
	Succeeded     bool
	CreatedBy     string
	CreatedAt     time.Time
}

const releaseColumns = `r.workload_id, r.number, r.spec, r.sealed_secrets, r.sealed_key_id, r.from_release, r.succeeded,
	r.created_by, r.created_at`

func (r releaseRow) release() fleet.Release {
	return fleet.Release{
		WorkloadID: r.WorkloadID, Number: r.Number, Spec: r.Spec, SealedSecrets: r.SealedSecrets,
		SealedKeyID: r.SealedKeyID, From: r.FromRelease, Succeeded: r.Succeeded,
		CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt,
	}
}

// insertRelease inserts a release with the next free number, and returns that.
// Only the one unfinished operation of a workload does this. seal, if not nil,
// gives it its sealed secrets.
func insertRelease(ctx context.Context, tx pgx.Tx, workloadID string, r fleet.Release, seal fleet.SealRelease) (number int, err error) {
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(number), 0) + 1 FROM releases WHERE workload_id = $1`, workloadID).Scan(&number); err != nil {
		return 0, err
	}
	if seal != nil {
		if r.SealedKeyID, r.SealedSecrets, err = seal(number); err != nil {
			return 0, err
		}
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO releases (workload_id, number, spec, sealed_secrets, sealed_key_id, from_release, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8, now()))`,
		workloadID, number, r.Spec, r.SealedSecrets, r.SealedKeyID, r.From, r.CreatedBy, nullTime(r.CreatedAt))
	if violates(err, foreignKeyViolation) {
		return 0, fleet.NotFound("There is no such workload.")
	}
	return number, err
}

// Release returns one release; CodeNotFound.
func (db *DB) Release(ctx context.Context, workloadID string, number int) (fleet.Release, error) {
	row, err := one[releaseRow](ctx, db.pool, `
		SELECT `+releaseColumns+` FROM releases r WHERE workload_id = $1 AND number = $2`, workloadID, number)
	if err != nil {
		return fleet.Release{}, fmt.Errorf("postgres: release: %w", orNotFound(err, "There is no release %d.", number))
	}
	return row.release(), nil
}

// EverUp reports whether any release of a workload has been up.
func (db *DB) EverUp(ctx context.Context, workloadID string) (bool, error) {
	var up bool
	err := db.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM releases WHERE workload_id = $1 AND succeeded)`, workloadID).Scan(&up)
	if err != nil && !absent(err) {
		return false, fmt.Errorf("postgres: ever up: %w", err)
	}
	return up, nil
}

// VolumeNames returns the names of the volumes of all releases of a workload: one
// that a release does not use any more is still there.
func (db *DB) VolumeNames(ctx context.Context, workloadID string) ([]string, error) {
	rows, err := db.pool.Query(ctx, `
		SELECT DISTINCT volume->>'name' AS name FROM releases r, jsonb_array_elements(r.spec->'volumes') AS volume
		WHERE r.workload_id = $1 ORDER BY name`, workloadID)
	if err != nil {
		return nil, fmt.Errorf("postgres: volume names: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("postgres: volume names: %w", err)
	}
	return names, nil
}

// Releases returns the newest 50 releases of a workload, without secrets, each
// with the latest operation that brings it up.
func (db *DB) Releases(ctx context.Context, workloadID string) ([]fleet.ReleaseRow, error) {
	type row struct {
		releaseRow
		OperationID string
		Verb        fleet.Verb
		State       fleet.OperationState
	}
	rows, err := many[row](ctx, db.pool, `
		SELECT r.workload_id, r.number, r.spec, NULL::bytea AS sealed_secrets, r.sealed_key_id, r.from_release,
			r.succeeded, r.created_by, r.created_at,
			coalesce(o.id::text, '') AS operation_id, coalesce(o.verb, '') AS verb, coalesce(o.state, '') AS state
		FROM releases r
		LEFT JOIN LATERAL (
			SELECT id, verb, state FROM operations
			WHERE workload_id = r.workload_id AND release = r.number ORDER BY number DESC LIMIT 1
		) o ON true
		WHERE r.workload_id = $1 ORDER BY r.number DESC LIMIT 50`, workloadID)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("postgres: releases: %w", err)
	}
	out := make([]fleet.ReleaseRow, len(rows))
	for i, r := range rows {
		out[i] = fleet.ReleaseRow{
			Release: r.release(),
			Latest:  fleet.OperationName{ID: r.OperationID, Verb: r.Verb, State: r.State},
		}
	}
	return out, nil
}
