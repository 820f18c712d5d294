package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"sort"
)

// Each migration is one file, applied once, in the order of its name. Every
// column stands on a line of its own that ends with a tag and its meaning; the
// schema test reads them (see schema_test.go for the tags).
//
//go:embed migrations/*.sql
var migrations embed.FS

func migrate(ctx context.Context, t *Tx) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	sort.Strings(names)
	if _, err := t.tx.ExecContext(ctx, t.tx.engine.schema(`CREATE TABLE IF NOT EXISTS schema_migrations (name TEXT PRIMARY KEY)`)); err != nil {
		return fmt.Errorf("make migrations table: %w", err)
	}
	for _, name := range names {
		var n int
		if err := t.tx.QueryRowContext(ctx, `SELECT count(*) FROM schema_migrations WHERE name = ?`, name).Scan(&n); err != nil {
			return fmt.Errorf("read migrations: %w", err)
		}
		if n > 0 {
			continue
		}
		src, err := migrations.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if _, err := t.tx.ExecContext(ctx, t.tx.engine.schema(string(src))); err != nil {
			return fmt.Errorf("apply %s: %w", name, err)
		}
		if _, err := t.tx.ExecContext(ctx, `INSERT INTO schema_migrations (name) VALUES (?)`, name); err != nil {
			return fmt.Errorf("note %s: %w", name, err)
		}
	}
	return nil
}
