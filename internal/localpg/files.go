//go:build unix

package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// makeDataDir makes the folder when it is missing. Root's may be passed through, though not listed, because the server
// below it belongs to another user.
func makeDataDir(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("the data folder %s is not a folder", dir)
		}
		return nil
	}
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	return os.MkdirAll(dir, mode)
}

// ensureFiles makes the database files when there are none and brings owner and access rules up to date.
func (s *Server) ensureFiles(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(s.filesDir, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		if err := s.createFiles(ctx); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	// The files belong to the server's account, which may be a lesser one: nothing in them may lead root elsewhere.
	root, err := os.OpenRoot(s.filesDir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := s.takeOwnership(root); err != nil {
		return err
	}
	// The lock proves that no server runs, so a pid file is stale; left there, it would mislead PostgreSQL when another
	// program has that pid by now, which is common in containers.
	if err := root.Remove("postmaster.pid"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.writeAccessRules(root)
}

// createFiles makes the database beside its final place and moves it there when it is complete, so that a crash in
// between leaves nothing half made.
func (s *Server) createFiles(ctx context.Context) error {
	entries, err := os.ReadDir(s.filesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s holds files but no PG_VERSION: it is not a PostgreSQL data directory; move it away", s.filesDir)
	}
	s.logger.Info("making a new private PostgreSQL database", "folder", s.filesDir, "version", s.bin.major)
	draft := s.filesDir + ".new"
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	if err := os.Mkdir(draft, 0o700); err != nil {
		return err
	}
	if err := s.own(draft); err != nil {
		return err
	}
	initdb := []string{"-D", draft, "--username=postgres", "--auth-local=peer", "--auth-host=reject", "--encoding=UTF8",
		"--locale=C", "--lc-ctype=" + characterType, "--data-checksums"}
	if s.unsafe {
		initdb = append(initdb, "--no-sync")
	}
	if err := s.run(ctx, "", s.bin.initdb, initdb...); err != nil {
		return err
	}
	single := []string{"--single", "-D", draft, "-c", "exit_on_error=true", "-c", "listen_addresses="}
	if s.unsafe {
		single = append(single, "-F")
	}
	statements := "CREATE ROLE " + roleName + " LOGIN CREATEDB;\n" +
		"CREATE DATABASE " + databaseName + " OWNER " + roleName + ";\n"
	if err := s.run(ctx, statements, s.bin.postgres, append(single, "postgres")...); err != nil {
		return err
	}
	if err := os.Rename(draft, s.filesDir); err != nil {
		return err
	}
	return syncDir(s.dataDir)
}

// run runs a PostgreSQL program to its end; what it said is part of the error.
func (s *Server) run(ctx context.Context, input, program string, args ...string) error {
	runtime.LockOSThread() // for the parent-death signal, see launch
	defer runtime.UnlockOSThread()
	var output bytes.Buffer
	cmd := s.command(syscall.SIGKILL, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &output, &output
	if err := cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", filepath.Base(program), ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s failed (%v):\n%s", filepath.Base(program), err, lastLines(output.Bytes()))
	}
	return err
}

// own gives a path to the server's account. Only root may and needs to.
func (s *Server) own(path string) error {
	if s.account.how != lesser {
		return nil
	}
	uid, gid := s.account.owner()
	return os.Lchown(path, uid, gid)
}

// takeOwnership gives the files to the account that now runs the server, when another did before: a data folder may
// have been moved to where the unprivileged user can reach it, or away from there.
func (s *Server) takeOwnership(root *os.Root) error {
	if s.account.how == same {
		return nil // not root, so it can't; PostgreSQL's own message about the owner is clear
	}
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	uid, gid := s.account.owner()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == uid {
		return nil
	}
	s.logger.Info("giving the database files to another account", "folder", s.filesDir, "uid", uid)
	// The folder itself comes last: its owner says whether this is done.
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return root.Lchown(path, uid, gid)
	})
	if err != nil {
		return err
	}
	return root.Lchown(".", uid, gid)
}

// writeAccessRules lets the account that runs Portolan, and the one that runs the server, in through the socket without
// a password; the kernel tells PostgreSQL who it is. Nobody else is let in.
func (s *Server) writeAccessRules(root *os.Root) error {
	var ident strings.Builder
	for _, peer := range s.account.peers {
		for _, role := range []string{roleName, "postgres"} {
			fmt.Fprintf(&ident, "portolan \"%s\" %s\n", peer, role)
		}
	}
	for name, text := range map[string]string{
		"pg_hba.conf":   "local all all peer map=portolan\n",
		"pg_ident.conf": ident.String(),
	} {
		if err := root.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
		if s.account.how == lesser {
			uid, gid := s.account.owner()
			if err := root.Lchown(name, uid, gid); err != nil {
				return err
			}
		}
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
