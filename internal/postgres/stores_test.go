package postgres_test

import (
	"portolan/internal/auth"
	"portolan/internal/observe"
	"portolan/internal/operate"
	"portolan/internal/postgres"
	"portolan/internal/registry"
)

// The stores that the use cases declare.
var (
	_ operate.Store  = (*postgres.DB)(nil)
	_ registry.Store = (*postgres.DB)(nil)
	_ observe.Store  = (*postgres.DB)(nil)
	_ auth.Store     = (*postgres.DB)(nil)
)
