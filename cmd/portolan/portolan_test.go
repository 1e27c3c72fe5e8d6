package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"portolan/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	testscript.Main(mainWithDatabases{m}, map[string]func(){"portolan": main, "docker": docker})
}

// mainWithDatabases ends the PostgreSQL that tests share.
type mainWithDatabases struct{ m *testing.M }

// Run runs the tests.
func (m mainWithDatabases) Run() int { return postgrestest.Main(m.m) }

// TestCommandLine runs what people type, as testdata/*.txtar says.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PORTOLAN_TEST_URL", postgrestest.URL(t))
			return nil
		},
	})
}
