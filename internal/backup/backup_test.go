package backup

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestForLibpq(t *testing.T) {
	t.Parallel()
	for databaseURL, want := range map[string][2]string{
		"postgres://ana:s%3Acret@db:5433/portolan?sslmode=verify-full&pool_max_conns=9": {"postgres://ana@db:5433/portolan?sslmode=verify-full", "s:cret"},
		"postgresql:///portolan?host=%2Fa+dir&user=ana&password=x":                      {"postgresql:///portolan?host=%2Fa%20dir&user=ana", "x"},
	} {
		address, password, err := forLibpq(databaseURL)
		if err != nil || address != want[0] || password != want[1] {
			t.Errorf("%s: %s %s %v", databaseURL, address, password, err)
		}
	}
	if _, _, err := forLibpq("host=db password=secret"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// TestAFailedDumpLeavesNoFile: what is there under the name is whole.
func TestAFailedDumpLeavesNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "pg_dump")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho half\necho 'it broke' >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "backup")
	if _, err := Dump(context.Background(), program, "postgres://x/y", path); err == nil || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
