package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// LoadOrCreateKeyFile returns the keyring kept in a file. When there is no such file, one with a new key is made,
// readable by its owner alone, and created is true. A file that others may read, or that holds no usable key, is an
// error: to make a new key instead would leave everything sealed so far unreadable.
func LoadOrCreateKeyFile(path string) (ring *Keyring, created bool, err error) {
	ring, err = LoadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, false, err
	}
	created, err = createKeyFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("make the key file %s: %w", path, err)
	}
	ring, err = LoadKeyFile(path) // another process may have been first
	return ring, created, err
}

// LoadKeyFile returns the keyring kept in a file, with the errors of LoadOrCreateKeyFile; that there is none is
// fs.ErrNotExist.
func LoadKeyFile(path string) (*Keyring, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the key file %s may be read by others (mode %04o): chmod 600 it", path, mode)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ring, err := ParseKeyring(string(text))
	if err != nil {
		return nil, fmt.Errorf("the key file %s: %w", path, err)
	}
	if !ring.CanSeal() {
		return nil, fmt.Errorf("the key file %s holds no key", path)
	}
	ring.file = path
	return ring, nil
}

// createKeyFile writes the file under another name and then links it, so that it appears complete and is never replaced.
// It reports false when the file was there already.
func createKeyFile(path string) (bool, error) {
	draft, err := os.CreateTemp(filepath.Dir(path), ".new-key-*") // made with mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(draft.Name())
	_, err = draft.WriteString(NewKey() + "\n")
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return false, err
	}
	err = os.Link(draft.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

// syncDir makes a new name in a folder outlive a power cut: a lost key file is lost credentials.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
