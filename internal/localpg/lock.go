//go:build unix

package localpg

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

var errLocked = errors.New("locked by another process")

// takeFolder makes this process the folder's only user until the returned file is closed or the process ends.
func takeFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, "serve.lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(file); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(file, 20))
		file.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("the data folder %s is in use by another portolan process (pid %s)", dir, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The pid only serves the message above; the lock itself is the kernel's.
	if err := file.Truncate(0); err == nil {
		fmt.Fprintf(file, "%d\n", os.Getpid())
	}
	return file, nil
}

// giveFolder lets others use the folder. It unlocks before it closes: a process that is being started at this moment
// holds copies of all open files until its program begins, and with them the lock.
func giveFolder(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) // closing would do, but for such copies
	file.Close()
}

// tryLock takes the lock of an open file without waiting. It is shared with children that inherit the file and ends
// with the last of them.
func tryLock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		default:
			return err
		}
	}
}
