package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"portolan/internal/localpg"
	"portolan/internal/postgres"
	"portolan/internal/postgres/postgrestest"
)

// composeVariable holds the URL at which a test is asked to start and stop
// services.
const composeVariable = "TEST_COMPOSE"

// docker stands in for `docker compose`, so that the commands of README.md can
// be run as they are where there are no containers. What is run in the one of
// PostgreSQL is run here, with the same streams: pipes.
func docker() {
	args, ours := strings.CutPrefix(strings.Join(os.Args[1:], "\x00"), strings.ReplaceAll("compose -f docker-compose.kubernetes.yml ", " ", "\x00"))
	words := strings.Split(args, "\x00")
	err := fmt.Errorf("docker: not understood: %q", os.Args[1:])
	switch {
	case !ours:
	case len(words) > 3 && slices.Equal(words[:3], []string{"exec", "-T", "postgres"}):
		err = piped(words[3:])
	case len(words) > 3 && slices.Equal(words[:3], []string{"exec", "web", "/portolan"}):
		err = piped(append([]string{"portolan"}, words[3:]...))
	default:
		var answer *http.Response
		if answer, err = http.Post(os.Getenv(composeVariable), "text/plain", strings.NewReader(strings.Join(words, " "))); err == nil {
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("docker: %s: %v", answer.Status, words)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func piped(words []string) error {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = struct{ io.Reader }{os.Stdin}, struct{ io.Writer }{os.Stdout}, os.Stderr
	return cmd.Run()
}

// compose is an installation whose web service is started and stopped by what
// README.md says.
type compose struct {
	*installation
	dir   string
	calls []string
}

// shell runs lines of a shell, and serves what they ask of `docker compose`.
func (c *compose) shell(lines string) string {
	c.Helper()
	type call struct {
		words string
		done  chan struct{}
	}
	calls := make(chan call)
	control := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		words, _ := io.ReadAll(r.Body)
		asked := call{string(words), make(chan struct{})}
		calls <- asked
		<-asked.done
	}))
	defer control.Close()
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-e")
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), append(c.env, composeVariable+"="+control.URL)...)
	cmd.Stdin = strings.NewReader(lines)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				c.Fatalf("%v\n%s", err, out.String())
			}
			return out.String()
		case asked := <-calls:
			c.calls = append(c.calls, asked.words)
			switch asked.words {
			case "stop web worker":
				c.end()
			case "up --detach":
				c.serve("web")
			}
			close(asked.done)
		}
	}
}

// readmeBlocks are the indented blocks below a heading of README.md.
func readmeBlocks(t *testing.T, heading string) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), heading+"\n")
	if !found {
		t.Fatalf("README.md has no %q", heading)
	}
	section, _, _ := strings.Cut(rest, "\n#")
	var blocks []string
	in := false
	for line := range strings.Lines(section) {
		code, is := strings.CutPrefix(line, "    ")
		switch {
		case is && !in:
			blocks = append(blocks, code)
		case is:
			blocks[len(blocks)-1] += code
		}
		in = is
	}
	return blocks
}

// contents is the table of contents of a file of pg_dump.
func contents(t *testing.T, program, file string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "--list", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, ";") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// TestTheComposeDeploymentIsBackedUpAsREADMESays runs the commands of README.md
// on a real PostgreSQL, which has what compose gives it: a user portolan and a
// database of that name.
func TestTheComposeDeploymentIsBackedUpAsREADMESays(t *testing.T) {
	t.Parallel()
	blocks := readmeBlocks(t, "### Backup of the Compose deployment")
	if len(blocks) != 2 {
		t.Fatalf("README.md has %d blocks, not one for the backup and one for the restore", len(blocks))
	}
	pg, err := localpg.Start(t.Context(), localpg.Options{DataDir: filepath.Join(t.TempDir(), "postgres"), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	address, err := url.Parse(pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	open := func(url string) *postgres.DB {
		t.Helper()
		db, err := postgres.Open(t.Context(), url, postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open(pg.URL())
	major, err := db.ServerMajor(t.Context())
	db.Close()
	if err != nil {
		t.Fatal(err)
	}
	pgRestore, err := localpg.Tool("pg_restore", major)
	if err != nil {
		t.Fatal(err)
	}
	c := &compose{dir: t.TempDir(), installation: newInstallation(t,
		"PORTOLAN_DATABASE_URL="+pg.URL(), "PORTOLAN_ENCRYPTION_KEYS="+key("k1", 1),
		"PGHOST="+address.Query().Get("host"), "PGPORT="+address.Query().Get("port"),
		"PATH="+os.Getenv("PATH")+":"+filepath.Dir(pgRestore),
	)}
	c.serve("web")
	before := c.browser()
	if !c.signsIn(before, admin, firstPassword) {
		t.Fatal("the first admin cannot sign in")
	}
	c.register(before, "harbour")

	c.says("wrote", "", "backup", filepath.Join(c.dir, "own.backup"))
	c.shell(blocks[0])
	file := filepath.Join(c.dir, "portolan-2026-01-31.backup")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if by, own := contents(t, pgRestore, file), contents(t, pgRestore, filepath.Join(c.dir, "own.backup")); by != own || own == "" {
		t.Errorf("by hand it holds\n%s\nby portolan backup\n%s", by, own)
	}
	const later, laterPassword = "ben@example.com", "the only password of Ben"
	c.says("created", laterPassword+"\n", "user", "create", later)

	said := c.shell(blocks[1])
	if want := []string{"stop web worker", "up --detach --wait postgres", "up --detach"}; !slices.Equal(c.calls, want) {
		t.Errorf("docker compose did %q, want %q", c.calls, want)
	}
	if spaced := strings.Join(strings.Fields(said), " "); !strings.Contains(spaced, "k1 kubeconfigs 1 current") {
		t.Errorf("it ends with\n%s", said)
	}
	if c.isIn(before) {
		t.Error("a session came along")
	}
	again := c.browser()
	if !c.signsIn(again, admin, firstPassword) || c.signsIn(c.browser(), later, laterPassword) {
		t.Error("the accounts are not those of the backup")
	}
	if text := c.page(again, "/admin/clusters/harbour"); strings.Contains(text, "cannot be opened") {
		t.Error("the kubeconfig cannot be opened")
	}
	address.Path = "/portolan_before"
	kept := open(address.String())
	defer kept.Close()
	if _, err := kept.UserByEmail(t.Context(), later); err != nil {
		t.Errorf("the database that was there: %v", err)
	}

	// And portolan restore reads it as well.
	other := newInstallation(t, "PORTOLAN_DATABASE_URL="+postgrestest.URL(t), "PORTOLAN_ENCRYPTION_KEYS="+key("k1", 1))
	other.says("restored", "", "restore", file)
}
