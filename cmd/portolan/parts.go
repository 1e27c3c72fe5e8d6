package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"portolan/internal/adapter"
	"portolan/internal/fleet"
	"portolan/internal/jobs"
	"portolan/internal/kube"
	"portolan/internal/kube/cloud"
	"portolan/internal/notify"
	"portolan/internal/operate"
	"portolan/internal/postgres"
	"portolan/internal/registry"
	"portolan/internal/seal"
)

// parts are what the web pages and the worker have in common in one process.
type parts struct {
	log      *slog.Logger
	db       *postgres.DB
	bell     *notify.Bell
	ring     *seal.Keyring
	clients  *kube.Clients
	adapter  *adapter.Adapter
	registry *registry.Registry
	operator *operate.Operator
	jobs     *jobs.Queue
	keep     fleet.Retention
}

// assemble opens the database, brings its schema up to date and puts the parts
// together. Only a process that works runs jobs; any other just adds them.
// close ends the parts in the reverse order.
func assemble(ctx context.Context, log *slog.Logger, databaseURL string, ring *seal.Keyring, c clusterConfig, w workerConfig, keep fleet.Retention, works bool) (p *parts, err error) {
	// What client-go would print to standard error beside our own lines also
	// comes back as an error, and is told where it matters.
	klog.SetLogger(logr.Discard())
	if err := c.check(); err != nil {
		return nil, err
	}
	policy, err := c.policy()
	if err != nil {
		return nil, err
	}
	servers, err := c.cloudServers()
	if err != nil {
		return nil, err
	}
	p = &parts{log: log, ring: ring, keep: keep}
	begun := p // an error's return sets p to nil
	defer func() {
		if err != nil {
			begun.close()
		}
	}()
	if p.db, err = postgres.Open(ctx, databaseURL, postgres.Options{Name: "portolan"}); err != nil {
		return nil, err
	}
	if err = p.db.Migrate(ctx); err != nil {
		return nil, err
	}
	if p.bell, err = notify.Listen(ctx, databaseURL, log); err != nil {
		return nil, err
	}

	if _, err := os.Stat(c.KubeconfigsDir); err != nil { // it may still come
		log.Warn("the folder of mounted kubeconfigs cannot be read", "PORTOLAN_KUBECONFIGS_DIR", c.KubeconfigsDir, "err", err)
	}
	root := kube.OpenRoot(c.KubeconfigsDir)
	options := kube.Options{Version: version, Policy: policy, Cloud: cloud.Options{Servers: servers}}
	p.registry = registry.New(registry.Options{
		Store: p.db, Sealer: sealer{ring}, Kubeconfigs: kubeconfigs{root}, Tester: tester{kube.NewTester(options)},
		Logger: log, TestDeadline: c.TestDeadline, TestInterval: c.TestInterval, MaxTests: c.MaxTests,
		Changed: func(id string) { p.clients.Forget(id) },
	})
	p.clients = kube.NewClients(p.registry, options)
	p.adapter = adapter.New(p.clients, adapter.Options{Present: p.db.Cluster})
	p.operator = operate.New(operate.Options{
		Store: p.db, Adapter: p.adapter, Sealer: sealer{ring}, Targets: p.registry, Logger: log,
		Heartbeat: heartbeat(w.TakeoverAfter),
	})
	queue := jobs.Options{Logger: log, MaxWorkers: w.Workers, TakeoverAfter: w.TakeoverAfter}
	if works {
		queue.Runner, queue.Sweeper = p.operator, p.db
		queue.Retainer, queue.Retention = p.db, keep
	}
	if p.jobs, err = jobs.New(p.db.Pool(), queue); err != nil {
		return nil, fmt.Errorf("job queue: %w", err)
	}
	p.db.Enqueue = p.jobs.Enqueue
	return p, nil
}

// heartbeat leaves a holder four tries before it is taken for dead.
func heartbeat(takeoverAfter time.Duration) time.Duration {
	return max(100*time.Millisecond, takeoverAfter/5)
}

func (p *parts) close() {
	if p.registry != nil {
		p.registry.Close()
	}
	if p.clients != nil {
		p.clients.Close()
	}
	if p.bell != nil {
		p.bell.Close()
	}
	if p.db != nil {
		p.db.Close()
	}
}
