package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"portolan/internal/backup"
	"portolan/internal/fleet"
	"portolan/internal/localpg"
	"portolan/internal/postgres"
	"portolan/internal/seal"
)

type backupCmd struct {
	backupConfig
	File string `arg:"" help:"File to write. It must not be there yet."`
}

type restoreCmd struct {
	backupConfig
	File string `arg:"" help:"File that portolan backup has written."`
}

// backupConfig says which database it is.
type backupConfig struct {
	storeConfig
	EncryptionKeys string `env:"PORTOLAN_ENCRYPTION_KEYS" placeholder:"ID:KEY,…" help:"Keys as the other processes have them, to find out whether they open what is sealed. They are never part of a backup."`
}

// Run writes the database into the file, while everything else goes on.
func (c backupCmd) Run(ctx context.Context, out io.Writer) error {
	url, end, err := c.source(ctx)
	if err != nil {
		return err
	}
	defer end()
	db, err := postgres.Open(ctx, url, postgres.Options{Name: "portolan backup"})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Ready(ctx); err != nil {
		return err
	}
	tool, err := tool(ctx, db, "pg_dump")
	if err != nil {
		return err
	}
	size, err := backup.Dump(ctx, tool, url, c.File)
	entry := fleet.AuditEntry{Actor: commandLine().Email, Action: "database.backup", Target: "database", Outcome: "ok"}
	if err != nil {
		entry.Outcome, entry.Reason = "failed", err.Error()
	}
	if err := errors.Join(err, db.Audit(context.WithoutCancel(ctx), entry)); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s (%d bytes)\n", c.File, size)
	return c.sayKeys(ctx, out, db)
}

// Run reads the file into an empty database.
func (c restoreCmd) Run(ctx context.Context, out io.Writer) error {
	if _, err := os.Stat(c.File); err != nil {
		return err
	}
	url, end := c.DatabaseURL, func() {}
	if url == "" {
		private, err := startPrivate(ctx, c.DataDir)
		if err != nil {
			return err
		}
		url, end = private.URL(), func() { stopPrivate(ctx, private) }
	}
	defer end()
	db, err := postgres.Open(ctx, url, postgres.Options{Name: "portolan restore"})
	if err != nil {
		return err
	}
	defer db.Close()
	empty, err := db.Empty(ctx)
	if err != nil {
		return err
	}
	if !empty {
		return errors.New("the database is not empty: restore into a new one, so that nothing is lost or mixed")
	}
	tool, err := tool(ctx, db, "pg_restore")
	if err != nil {
		return err
	}
	if err := backup.Restore(ctx, tool, url, c.File); err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	err = db.Audit(ctx, fleet.AuditEntry{Actor: commandLine().Email, Action: "database.restore", Target: "database", Outcome: "ok"})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "restored; everybody has to sign in again")
	return c.sayKeys(ctx, out, db)
}

// tool finds a program that fits the database's server.
func tool(ctx context.Context, db *postgres.DB, name string) (string, error) {
	major, err := db.ServerMajor(ctx)
	if err != nil {
		return "", err
	}
	return localpg.Tool(name, major)
}

// sayKeys names the keys without which a part of the database cannot be read.
func (c backupConfig) sayKeys(ctx context.Context, out io.Writer, db *postgres.DB) error {
	ring, err := c.keyring(c.EncryptionKeys)
	if err != nil {
		return err
	}
	counts, err := ring.Survey(ctx, db)
	if err != nil {
		return err
	}
	values, opened := map[string]int{}, map[string]bool{}
	for _, count := range counts {
		values[count.KeyID] += count.Rows
		opened[count.KeyID] = opened[count.KeyID] || count.State == seal.Current || count.State == seal.Due
	}
	if len(values) == 0 {
		_, err := fmt.Fprintln(out, "nothing in it is sealed: no encryption key is needed")
		return err
	}
	var lines []string
	for id, n := range values {
		line := fmt.Sprintf("encryption key %s is needed for %d values", id, n)
		if !opened[id] {
			line += "; it is not among the keys that were given"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	_, err = fmt.Fprintf(out, "%s\nthe keys are not in the file: keep them apart from it\n", strings.Join(lines, "\n"))
	return err
}
