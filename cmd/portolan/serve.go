package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/localpg"
	"portolan/internal/seal"
)

type serveCmd struct {
	databaseConfig
	clusterConfig
	webConfig
	workerConfig
	retentionConfig
	logConfig
	DataDir string `env:"PORTOLAN_DATA_DIR" default:".portolan" help:"Folder of the private PostgreSQL and its encryption key, used when no database URL is given."`
}

// Run serves until ctx ends.
func (c serveCmd) Run(ctx context.Context) error { return untilTold(ctx, c.serve) }

func (c serveCmd) serve(ctx context.Context) error {
	log := c.logger()
	url := c.DatabaseURL
	if url == "" {
		pg, err := localpg.Start(ctx, localpg.Options{DataDir: c.DataDir, Logger: log})
		if err != nil {
			return err
		}
		defer func() {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			if stopErr := pg.Stop(stop); stopErr != nil {
				log.Error("stop the private PostgreSQL", "err", stopErr)
			}
		}()
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			<-pg.Done()
			cancel(errors.New("the private PostgreSQL has ended; its log is in the data folder"))
		}()
		url = pg.URL()
		log.Info("private PostgreSQL is up", "data", c.DataDir)
	}
	ring, err := c.ring(log)
	if err != nil {
		return err
	}
	p, err := assemble(ctx, log, url, ring, c.clusterConfig, c.workerConfig, c.retention(), true)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err) // where the database has ended meanwhile, that is why
	}
	defer p.close()
	return together(ctx,
		func(ctx context.Context) error { return p.serveWeb(ctx, c.webConfig) },
		func(ctx context.Context) error { return p.work(ctx) },
	)
}

// keyFile holds the keys of a private database, in its data folder.
const keyFile = "encryption.key"

// ring returns the configured keys. With a database of its own, a process that
// is given none makes one and keeps it beside the database.
func (c serveCmd) ring(log *slog.Logger) (*seal.Keyring, error) {
	if c.EncryptionKeys != "" || c.DatabaseURL != "" {
		return c.keyring()
	}
	path := filepath.Join(c.DataDir, keyFile)
	ring, created, err := seal.LoadOrCreateKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	if created {
		log.Warn("made an encryption key; without this file the kubeconfigs and secrets in the database cannot be read", "file", path)
	}
	return ring, nil
}

type webCmd struct {
	databaseConfig
	clusterConfig
	webConfig
	retentionConfig
	logConfig
}

// Run serves the pages until ctx ends.
func (c webCmd) Run(ctx context.Context) error { return untilTold(ctx, c.serve) }

func (c webCmd) serve(ctx context.Context) error {
	p, err := c.assemble(ctx, c.databaseConfig, c.clusterConfig, workerConfig{}, c.retention(), false)
	if err != nil {
		return err
	}
	defer p.close()
	return together(ctx, func(ctx context.Context) error { return p.serveWeb(ctx, c.webConfig) })
}

type workerCmd struct {
	databaseConfig
	clusterConfig
	workerConfig
	retentionConfig
	logConfig
	MetricsListen string `env:"PORTOLAN_METRICS_LISTEN" placeholder:"ADDRESS" help:"Address of /metrics, /healthz and /readyz; empty: 127.0.0.1:9464."`
}

// Run works until ctx ends.
func (c workerCmd) Run(ctx context.Context) error { return untilTold(ctx, c.work) }

func (c workerCmd) work(ctx context.Context) error {
	p, err := c.assemble(ctx, c.databaseConfig, c.clusterConfig, c.workerConfig, c.retention(), true)
	if err != nil {
		return err
	}
	defer p.close()
	return together(ctx,
		func(ctx context.Context) error { return p.serveWorkerMetrics(ctx, c.MetricsListen) },
		func(ctx context.Context) error { return p.work(ctx) },
	)
}

// assemble puts the parts together for a process that needs a database from
// outside.
func (l logConfig) assemble(ctx context.Context, d databaseConfig, c clusterConfig, w workerConfig, keep fleet.Retention, works bool) (*parts, error) {
	if d.DatabaseURL == "" {
		return nil, errors.New("PORTOLAN_DATABASE_URL is not set (only `portolan serve` can start a private PostgreSQL)")
	}
	ring, err := c.keyring()
	if err != nil {
		return nil, err
	}
	return assemble(ctx, l.logger(), d.DatabaseURL, ring, c, w, keep, works)
}
