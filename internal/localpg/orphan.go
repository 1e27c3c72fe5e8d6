//go:build unix

package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	orphanFastLimit = 20 * time.Second // for a clean shutdown, which may have much to write
	orphanLimit     = 30 * time.Second // for any shutdown
)

// endOrphans returns the locked postgres.lock, which proves that no PostgreSQL process works in the folder any more.
// When a killed Portolan left its server behind, that is told to shut down cleanly, later at once, and waited for.
func (s *Server) endOrphans(ctx context.Context) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(s.dataDir, "postgres.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := s.awaitOrphans(ctx, lock); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func (s *Server) awaitOrphans(ctx context.Context, lock *os.File) error {
	err := tryLock(lock)
	if !errors.Is(err, errLocked) {
		return err
	}
	s.logger.Warn("a PostgreSQL server was left behind in the data folder; stopping it", "folder", s.dataDir)
	signalPostmaster(s.filesDir, syscall.SIGINT)
	harder := time.NewTimer(orphanFastLimit)
	defer harder.Stop()
	ctx, cancel := context.WithTimeout(ctx, orphanLimit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("a PostgreSQL server left behind in %s does not stop: %w", s.filesDir, ctx.Err())
		case <-harder.C:
			signalPostmaster(s.filesDir, syscall.SIGQUIT)
		case <-tick.C:
			if err := tryLock(lock); !errors.Is(err, errLocked) {
				return err
			}
		}
	}
}

// signalPostmaster signals the postmaster named by the folder's pid file, unless that pid now belongs to another program.
func signalPostmaster(filesDir string, sig syscall.Signal) {
	pm, ok := readPostmaster(filesDir)
	if !ok {
		return
	}
	// Where there is no /proc the pid file has to be trusted.
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pm.pid))
	if err == nil && !bytes.Contains(cmdline, []byte(filesDir)) {
		return
	}
	_ = syscall.Kill(pm.pid, sig) // it may have ended meanwhile
}

// postmaster is what the pid file of a data directory says.
type postmaster struct {
	pid   int
	ready bool
}

// readPostmaster reads the pid file; its lines are those of PostgreSQL's src/include/utils/pidfile.h. ok is false while
// there is none, or it is being written.
func readPostmaster(filesDir string) (pm postmaster, ok bool) {
	const statusLine = 8
	text, err := os.ReadFile(pidFile(filesDir))
	if err != nil {
		return postmaster{}, false
	}
	lines := strings.Split(string(text), "\n")
	pm.pid, err = strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pm.pid <= 1 {
		return postmaster{}, false
	}
	pm.ready = len(lines) >= statusLine && strings.TrimSpace(lines[statusLine-1]) == "ready"
	return pm, true
}

func pidFile(filesDir string) string { return filepath.Join(filesDir, "postmaster.pid") }
