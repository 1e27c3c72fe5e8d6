// Package migrations holds the database's schema as goose migrations, in the
// order of their numbers. A file that has been released is never changed; what
// comes later is a further file.
package migrations

import "embed"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
