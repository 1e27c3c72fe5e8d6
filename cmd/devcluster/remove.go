package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/client-go/tools/clientcmd"
)

// removeCluster ends every process of the cluster in dir but this one, and
// removes what they had: it does as well after a crash as after a good life,
// and does nothing if there is nothing.
//
// Pods, mounts and networks are all inside the node's namespaces, so they go
// with its first process; cgroups and the folder stay until removed here.
func removeCluster(dir string) error {
	if err := endMembers(dir, time.Minute); err != nil {
		return err
	}
	if err := removeDevice("devc-" + clusterID(dir)); err != nil {
		return err
	}
	if err := removeCgroups(dir, time.Minute); err != nil {
		return err
	}
	if c, err := loadClusterAt(dir); err == nil && c.Kubeconfig != "" {
		if err := c.takeBack(c.Kubeconfig); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	return nil
}

// takeBack removes a kubeconfig that was handed out, unless the file is now
// something else.
func (c *cluster) takeBack(path string) error {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil // not there, or not a kubeconfig
	}
	if entry := config.Clusters[c.Name]; entry == nil || entry.Server != c.server() {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the kubeconfig: %w", err)
	}
	return nil
}

// endMembers kills the processes that carry the cluster's mark, again and again
// until none is left: a killed supervisor's last child may be just starting.
func endMembers(dir string, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		pids, err := members(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return fmt.Errorf("ending process %d: %w", pid, err)
			}
		}
	}
}

// members finds the processes, but this one, whose environment carries the
// cluster's mark. Processes of others that we may not look at are not ours.
func members(dir string) ([]int, error) {
	mark := []byte("\x00" + memberVariable + "=" + dir + "\x00")
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile(filepath.Join("/proc", process.Name(), "environ"))
		if err != nil {
			continue
		}
		if bytes.Contains(append([]byte{0}, environment...), mark) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// removeDevice removes the host's end of the node's network, should the kernel
// not yet have done it with the node's namespace.
func removeDevice(name string) error {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("removing network device %s: %w", name, err)
	}
	return nil
}

// cgroupName is the cluster's own group, under which all its pods are.
func cgroupName(dir string) string { return "devcluster-" + clusterID(dir) }

// cgroupHierarchies are the mounted cgroup trees: one with cgroup v2, one per
// controller with v1.
func cgroupHierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var hierarchies []string
	for line := range bytes.Lines(mounts) {
		fields := bytes.Fields(line)
		if len(fields) > 2 && (string(fields[2]) == "cgroup" || string(fields[2]) == "cgroup2") {
			hierarchies = append(hierarchies, string(fields[1]))
		}
	}
	return hierarchies, nil
}

func removeCgroups(dir string, patience time.Duration) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for _, hierarchy := range hierarchies {
		group := filepath.Join(hierarchy, cgroupName(dir))
		for {
			err := removeGroup(group)
			if err == nil {
				break
			}
			// Busy for as long as the kernel still buries its processes.
			if time.Now().After(deadline) {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// removeGroup removes a cgroup and those in it, innermost first; the files in
// one are the kernel's and go with it.
func removeGroup(group string) error {
	entries, err := os.ReadDir(group)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeGroup(filepath.Join(group, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(group); err != nil && err != syscall.ENOENT {
		return fmt.Errorf("removing cgroup %s: %w", group, err)
	}
	return nil
}
