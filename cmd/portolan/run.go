package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"portolan/internal/auth"
	"portolan/internal/observe"
	"portolan/internal/web"
	"portolan/static"
)

// shutdownTimeout bounds how long requests and jobs under way may take when
// the process is asked to end.
const shutdownTimeout = 10 * time.Second

// together runs the roles of a process until ctx ends or one of them fails;
// then the others are ended as well.
func together(ctx context.Context, roles ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, role := range roles {
		group.Go(func() error { return role(ctx) })
	}
	err := group.Wait()
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// serveWeb serves the pages until ctx ends.
func (p *parts) serveWeb(ctx context.Context, c webConfig) error {
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("PORTOLAN_LISTEN: %w", err)
	}
	defer listener.Close()
	tls, err := loadCertificate(c.TLSCert, c.TLSKey, p.log)
	if err != nil {
		return err
	}
	assets, err := static.New()
	if err != nil {
		return err
	}
	proxies, err := prefixes("PORTOLAN_TRUSTED_PROXIES", c.TrustedProxies)
	if err != nil {
		return err
	}
	accounts := auth.New(auth.Options{Store: p.db, Sessions: p.db.SessionStore(), Secure: web.Secure(c.PublicURL), Logger: p.log})
	token, err := p.firstAdmin(ctx, accounts, c)
	if err != nil {
		return err
	}
	server, err := web.New(web.Options{
		Context: ctx, Logger: p.log, Auth: accounts, Registry: p.registry, Operator: p.operator, Reads: p.db,
		Logs: logs{p.db, p.adapter}, Bell: p.bell, Assets: assets, Retention: p.keep, PublicURL: c.PublicURL, TrustedProxies: proxies,
		SealingOff: p.sealingOff(),
	})
	if err != nil {
		return err
	}
	scheme := "http://"
	if tls != nil {
		scheme = "https://"
	}
	address := cmp.Or(c.PublicURL, scheme+listener.Addr().String())
	p.log.Info("listening", "url", address)
	if token != "" {
		p.log.Info("there is no account yet: open this page to make the first one", "url", address+"/setup", "token", token)
	}
	roles := []func(context.Context) error{
		func(ctx context.Context) error { return serveHTTP(ctx, listener, server.Handler(), tls) },
	}
	if c.MetricsListen != "" {
		metrics, err := net.Listen("tcp", c.MetricsListen)
		if err != nil {
			return fmt.Errorf("PORTOLAN_METRICS_LISTEN: %w", err)
		}
		roles = append(roles, func(ctx context.Context) error { return serveHTTP(ctx, metrics, server.MetricsHandler(), nil) })
	}
	return together(ctx, roles...)
}

// firstAdmin makes the first account from the configuration, or returns the
// token with which /setup makes it.
func (p *parts) firstAdmin(ctx context.Context, accounts *auth.Service, c webConfig) (token string, err error) {
	switch {
	case c.AdminEmail != "" && c.AdminPassword != "":
		if err := accounts.EnsureAdmin(ctx, c.AdminEmail, c.AdminPassword); err != nil {
			return "", fmt.Errorf("PORTOLAN_ADMIN_EMAIL, PORTOLAN_ADMIN_PASSWORD: %w", err)
		}
		return "", nil
	case c.AdminEmail != "" || c.AdminPassword != "":
		return "", errors.New("PORTOLAN_ADMIN_EMAIL and PORTOLAN_ADMIN_PASSWORD go together: set both or none")
	default:
		return accounts.PrepareSetup(ctx)
	}
}

func (p *parts) sealingOff() string {
	if p.ring.CanSeal() {
		return ""
	}
	return "No encryption key is configured: set PORTOLAN_ENCRYPTION_KEYS."
}

// work runs operations, watches clusters and keeps their tests current, until
// ctx ends.
func (p *parts) work(ctx context.Context) error {
	installation, err := p.db.Installation(ctx)
	if err != nil {
		return err
	}
	observer := observe.New(p.db, p.clients, observe.Options{Holder: holder(), Installation: installation, Logger: p.log})
	return together(ctx,
		p.runJobs,
		func(ctx context.Context) error { return observer.Run(ctx) },
		func(ctx context.Context) error { p.registry.Run(ctx); return nil },
	)
}

// runJobs works at operations until ctx ends.
func (p *parts) runJobs(ctx context.Context) error {
	if err := p.jobs.Start(ctx); err != nil {
		return fmt.Errorf("job queue: %w", err)
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return p.jobs.Stop(stop)
}

// holder names this process in leases.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%d", host, os.Getpid(), time.Now().UnixNano())
}

// serveWorkerMetrics answers for a process that has no pages. Where nothing is
// configured, a second worker of one machine takes any free port.
func (p *parts) serveWorkerMetrics(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", cmp.Or(address, workerMetricsListen))
	if address == "" && errors.Is(err, syscall.EADDRINUSE) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return fmt.Errorf("PORTOLAN_METRICS_LISTEN: %w", err)
	}
	p.log.Info("worker is up", "metrics", "http://"+listener.Addr().String())
	return serveHTTP(ctx, listener, workerHandler(p.db), nil)
}

// newServer bounds what a connection may take. A client that sends its form, or
// takes its page, a byte at a time must not hold one for ever; streams set
// deadlines of their own.
func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// serveHTTP serves until ctx ends, then lets requests under way finish. With a
// certificate it serves by TLS.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, tls *certificate) error {
	server := newServer(handler)
	server.TLSConfig = tls.config()
	ended := make(chan error, 1)
	go func() {
		if tls != nil {
			ended <- server.ServeTLS(listener, "", "")
			return
		}
		ended <- server.Serve(listener)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(shutdown); err != nil {
		return server.Close()
	}
	return nil
}
