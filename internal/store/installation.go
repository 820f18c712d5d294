package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Installation is what a data folder is. It is written once.
type Installation struct {
	ID          string
	Environment core.Environment
	Created     time.Time
}

// Installation reads what this data folder is. core.Unready before it was set.
func (t *Tx) Installation(ctx context.Context) (Installation, error) {
	var i Installation
	var us int64
	err := t.tx.QueryRowContext(ctx, `SELECT id, environment, created_us FROM installation WHERE one = 1`).
		Scan(&i.ID, &i.Environment, &us)
	if errors.Is(err, sql.ErrNoRows) {
		return i, core.E(core.Unready, "not-initialised", "this data folder has not been set up", "run `hawser init`")
	}
	if err != nil {
		return i, fmt.Errorf("read installation: %w", err)
	}
	i.Created = time.UnixMicro(us).UTC()
	return i, nil
}

// PutInstallation says once and for all what this data folder is.
func (t *Tx) PutInstallation(ctx context.Context, i Installation) error {
	_, err := t.tx.ExecContext(ctx, `INSERT INTO installation (one, id, environment, created_us) VALUES (1, ?, ?, ?)`,
		i.ID, i.Environment, i.Created.UnixMicro())
	if err != nil {
		return fmt.Errorf("write installation: %w", err)
	}
	return nil
}
