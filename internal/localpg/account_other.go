//go:build unix && !linux

package localpg

import (
	"errors"
	"syscall"
)

const characterType = "UTF-8"

// attributes start a process under the account, in a process group of its own. These systems have no parent-death
// signal: a server that outlives this process is stopped by the next start.
func (a account) attributes(syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.how == lesser {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

func (a account) probe() error { return errors.New("this system has none") }
