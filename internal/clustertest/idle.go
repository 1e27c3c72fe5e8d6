package clustertest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// SetIdle gives the programs of the shared cluster of a profile and kind of nodes
// only the processor time that nobody else wants, and no longer than until somebody
// does, or their full share again. It takes root and Linux 5.15.
//
// That is what a cgroup with cpu.idle set does. The policy SCHED_IDLE counts only
// within the session of a process ("The autogroup feature" in sched(7)). A session
// with a nice value of 19 gets as little time, but who wakes meanwhile has to wait
// until its turn is over, which may take as long as a page: the kernel cuts short
// only those that are idle as a group (check_preempt_wakeup_fair).
func SetIdle(t testing.TB, profile, nodes string, idle bool) {
	t.Helper()
	if os.Getenv(Override) != "" {
		return // its processors are its own
	}
	dir := os.Getenv("PORTOLAN_DEVCLUSTER_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "portolan", "devcluster")
	}
	files, err := filepath.Glob(filepath.Join(dir, Name(profile, nodes), "pids", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no programs of %s: %v", Name(profile, nodes), err)
	}
	root, err := processorGroups()
	if err != nil {
		t.Fatalf("set %s apart: %v", Name(profile, nodes), err)
	}
	group := filepath.Join(root, "portolan-idle")
	into := root
	if idle {
		into = group
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(group, "cpu.idle"), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		pid, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(into, "cgroup.procs"), []byte(strings.TrimSpace(string(pid))), 0); err != nil {
			t.Fatalf("move %s: %v", filepath.Base(file), err)
		}
	}
	if !idle {
		_ = os.Remove(group) // unless another run has programs in it
	}
}

// processorGroups returns the folder of the topmost cgroup that may share out the
// processors among others: of version 1, with a tree for each resource, or of 2.
func processorGroups() (string, error) {
	const v1, v2 = "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(v1, "cgroup.procs")); err == nil {
		return v1, nil
	}
	return v2, os.WriteFile(filepath.Join(v2, "cgroup.subtree_control"), []byte("+cpu"), 0)
}
