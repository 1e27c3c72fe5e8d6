package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"portolan/internal/postgres/postgrestest"
)

// TestAnInterruptedCommandHasFailed: a script must not go on as if its backup were
// there. What runs until it is told to end has not failed by being told.
func TestAnInterruptedCommandHasFailed(t *testing.T) {
	t.Parallel()
	told, tell := context.WithCancel(t.Context())
	tell()
	database := "--database-url=" + postgrestest.URL(t)
	file := filepath.Join(t.TempDir(), "backup")
	for _, args := range [][]string{{"backup", file, database}, {"restore", "main_test.go", database}, {"keys", "rotate", database}, {"migrate", database}} {
		var said strings.Builder
		if code := run(told, args, io.Discard, &said); code != 1 || !strings.Contains(said.String(), "interrupted") {
			t.Errorf("%s: exit status %d, and it says %q", args[0], code, said.String())
		}
	}
	for _, role := range []string{"web", "worker"} {
		var said strings.Builder
		if code := run(told, []string{role, database}, io.Discard, &said); code != 0 || said.Len() > 0 {
			t.Errorf("%s: exit status %d, and it says %q", role, code, said.String())
		}
	}
}
