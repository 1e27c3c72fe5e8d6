//go:build unix

package localpg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketPath is the longest path of a Unix socket in bytes on Linux: sun_path of unix(7) less its final zero.
const maxSocketPath = 107

func socketPath(dir string) string {
	return filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))
}

// makeSocketDir returns the directory for the socket: the data directory itself, or when that path is too long a short
// private one where the system keeps such things. Its name follows from the data directory, so that a start after a
// crash finds it again instead of leaving another behind.
func makeSocketDir(filesDir string, acc account) (string, error) {
	if len(socketPath(filesDir)) <= maxSocketPath {
		removeSocket(filesDir)
		return filesDir, nil
	}
	sum := sha256.Sum256([]byte(filesDir))
	name := "portolan-" + hex.EncodeToString(sum[:8])
	var problems []error
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		dir := filepath.Join(base, name)
		if !filepath.IsAbs(base) || len(socketPath(dir)) > maxSocketPath || !acc.canEnter(base) {
			continue
		}
		if err := makePrivateDir(dir, acc); err != nil {
			problems = append(problems, err)
			continue
		}
		removeSocket(dir)
		return dir, nil
	}
	return "", fmt.Errorf("the path of %s is too long for a socket and no short place was found: %w", filesDir, errors.Join(problems...))
}

// makePrivateDir makes a directory that only the account may enter. One that is already there is used only when it is
// exactly that: in a folder where anyone may write, somebody else could have put it there.
func makePrivateDir(dir string, acc account) error {
	uid, gid := acc.owner()
	err := os.Mkdir(dir, 0o700)
	if err == nil && acc.how == lesser {
		return os.Lchown(dir, uid, gid)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || int(stat.Uid) != uid {
		return fmt.Errorf("%s is in the way", dir)
	}
	return nil
}

// removeSocket removes what a killed server may have left. Its lock file names a pid, which would stop the next server
// if another program had that pid by then.
func removeSocket(dir string) {
	_ = os.Remove(socketPath(dir))
	_ = os.Remove(socketPath(dir) + ".lock")
}

// removeSocketDir removes a directory of makePrivateDir. Anything foreign in it stays, and so does the directory then.
func removeSocketDir(dir string) {
	removeSocket(dir)
	_ = os.Remove(dir)
}
