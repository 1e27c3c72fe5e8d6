package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// memberVariable marks, in the environment of every process of a cluster, the
// folder of the cluster it belongs to.
const memberVariable = "PORTOLAN_DEVCLUSTER_MEMBER"

// runner runs programs, restarts those that end, and reaps every child there
// is: it is the first process of a node, whose orphans become its own. All that
// it starts is killed by the kernel when the runner's process dies. Nothing else
// in its process may wait for children, os/exec least of all.
type runner struct {
	cluster *cluster
	starts  chan program
	ended   chan program

	mu      sync.Mutex
	running map[int]program
}

// program is something to run: a component of this binary, or a file.
type program struct {
	name string
	// path is the file; empty for the component called name.
	path string
	args []string
	// flags are the namespaces to start it in (CLONE_NEW…).
	flags uintptr
	// started is told the process id; may be nil.
	started func(pid int) error
}

// newRunner must be called on the goroutine that then calls run: the kernel ties
// the life of children to the thread that started them.
func newRunner(c *cluster) *runner {
	runtime.LockOSThread()
	return &runner{
		cluster: c,
		starts:  make(chan program, 16),
		ended:   make(chan program, 16),
		running: map[int]program{},
	}
}

// start asks for a program to be run; any goroutine may.
func (r *runner) start(p program) { r.starts <- p }

// run starts what is asked for until ctx ends, and returns why it did, or that a
// program cannot be started at all.
func (r *runner) run(ctx context.Context) error {
	for {
		select {
		case p := <-r.starts:
			if err := r.launch(p); err != nil {
				return fmt.Errorf("starting %s: %w", p.name, err)
			}
		case p := <-r.ended:
			time.AfterFunc(500*time.Millisecond, func() { r.start(p) })
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *runner) launch(p program) error {
	if p.path == "" {
		p.path = "/proc/self/exe"
	}
	output, err := os.OpenFile(r.cluster.path("log", p.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = output.Close() }()
	input, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = input.Close() }()

	r.mu.Lock()
	defer r.mu.Unlock()
	process, err := os.StartProcess(p.path, append([]string{p.name}, p.args...), &os.ProcAttr{
		Dir:   r.cluster.dir,
		Env:   memberEnvironment(r.cluster.dir),
		Files: []*os.File{input, output, output},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: p.flags},
	})
	if err != nil {
		return err
	}
	pid := process.Pid
	r.running[pid] = p
	if len(r.running) == 1 {
		go r.reap()
	}
	_ = process.Release()
	slog.Info("started", "program", p.name, "pid", pid)
	if os.Getpid() != 1 { // a node's pids mean nothing outside it
		if err := r.cluster.recordPID(p.name, pid); err != nil {
			return err
		}
	}
	if p.started != nil {
		return p.started(pid)
	}
	return nil
}

// recordPID keeps a program's process id, for people and tests.
func (c *cluster) recordPID(name string, pid int) error {
	return os.WriteFile(c.path("pids", name), fmt.Appendln(nil, pid), 0o600)
}

// pid returns what recordPID kept, also of a program that has ended.
func (c *cluster) pid(name string) (int, error) {
	data, err := os.ReadFile(c.path("pids", name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// reap waits for children until there are none, and reports those that should
// be running.
func (r *runner) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		r.mu.Lock()
		if err != nil && len(r.running) == 0 {
			r.mu.Unlock()
			return
		}
		p, ours := r.running[pid]
		delete(r.running, pid)
		last := len(r.running) == 0
		r.mu.Unlock()
		if ours {
			slog.Warn("ended", "program", p.name, "pid", pid, "exit", status.ExitStatus(), "signal", status.Signal())
			r.ended <- p
		}
		if last {
			return
		}
	}
}

// memberEnvironment is this process's environment, marked. What would make the
// cluster's programs behave differently is left out, and the folders where a
// node's programs are come last in the PATH: su without a dash leaves them out.
func memberEnvironment(dir string) []string {
	environment := []string{memberVariable + "=" + dir}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case name == memberVariable, name == "KUBECONFIG", name == "NOTIFY_SOCKET":
		case name == "PATH":
			environment = append(environment, entry+":/usr/sbin:/sbin:/usr/bin:/bin")
		case strings.HasPrefix(name, "ETCD_"), strings.HasPrefix(name, "KWOK_"), strings.HasPrefix(name, "CONTAINERD_"):
		case strings.HasSuffix(strings.ToLower(name), "_proxy"):
		default:
			environment = append(environment, entry)
		}
	}
	return environment
}
