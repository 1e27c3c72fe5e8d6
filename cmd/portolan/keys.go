package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"portolan/internal/fleet"
	"portolan/internal/postgres"
	"portolan/internal/seal"
)

type keysCmd struct {
	Generate keysGenerateCmd `cmd:"" help:"Print a new key, in the form that PORTOLAN_ENCRYPTION_KEYS takes."`
	Status   keysStatusCmd   `cmd:"" help:"Say how many sealed values need which key, and which keys are missing or wrong."`
	Rotate   keysRotateCmd   `cmd:"" help:"Seal everything anew with the first key. First start all processes again with the new key before the old ones; afterwards the old ones can go. May be interrupted, and run beside everything else."`
}

type keysGenerateCmd struct{}

// Run prints a key.
func (keysGenerateCmd) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, seal.NewKey())
	return err
}

// keysConfig says where the sealed values and their keys are.
type keysConfig struct {
	storeConfig
	EncryptionKeys string `env:"PORTOLAN_ENCRYPTION_KEYS" placeholder:"ID:KEY,…" help:"Keys as the other processes have them. The first one seals."`
}

// open returns the database, with its schema up to date, and the keys. end
// releases it.
func (c keysConfig) open(ctx context.Context) (db *postgres.DB, ring *seal.Keyring, end func(), err error) {
	if ring, err = c.keyring(c.EncryptionKeys); err != nil {
		return nil, nil, nil, err
	}
	db, end, err = c.storeConfig.open(ctx, "portolan keys")
	return db, ring, end, err
}

type keysStatusCmd struct{ keysConfig }

// Run prints a table of what the keys have sealed. Values that do not open are
// an error.
func (c keysStatusCmd) Run(ctx context.Context, out io.Writer) error {
	db, ring, end, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	counts, err := ring.Survey(ctx, db)
	if err != nil {
		return err
	}
	if err := printCounts(out, ring, counts); err != nil {
		return err
	}
	return ring.Unopened(counts)
}

func printCounts(out io.Writer, ring *seal.Keyring, counts []seal.Count) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tKIND\tVALUES\tSTATE")
	used := map[string]bool{}
	for _, count := range counts {
		used[count.KeyID] = true
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", count.KeyID, count.Kind, count.Rows, count.State)
	}
	for _, id := range ring.KeyIDs() {
		switch {
		case used[id]:
		case id == ring.SealingKeyID():
			fmt.Fprintf(table, "%s\t-\t0\tseals, nothing yet\n", id)
		default:
			fmt.Fprintf(table, "%s\t-\t0\tunused, can be removed\n", id)
		}
	}
	return table.Flush()
}

type keysRotateCmd struct {
	keysConfig
	Batch int `default:"100" help:"Values sealed anew in one transaction."`
}

// Run seals everything anew with the first key.
func (c keysRotateCmd) Run(ctx context.Context, out io.Writer) error {
	if c.Batch < 1 || c.Batch > 10_000 {
		return errors.New("--batch must be from 1 to 10000")
	}
	db, ring, end, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	var said time.Time
	resealed, err := seal.Rotation{Ring: ring, Store: db, Batch: c.Batch, Report: func(p seal.Progress) {
		if p.Seen < p.Total && time.Since(said) < time.Second {
			return
		}
		said = time.Now()
		fmt.Fprintf(out, "%s: %d of %d looked at, %d sealed anew\n", p.Kind, p.Seen, p.Total, p.Resealed)
	}}.Run(ctx)
	entry := fleet.AuditEntry{
		At: time.Now(), Actor: commandLine().Email, Action: "keys.rotate", Target: "key/" + ring.SealingKeyID(),
		Outcome: "ok", Reason: fmt.Sprintf("%d values were sealed anew", resealed),
	}
	if err != nil {
		entry.Outcome = "failed"
		entry.Reason += "; then: " + err.Error()
	}
	if ring.CanSeal() {
		if auditErr := db.Audit(context.WithoutCancel(ctx), entry); auditErr != nil {
			return errors.Join(err, auditErr)
		}
	}
	fmt.Fprintf(out, "%d values were sealed anew with the key %s\n", resealed, ring.SealingKeyID())
	return err
}
