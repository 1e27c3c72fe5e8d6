package postgres

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"portolan/internal/fleet"
)

// SQLSTATE codes, from appendix A of PostgreSQL's manual.
const (
	foreignKeyViolation = "23503"
	uniqueViolation     = "23505"
	invalidText         = "22P02" // such as an id that is no UUID
	undefinedTable      = "42P01"
)

// violates reports whether err is PostgreSQL's error of that code.
func violates(err error, code string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == code
}

// violatesConstraint reports whether err says that the named constraint or
// unique index refused a row.
func violatesConstraint(err error, name string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.ConstraintName == name && (e.Code == uniqueViolation || e.Code == foreignKeyViolation)
}

// absent reports whether err means that there is no such row: none was found,
// or the id that was asked for cannot be one.
func absent(err error) bool {
	return errors.Is(err, pgx.ErrNoRows) || violates(err, invalidText)
}

// orNotFound replaces the error of an absent row by one to show.
func orNotFound(err error, format string, args ...any) error {
	if absent(err) {
		return fleet.NotFound(format, args...)
	}
	return err
}

// nullTime stores a zero time as NULL.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// timeOf reads NULL as a zero time.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
