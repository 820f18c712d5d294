package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

//go:embed holdfile.sql
var holdSchema string

// HoldFiles keep what legal holds put aside, one SQLite file for each:
// Dir/ID.db. They are a telemetry.HoldFiles.
type HoldFiles struct{ dir string }

var _ telemetry.HoldFiles = (*HoldFiles)(nil)

// OpenHoldFiles makes the folder if it is missing: DATA/hold.
func OpenHoldFiles(dir string) (*HoldFiles, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make hold folder: %w", err)
	}
	return &HoldFiles{dir: dir}, nil
}

// path is the file of a hold. Ids are made by us and never leave the folder.
func (f *HoldFiles) path(id string) (string, error) {
	if id == "" || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", core.E(core.Invalid, "hold-id", "this is not the id of a hold", "see `hawser hold list`")
	}
	return filepath.Join(f.dir, id+".db"), nil
}

// with runs fn in a transaction on a hold's file. Holds are few and touched
// seldom: the file is open only meanwhile.
func (f *HoldFiles) with(ctx context.Context, id string, fn func(*sql.Tx) error) (err error) {
	path, err := f.path(id)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err != nil {
		return fmt.Errorf("open hold file %s: %w", id, err)
	}
	db, err := openSQLite(path, "_txlock=immediate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("hold file %s: %w", id, err)
	}
	defer func() { _ = tx.Rollback() }() // a no-op after Commit
	if err := fn(tx); err != nil {
		return fmt.Errorf("hold file %s: %w", id, engineTrouble(err))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("hold file %s: %w", id, engineTrouble(err))
	}
	return nil
}

// Create makes an empty hold file; one that exists stays as it is. It is made
// under another name first, so that a file at its name always has its tables.
func (f *HoldFiles) Create(ctx context.Context, id string) error {
	path, err := f.path(id)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made := path + ".new"
	if err := removeDatabase(made); err != nil {
		return fmt.Errorf("make hold file %s: %w", id, err)
	}
	db, err := openSQLite(made, "")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, holdSchema)
	if err == nil {
		err = db.Close() // folds the write-ahead log in
	} else {
		err = errors.Join(err, db.Close())
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err == nil {
		err = syncDir(f.dir)
	}
	if err != nil {
		return fmt.Errorf("make hold file %s: %w", id, err)
	}
	return nil
}

// removeDatabase removes an SQLite file with its logs.
func removeDatabase(path string) error {
	for _, suffix := range []string{"-wal", "-shm", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Upto is the number up to which the filed rows of an epoch are all kept.
func (f *HoldFiles) Upto(ctx context.Context, id string, e core.Epoch) (int64, error) {
	var upto int64
	k := keyOf(e)
	err := f.with(ctx, id, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT upto FROM epochs WHERE keep_s = ? AND start_s = ?`, k.keep, k.start).Scan(&upto)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return upto, err
}

// Append keeps rows of an epoch.
func (f *HoldFiles) Append(ctx context.Context, id string, e core.Epoch, rows []telemetry.HeldRow, upto int64) error {
	k := keyOf(e)
	return f.with(ctx, id, func(tx *sql.Tx) error {
		var epoch int64
		err := tx.QueryRowContext(ctx, `INSERT INTO epochs (keep_s, start_s, length_s, upto) VALUES (?, ?, ?, ?)
			ON CONFLICT (keep_s, start_s) DO UPDATE SET upto = max(upto, excluded.upto) RETURNING id`,
			k.keep, k.start, int64(e.Length/time.Second), upto).Scan(&epoch)
		if err != nil {
			return err
		}
		stmt, err := tx.PrepareContext(ctx, `INSERT INTO rows (epoch, part, sealed) VALUES (?, ?, ?) ON CONFLICT (epoch, part) DO NOTHING`)
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }() // its transaction is over
		for _, r := range rows {
			if _, err := stmt.ExecContext(ctx, epoch, r.Key[:], r.Sealed); err != nil {
				return err
			}
		}
		return nil
	})
}

// Count is how many rows a hold keeps.
func (f *HoldFiles) Count(ctx context.Context, id string) (n int64, err error) {
	err = f.with(ctx, id, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM rows`).Scan(&n)
	})
	return n, err
}

// Each yields every row of a hold, by epoch.
func (f *HoldFiles) Each(ctx context.Context, id string, yield func(core.Epoch, telemetry.HeldRow) error) error {
	return f.with(ctx, id, func(tx *sql.Tx) error {
		return each(ctx, tx, `SELECT keep_s, start_s, length_s, part, sealed FROM rows JOIN epochs ON epochs.id = epoch
			ORDER BY start_s, keep_s, part`, nil, func(scan scanner) error {
			var keep, length int64
			var e core.Epoch
			var r telemetry.HeldRow
			var part, sealed sql.RawBytes
			if err := scan(&keep, &e.Start, &length, &part, &sealed); err != nil {
				return err
			}
			if err := fill(r.Key[:], part, "part"); err != nil {
				return err
			}
			e.Keep, e.Length, r.Sealed = time.Duration(keep)*time.Second, time.Duration(length)*time.Second, sealed
			return yield(e, r)
		})
	})
}

// Remove removes a hold's file.
func (f *HoldFiles) Remove(_ context.Context, id string) error {
	path, err := f.path(id)
	if err != nil {
		return err
	}
	for _, p := range []string{path, path + ".new"} {
		if err := removeDatabase(p); err != nil {
			return fmt.Errorf("remove hold file %s: %w", id, err)
		}
	}
	return syncDir(f.dir)
}
