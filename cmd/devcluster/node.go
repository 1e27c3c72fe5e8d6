package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nodeCommand is the first process of a containerd node. The supervisor starts
// it in new mount, pid, network, UTS and IPC namespaces; when it dies the kernel
// ends every process of the node, and with the last of them its mounts and its
// network are gone.
type nodeCommand struct {
	At string `required:""`
}

// Run makes the namespaces into a node and runs its programs; it returns only
// if it cannot.
func (n *nodeCommand) Run() error {
	if os.Getpid() != 1 {
		return errors.New("only for the supervisor to start: it would change this machine's mounts")
	}
	c, err := loadClusterAt(n.At)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	if err := c.mountNode(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(c.nodeName())); err != nil {
		return err
	}
	if err := makeCgroups(c.dir); err != nil {
		return err
	}
	r := newRunner(c)
	r.start(program{name: "containerd", path: "/usr/bin/containerd", args: []string{"--config", c.path("node", "containerd.toml")}})
	go func() {
		if err := c.runNode(r); err != nil {
			slog.Error("node ended", "error", err)
			os.Exit(1)
		}
	}()
	return r.run(context.Background())
}

// runNode brings the network up and starts what speaks to the API server.
func (c *cluster) runNode(r *runner) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := c.configureNetwork(ctx); err != nil {
		return err
	}
	// The API server's address of the host means the same here, and so does the
	// one of the `kubernetes` Service, which pods use.
	for _, ip := range []string{"127.0.0.1", c.nodeIP()} {
		listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, c.APIPort))
		if err != nil {
			return err
		}
		go forward(listener, "unix", c.path("api.sock"))
	}
	if err := c.waitReadyz(ctx); err != nil {
		return err
	}
	r.start(program{name: "kubelet", args: c.kubelet()})
	r.start(program{name: "kube-proxy", args: c.kubeProxy()})
	return nil
}

// mountNode gives the node mounts of its own where its programs write to fixed
// places, so that none of it reaches the host.
func (c *cluster) mountNode() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts with pods: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	dir, err := unix.Open(c.dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	for _, at := range []string{"/run", "/var/lib"} {
		if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mounting %s: %w", at, err)
		}
	}
	if _, err := os.Stat(c.path("cluster.json")); err != nil { // it is under one of those
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			return err
		}
		if err := bind(fmt.Sprintf("/proc/self/fd/%d", dir), c.dir); err != nil {
			return err
		}
	}
	if err := bind(c.path("node", "var-log"), "/var/log"); err != nil {
		return err
	}
	// There are no name servers in here; asking those of the host would take long to fail.
	if err := bindIfThere(c.path("node", "resolv.conf"), "/etc/resolv.conf"); err != nil {
		return err
	}
	// kubelet sets these for the whole machine, unless they have its values.
	for name, value := range map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	} {
		file := c.path("node", "sysctl", filepath.Base(name))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		if err := bindIfThere(file, "/proc/sys/"+name); err != nil {
			return err
		}
	}
	return nil
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", from, to, err)
	}
	return nil
}

func bindIfThere(from, to string) error {
	if err := bind(from, to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// configureNetwork waits for the device that the supervisor puts in here.
func (c *cluster) configureNetwork(ctx context.Context) error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	var device netlink.Link
	err = poll(ctx, 10*time.Millisecond, func() (bool, error) {
		device, err = netlink.LinkByName("eth0")
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the network device: %w", err)
	}
	if err := configureLink(device, c.nodeIP()+"/24"); err != nil {
		return err
	}
	if err := routeVia(device, "0.0.0.0/0", c.hostIP()); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600)
}

// makeCgroups makes the cluster's own group in every hierarchy, with all the
// controllers there are: kubelet wants to find it so.
func makeCgroups(dir string) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		// Only cgroup v2 has this file; which controllers may be handed on is for the machine to say.
		controllers, _ := os.ReadFile(filepath.Join(hierarchy, "cgroup.controllers"))
		for _, controller := range strings.Fields(string(controllers)) {
			_ = os.WriteFile(filepath.Join(hierarchy, "cgroup.subtree_control"), []byte("+"+controller), 0)
		}
		if err := os.Mkdir(filepath.Join(hierarchy, cgroupName(dir)), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making a cgroup: %w", err)
		}
	}
	return nil
}
