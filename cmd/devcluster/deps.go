package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// cniPlugins is where Debian keeps them.
const cniPlugins = "/usr/lib/cni"

// debianPackages are what a containerd node needs, each with a file that shows
// it is there.
var debianPackages = []struct{ name, file string }{
	{"containerd", "/usr/bin/containerd"},
	{"runc", "/usr/sbin/runc"},
	{"containernetworking-plugins", cniPlugins + "/bridge"},
	{"iptables", "/usr/sbin/iptables"},
	{"busybox-static", "/bin/busybox"},
}

// maxNodeDir is how long a containerd cluster's folder may be: a socket's path
// has 107 bytes, and kubelet's are this much longer.
const maxNodeDir = 107 - len("/node/kubelet/device-plugins/kubelet.sock")

// depsCommand checks for what a containerd node needs.
type depsCommand struct {
	Install bool `help:"Install what is missing (Debian, as root)."`
}

// Run fails, saying what to install, if something is missing in the end.
func (d *depsCommand) Run() error {
	missing := missingPackages()
	if len(missing) > 0 && d.Install {
		if err := installPackages(missing); err != nil {
			return err
		}
		missing = missingPackages()
	}
	if len(missing) > 0 {
		return missingError(missing)
	}
	fmt.Println("all there for containerd nodes")
	return nil
}

func missingPackages() []string {
	var missing []string
	for _, p := range debianPackages {
		if _, err := os.Stat(p.file); err != nil {
			missing = append(missing, p.name)
		}
	}
	return missing
}

func missingError(packages []string) error {
	return fmt.Errorf("a containerd node needs: apt-get install --no-install-recommends %s", strings.Join(packages, " "))
}

// installPackages leaves no service running: a node starts its own containerd.
func installPackages(packages []string) error {
	if os.Geteuid() != 0 {
		return errors.Join(errors.New("only root can install packages"), missingError(packages))
	}
	run := func(name string, args ...string) error {
		command := exec.Command(name, args...)
		command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		return command.Run()
	}
	if err := run("apt-get", "update", "-q"); err != nil {
		return fmt.Errorf("apt-get update: %w", err)
	}
	install := append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)
	if err := run("apt-get", install...); err != nil {
		return fmt.Errorf("apt-get install: %w", err)
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		for _, name := range packages {
			if name == "containerd" {
				return run("systemctl", "disable", "--now", "containerd")
			}
		}
	}
	return nil
}

// checkNodeNeeds fails if a containerd node cannot be had here.
func checkNodeNeeds(dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("a containerd node needs root; without it there are kwok nodes")
	}
	if missing := missingPackages(); len(missing) > 0 {
		return errors.Join(missingError(missing), errors.New("or let `devcluster deps --install` do it"))
	}
	if len(dir) > maxNodeDir {
		return fmt.Errorf("folder %s is %d bytes long; a containerd node's may have %d", dir, len(dir), maxNodeDir)
	}
	return nil
}
