//go:build unix

package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is who PostgreSQL runs as. It refuses to run as root, so for root another account has to be found.
type account struct {
	how      accountKind
	uid, gid int      // of the account; for mapped, what it is called inside the user namespace
	peers    []string // names under which PostgreSQL sees this process, and itself
}

type accountKind int

const (
	same   accountKind = iota // as this process
	lesser                    // root gives up its rights and becomes another user
	mapped                    // a user namespace in which root is called by another user's id
)

// chooseAccount decides for a data folder. A root process uses an unprivileged user where that user can reach the
// folder. Under a folder that only root may enter, the server stays root to the file system but is called by the other
// user's id in a user namespace of its own, without any privilege.
func chooseAccount(dataDir string) (account, error) {
	me, err := user.Current()
	if err != nil {
		return account{}, err
	}
	if os.Geteuid() != 0 {
		return account{how: same, uid: os.Getuid(), gid: os.Getgid(), peers: []string{me.Username}}, nil
	}
	other, err := unprivileged()
	if err != nil {
		return account{}, err
	}
	uid, uidErr := strconv.Atoi(other.Uid)
	gid, gidErr := strconv.Atoi(other.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return account{}, fmt.Errorf("account %s: %w", other.Username, err)
	}
	acc := account{how: lesser, uid: uid, gid: gid, peers: []string{me.Username, other.Username}}
	if acc.canEnter(dataDir) {
		return acc, nil
	}
	acc = account{how: mapped, uid: uid, gid: gid, peers: []string{other.Username}}
	if err := acc.probe(); err != nil {
		return account{}, fmt.Errorf("PostgreSQL does not run as root, the user %s cannot enter %s, and no user namespace can be made (%w): "+
			"choose a data folder that %[1]s can enter, or run portolan as an ordinary user", other.Username, dataDir, err)
	}
	return acc, nil
}

// unprivileged is the user that the distribution made for PostgreSQL, else the one without any rights.
func unprivileged() (*user.User, error) {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil && u.Uid != "0" {
			return u, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

// owner is who has to own the server's files, as this process sees it.
func (a account) owner() (uid, gid int) {
	if a.how == lesser {
		return a.uid, a.gid
	}
	return os.Getuid(), os.Getgid()
}

// canEnter tells whether the file modes let the account's user through to a directory.
func (a account) canEnter(dir string) bool {
	uid, gid := a.owner()
	if uid == 0 {
		return true
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		mask := os.FileMode(0o001)
		switch {
		case int(stat.Uid) == uid:
			mask = 0o100
		case int(stat.Gid) == gid:
			mask = 0o010
		}
		if info.Mode()&mask == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
