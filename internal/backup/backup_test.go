package backup

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// script makes a program. A process that a parallel test starts meanwhile would
// hold a copy of the open file, and Linux runs no program that somebody may
// still write to.
func script(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestAFailedDumpLeavesNoFile: what is there under the name is whole.
func TestAFailedDumpLeavesNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "pg_dump")
	script(t, program, "echo half\necho 'it broke' >&2\nexit 1\n")
	path := filepath.Join(dir, "backup")
	if _, err := Dump(context.Background(), program, "postgres://x/y", path); err == nil || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestADumpTakesNoFileOfOthers: neither what stands beside the file nor what is
// made under its name meanwhile is written to or replaced.
func TestADumpTakesNoFileOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, other := filepath.Join(dir, "backup"), filepath.Join(dir, "other")
	program := filepath.Join(dir, "pg_dump")
	script(t, program, "echo whole\n")
	if err := os.WriteFile(other, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path+".part"); err != nil {
		t.Fatal(err)
	}
	size, err := Dump(t.Context(), program, "postgres://x/y", path)
	if err != nil || size != int64(len("whole\n")) {
		t.Fatal(size, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	for file, want := range map[string]string{path: "whole\n", other: "theirs"} {
		if text, err := os.ReadFile(file); string(text) != want {
			t.Errorf("%s holds %q, %v", file, text, err)
		}
	}
	if left, _ := filepath.Glob(path + ".*.part"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	meanwhile := filepath.Join(dir, "meanwhile")
	script(t, program, "echo theirs >"+meanwhile+"\necho whole\n")
	if _, err := Dump(t.Context(), program, "postgres://x/y", meanwhile); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(meanwhile); string(text) != "theirs\n" {
		t.Errorf("it was replaced: %q, %v", text, err)
	}
}

// TestWithoutHardLinksNothingIsReplacedEither: some file systems have none.
func TestWithoutHardLinksNothingIsReplacedEither(t *testing.T) {
	t.Parallel()
	none := func(string, string) error { return syscall.EPERM }
	dir := t.TempDir()
	path := filepath.Join(dir, "backup")
	for _, text := range []string{"first", "second"} {
		part := filepath.Join(dir, text)
		if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := name(none, part, path)
		if taken := err != nil && strings.Contains(err.Error(), "is there already"); taken != (text == "second") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if text, err := os.ReadFile(path); string(text) != "first" {
		t.Errorf("%q, %v", text, err)
	}
}
