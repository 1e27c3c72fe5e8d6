// Command portolan is the whole program: the web pages, the workers that run
// operations, the observer of the clusters, and the commands of whoever
// installs it. Nothing is decided here; the parts are put together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"portolan/internal/fleet"
)

// version is set by the linker.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	paceCollections()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// cli is every command with its flags; kong makes the help of it.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run everything in one process: web, worker and observer. Without a database URL it starts a private PostgreSQL."`
	Web     webCmd     `cmd:"" help:"Run the web pages alone."`
	Worker  workerCmd  `cmd:"" help:"Run operations and watch clusters, without web pages."`
	Migrate migrateCmd `cmd:"" help:"Bring the database schema up to date."`
	User    userCmd    `cmd:"" help:"Create an account, or set its password anew."`
	Keys    keysCmd    `cmd:"" help:"Make encryption keys, see what they have sealed, and seal everything anew."`
	Backup  backupCmd  `cmd:"" help:"Write the database into a file, while everything goes on. Encryption keys are not part of it."`
	Restore restoreCmd `cmd:"" help:"Read such a file into an empty database."`
	Health  healthCmd  `cmd:"" help:"Ask a running process of this machine whether it is ready."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// run is main without the process, so that tests can call it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if err := secretsFromFiles(os.Environ, os.Setenv); err != nil {
		fmt.Fprintln(stderr, "portolan:", err)
		return 2
	}
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("portolan"),
		kong.Description("Runs workloads on many Kubernetes clusters. Every flag can also be set by the environment variable named beside it; secrets also from a file, by that name with _FILE behind it."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
	)
	if err != nil {
		fmt.Fprintln(stderr, "portolan:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintln(stderr, "portolan:", err)
		return 2
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(stderr, "portolan:", explain(err))
		return 1
	}
	return 0
}

// untilTold runs what runs until the process is told to end. To be told so is no
// error of it, whatever that cuts short; a command that was to come to an end by
// itself has failed then.
func untilTold(ctx context.Context, work func(context.Context) error) error {
	err := work(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// explain returns what a person needs of an error: of one made to be shown,
// its own words without the way that it took.
func explain(err error) string {
	var shown *fleet.Error
	switch {
	case errors.As(err, &shown):
	case errors.Is(err, context.Canceled):
		return "interrupted before the end (" + err.Error() + ")"
	default:
		return err.Error()
	}
	text := shown.Message
	if len(shown.Problems) > 0 {
		text += " (" + shown.Problems.String() + ")"
	}
	if shown.Remedy != "" {
		text += " " + shown.Remedy
	}
	return text
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, "portolan", version)
	return err
}
