package localpg

import (
	"os"
	"os/exec"
	"syscall"
)

// characterType makes upper and lower case work beyond ASCII; sorting stays by bytes, which no system upgrade changes.
const characterType = "C.UTF-8"

// attributes start a process under the account, in a process group of its own so that Ctrl-C reaches only this process,
// and have the kernel send it a signal when this process dies.
func (a account) attributes(onDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onDeath}
	switch a.how {
	case lesser:
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	case mapped:
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: a.uid, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: a.gid, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// probe tells whether a process can be started under the account.
func (a account) probe() error {
	cmd := exec.Command("/bin/true")
	cmd.Dir = "/"
	cmd.SysProcAttr = a.attributes(syscall.SIGKILL)
	return cmd.Run()
}
