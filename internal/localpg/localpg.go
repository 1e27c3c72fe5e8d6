//go:build unix

// Package localpg runs a private PostgreSQL for a single machine, so that `portolan serve` needs no database to be set up.
//
// The server is made from the PostgreSQL already installed on the machine and keeps everything in one folder:
//
//	serve.lock     held by the Portolan process that owns the folder
//	postgres.lock  held by every PostgreSQL process that works in it, so that orphans are seen whatever their pid
//	postgres.log   what PostgreSQL wrote
//	postgres/      the database files, and the socket where its path is short enough
//
// It listens on a Unix socket only, in a directory that only its own account may enter, and lets in only the
// operating-system account that started it. It ends with the process that started it, even when that one is killed.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	roleName     = "portolan" // owns the database, may create others, is not a superuser
	databaseName = "portolan"
	port         = 5432 // only part of the socket's name

	// How long a server that is told to stop at once may take before it is killed.
	immediateShutdownLimit = 5 * time.Second
)

// Options say where the server keeps its files and how it treats them.
type Options struct {
	// DataDir is the folder that holds everything. It is made when missing.
	DataDir string
	// Logger receives what a person should know about starting and stopping. Nil discards it.
	Logger *slog.Logger
	// Unsafe is for tests: nothing is flushed to disk, so that a power cut (though not a kill) may lose everything, and
	// 400 connections instead of 100 are allowed, for many databases side by side.
	Unsafe bool
}

// Server is a running private PostgreSQL.
type Server struct {
	dataDir   string // the folder of Options
	filesDir  string // PostgreSQL's own data directory in it
	socketDir string
	unsafe    bool
	logger    *slog.Logger
	account   account
	bin       binaries

	ownLock      *os.File // serve.lock
	postgresLock *os.File // postgres.lock, inherited by every PostgreSQL process

	process *os.Process
	exited  chan struct{} // closed when the postmaster has ended
	exit    error         // its exit status, readable after exited is closed

	stopOnce sync.Once
	stopErr  error
}

// Start makes the database when there is none, starts the server and returns when it accepts connections.
//
// It fails when no PostgreSQL is installed, when another process uses the folder, or when the files were written by a
// major version of PostgreSQL that is not installed. A server left over from a killed process is stopped first. ctx
// bounds the start only; the server runs until Stop, or until this process ends.
func Start(ctx context.Context, opts Options) (*Server, error) {
	s, err := prepare(opts)
	if err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	if err := s.start(ctx); err != nil {
		s.release()
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	return s, nil
}

// prepare makes the folder and takes it for this process.
func prepare(opts Options) (*Server, error) {
	if opts.DataDir == "" {
		return nil, errors.New("no data folder given")
	}
	dir, err := filepath.Abs(opts.DataDir)
	if err != nil {
		return nil, err
	}
	if err := makeDataDir(dir); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	s := &Server{
		dataDir:  dir,
		filesDir: filepath.Join(dir, "postgres"),
		unsafe:   opts.Unsafe,
		logger:   opts.Logger,
		exited:   make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.ownLock, err = takeFolder(dir); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	began := time.Now()
	if s.account, err = chooseAccount(s.dataDir); err != nil {
		return err
	}
	if s.postgresLock, err = s.endOrphans(ctx); err != nil {
		return err
	}
	if s.bin, err = findBinaries(s.filesDir, candidateDirs(filepath.SplitList(os.Getenv("PATH")), usualPlaces)); err != nil {
		return err
	}
	if err := s.ensureFiles(ctx); err != nil {
		return err
	}
	if s.socketDir, err = makeSocketDir(s.filesDir, s.account); err != nil {
		return err
	}
	if err := s.launch(ctx); err != nil {
		return err
	}
	s.logger.Info("private PostgreSQL is ready", "version", s.bin.major, "folder", s.dataDir, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// launch starts the postmaster and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	log, err := openLog(filepath.Join(s.dataDir, "postgres.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command(syscall.SIGINT, s.bin.postgres, s.settings()...)
	cmd.Stdout, cmd.Stderr = log.file, log.file

	started := make(chan error, 1)
	go func() {
		// The kernel ties the parent-death signal to the thread that forked, so this thread is kept for as long as the
		// postmaster lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			s.exit = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process = cmd.Process
	return s.awaitReady(ctx, log)
}

// awaitReady follows the status line that the postmaster keeps in its pid file, as pg_ctl does.
func (s *Server) awaitReady(ctx context.Context, log *serverLog) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if pm, ok := readPostmaster(s.filesDir); ok && pm.ready && pm.pid == s.process.Pid {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server ended while starting (%v); the end of %s:\n%s", s.exit, log.file.Name(), log.tail())
		case <-ctx.Done():
			return fmt.Errorf("the server was not ready in time: %w; the end of %s:\n%s", ctx.Err(), log.file.Name(), log.tail())
		case <-tick.C:
		}
	}
}

// settings are the postmaster's arguments. They are given at each start, so that no configuration file grows stale.
func (s *Server) settings() []string {
	args := []string{"-D", s.filesDir}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	set("listen_addresses", "")
	set("port", strconv.Itoa(port))
	// A list whose items may be quoted: the quotes keep a comma in the path from splitting it.
	set("unix_socket_directories", `"`+s.socketDir+`"`)
	set("unix_socket_permissions", "0700")
	set("shared_buffers", "64MB")
	set("max_wal_size", "256MB")
	set("jit", "off")
	set("timezone", "UTC")
	set("log_timezone", "UTC")
	set("log_line_prefix", "%m [%p] ")
	// Statements and the values in error details may hold secrets: they stay out of the log.
	set("log_min_error_statement", "panic")
	set("log_error_verbosity", "terse")
	if s.unsafe {
		set("max_connections", "400")
		set("fsync", "off")
		set("full_page_writes", "off")
	} else {
		set("max_connections", "100")
	}
	return args
}

// command is a PostgreSQL program run under the server's account; it receives onDeath when this process dies. It
// inherits postgres.lock and, of the environment, only what finding libraries needs: the rest may hold secrets.
func (s *Server) command(onDeath syscall.Signal, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.ExtraFiles = []*os.File{s.postgresLock}
	cmd.SysProcAttr = s.account.attributes(onDeath)
	return cmd
}

// URL is the connection string for pgx: the database "portolan", as a role that owns it and may create databases.
func (s *Server) URL() string { return socketURL(s.socketDir) }

// Done is closed when the server has ended, whether through Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.exited }

// Stop ends the server cleanly: connections are cut, everything is written. When ctx ends first, the server is stopped
// at once and repairs itself at the next start. Further calls return what the first did.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		if err := s.shutdown(ctx); err != nil {
			s.stopErr = fmt.Errorf("private PostgreSQL: %w", err)
		}
		s.release()
	})
	return s.stopErr
}

func (s *Server) shutdown(ctx context.Context) error {
	if ctx.Err() == nil {
		s.signal(syscall.SIGINT)
	}
	select {
	case <-s.exited:
		if s.exit != nil {
			return fmt.Errorf("the server ended badly: %w; see %s", s.exit, filepath.Join(s.dataDir, "postgres.log"))
		}
		return nil
	case <-ctx.Done():
		s.kill()
		return fmt.Errorf("the server was stopped at once: %w", ctx.Err())
	}
}

// kill ends the server without letting it finish.
func (s *Server) kill() {
	s.signal(syscall.SIGQUIT)
	select {
	case <-s.exited:
	case <-time.After(immediateShutdownLimit):
		s.signal(syscall.SIGKILL)
		<-s.exited
	}
}

// signal ignores errors: the only one possible is that the server has already ended.
func (s *Server) signal(sig syscall.Signal) { _ = s.process.Signal(sig) }

// release gives back what Start took. A server that still runs is killed.
func (s *Server) release() {
	if s.process != nil {
		select {
		case <-s.exited:
		default:
			s.kill()
		}
	}
	if s.socketDir != "" && s.socketDir != s.filesDir {
		removeSocketDir(s.socketDir)
	}
	if s.postgresLock != nil {
		s.postgresLock.Close()
	}
	if s.ownLock != nil {
		giveFolder(s.ownLock)
	}
}
