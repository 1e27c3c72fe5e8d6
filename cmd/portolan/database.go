package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"portolan/internal/localpg"
	"portolan/internal/postgres"
	"portolan/internal/seal"
)

// storeConfig is how a command finds the database of an installation, the
// private one of `portolan serve` as well.
type storeConfig struct {
	databaseConfig
	DataDir string `env:"PORTOLAN_DATA_DIR" default:".portolan" help:"Folder of the private PostgreSQL and its encryption key, used when no database URL is given, whether portolan serve runs on it or not."`
}

// source returns the address of the database. A private one is used while
// Portolan runs on it, or else started, until end is called; none is made.
func (c storeConfig) source(ctx context.Context) (url string, end func(), err error) {
	if c.DatabaseURL != "" {
		return c.DatabaseURL, func() {}, nil
	}
	if url, ok := localpg.Running(c.DataDir); ok {
		return url, func() {}, nil
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, "postgres")); err != nil {
		return "", nil, fmt.Errorf("PORTOLAN_DATABASE_URL is not set, and there is no private database in PORTOLAN_DATA_DIR: %w", err)
	}
	private, err := startPrivate(ctx, c.DataDir)
	if err != nil {
		return "", nil, err
	}
	return private.URL(), func() { stopPrivate(ctx, private) }, nil
}

// open connects to the database and brings its schema up to date, as whichever
// process comes first does. end releases it.
func (c storeConfig) open(ctx context.Context, name string) (db *postgres.DB, end func(), err error) {
	url, stop, err := c.source(ctx)
	if err != nil {
		return nil, nil, err
	}
	if db, err = postgres.Open(ctx, url, postgres.Options{Name: name}); err != nil {
		stop()
		return nil, nil, err
	}
	end = func() { db.Close(); stop() }
	if err := db.Migrate(ctx); err != nil {
		end()
		return nil, nil, err
	}
	return db, end, nil
}

// keyring returns the given keys. Without any, those of a private database are
// in its folder; where they are missing there, as after a restore, there is none.
func (c storeConfig) keyring(keys string) (*seal.Keyring, error) {
	if keys == "" && c.DatabaseURL == "" {
		ring, err := seal.LoadKeyFile(filepath.Join(c.DataDir, keyFile))
		switch {
		case err == nil:
			return ring, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("encryption key: %w", err)
		}
	}
	ring, err := seal.ParseKeyring(keys)
	if err != nil {
		return nil, fmt.Errorf("PORTOLAN_ENCRYPTION_KEYS: %w", err)
	}
	return ring, nil
}

func startPrivate(ctx context.Context, dataDir string) (*localpg.Server, error) {
	return localpg.Start(ctx, localpg.Options{DataDir: dataDir, Logger: slog.New(slog.DiscardHandler)})
}

func stopPrivate(ctx context.Context, private *localpg.Server) {
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	_ = private.Stop(stop) // what was written is written
}
