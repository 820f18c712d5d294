package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

//go:embed epochfile.sql
var epochSchema string

// epochSettings are those of every epoch file. A commit is not synced: the
// journal holds its rows until sync has run, so a power cut costs nothing but
// work done again; what was synced is whole whatever happens, because WAL
// frames carry checksums and checkpoints sync in order. Nothing is deleted
// from such a file, so there is nothing to overwrite. A write-ahead log of
// 64 MiB before it is folded in lets pages that change often be written once.
const epochSettings = "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)" +
	"&_pragma=secure_delete(OFF)&_pragma=cache_size(-8000)&_pragma=wal_autocheckpoint(16000)" +
	"&_pragma=trusted_schema(OFF)"

// epochLayout is the layout of epoch files that this program writes and reads.
const epochLayout = 2

const epochReaders = 4 // connections that read one file at the same time

// epochFile is one open epoch file.
type epochFile struct {
	path  string
	epoch core.Epoch
	w     *sql.DB // one connection
	r     *sql.DB // opened when first used

	turn chan struct{} // holds one token: who has it may write and use what follows
	head telemetry.Head
	mark markRow
	dict dictionary
	// stale: a transaction failed; what is above may not be what is in the file.
	stale bool
	// unsynced: the last sync failed. The kernel may then believe that pages
	// are on disk which are not, so the next one writes them again.
	unsynced bool
	named    bool // the directory entries of file and log are durable
}

// markRow is the file's watermark as it lies in the table.
type markRow struct {
	journal int64 // number in journals; 0: none
	seq     uint64
	late    uint64
}

// openEpochFile opens e's file, or makes it if missing is makeIt.
func openEpochFile(path string, e core.Epoch, missing onMissing) (_ *epochFile, err error) {
	if e.Start < -1<<40 || e.Start > 1<<40 || e.Keep <= 0 {
		return nil, fmt.Errorf("epoch %s cannot be", e)
	}
	info, err := os.Stat(path)
	fresh := errors.Is(err, os.ErrNotExist)
	switch {
	case fresh && missing == leaveIt:
		return nil, errNoFile
	case fresh:
		if err := makeDir(filepath.Dir(path)); err != nil {
			return nil, engineTrouble(fmt.Errorf("make folder of epoch %s: %w", e, err))
		}
	case err != nil:
		return nil, fmt.Errorf("look at epoch file %s: %w", e, err)
	case info.Size() == 0 && missing == leaveIt: // a kill while it was made
		return nil, errNoFile
	}
	f := &epochFile{path: path, epoch: e, turn: make(chan struct{}, 1)}
	defer func() {
		if err == nil {
			return
		}
		if suspect(err) {
			err = &damageError{err.Error()}
		}
		_ = f.close() // the first error is the one to report
		err = engineTrouble(err)
	}()
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + epochSettings
	if f.w, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return nil, fmt.Errorf("open epoch file %s: %w", e, err)
	}
	f.w.SetMaxOpenConns(1)
	if f.r, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return nil, fmt.Errorf("open epoch file %s: %w", e, err)
	}
	f.r.SetMaxOpenConns(epochReaders)
	if err := f.load(context.Background(), missing); err != nil {
		return nil, fmt.Errorf("open epoch file %s: %w", e, err)
	}
	f.turn <- struct{}{}
	return f, nil
}

// load makes the tables if the file is new and reads how far it has come.
func (f *epochFile) load(ctx context.Context, missing onMissing) error {
	tx, err := f.w.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // a no-op after Commit
	var tables int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&tables); err != nil {
		return err
	}
	if tables == 0 {
		if missing != makeIt {
			return errNoFile
		}
		if _, err := tx.ExecContext(ctx, epochSchema); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
		chain := telemetry.FirstChain(f.epoch)
		_, err := tx.ExecContext(ctx, `INSERT INTO epoch (one, layout, keep_s, start_s, length_s, batches, rows, wrong_clock, chain, journal, seq, late)
			VALUES (1, ?, ?, ?, ?, 0, 0, 0, ?, 0, 0, 0)`, epochLayout,
			int64(f.epoch.Keep/time.Second), f.epoch.Start, int64(f.epoch.Length/time.Second), chain[:])
		if err != nil {
			return fmt.Errorf("name the epoch: %w", err)
		}
	}
	e, err := f.readHead(ctx, tx)
	if err != nil {
		return err
	}
	if keyOf(e) != keyOf(f.epoch) || f.epoch.Length != 0 && e.Length != f.epoch.Length {
		return &damageError{fmt.Sprintf("the file says that it belongs to epoch %s of length %s", e, e.Length)}
	}
	f.epoch = e
	if err := f.dict.load(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

// refresh reads again what memory holds of the file.
func (f *epochFile) refresh(ctx context.Context, tx *sql.Tx) error {
	if _, err := f.readHead(ctx, tx); err != nil {
		return err
	}
	if err := f.dict.load(ctx, tx); err != nil {
		return err
	}
	f.stale = false
	return nil
}

// readHead reads the epoch table into f.head and f.mark.
func (f *epochFile) readHead(ctx context.Context, tx *sql.Tx) (core.Epoch, error) {
	var e core.Epoch
	var layout, keep, length int64
	var chain []byte
	err := tx.QueryRowContext(ctx, `SELECT layout, keep_s, start_s, length_s, batches, rows, wrong_clock, chain, journal, seq, late FROM epoch`).
		Scan(&layout, &keep, &e.Start, &length, &f.head.Batches, &f.head.Rows, &f.head.WrongClock, &chain, &f.mark.journal, &f.mark.seq, &f.mark.late)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return e, &damageError{"the file does not say which epoch it belongs to"}
	case err != nil && resultCode(err) == 1: // SQLITE_ERROR: no such table or column
		return e, &damageError{err.Error()}
	case err != nil:
		return e, err
	case layout != epochLayout:
		return e, &damageError{fmt.Sprintf("the file has layout %d; this program reads layout %d", layout, epochLayout)}
	case copy(f.head.Chain[:], chain) != len(f.head.Chain):
		return e, &damageError{"the chain is cut short"}
	}
	e.Keep, e.Length = time.Duration(keep)*time.Second, time.Duration(length)*time.Second
	return e, nil
}

// sync makes everything committed so far durable.
func (f *epochFile) sync() error {
	<-f.turn
	defer func() { f.turn <- struct{}{} }()
	err := f.syncFiles()
	f.unsynced = err != nil
	return err
}

func (f *epochFile) syncFiles() error {
	if f.unsynced {
		// Fold the log into the file: every page is written once more.
		var busy, log, done int
		err := f.w.QueryRowContext(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &log, &done)
		if err != nil {
			return engineTrouble(err)
		}
		if busy != 0 {
			return engineTrouble(fmt.Errorf("fold in the log: a reader is in the way"))
		}
	}
	for _, p := range []string{f.path + "-wal", f.path} {
		if err := syncFile(p); err != nil {
			return &core.Error{
				Kind: core.Unavail, Reason: "telemetry-io", Message: "a telemetry file cannot be synced to disk",
				Hint: "look at the disk of the data folder; the log has the cause", Err: err,
			}
		}
	}
	if !f.named {
		if err := syncDir(filepath.Dir(f.path)); err != nil {
			return engineTrouble(err)
		}
		f.named = true
	}
	return nil
}

func (f *epochFile) close() error {
	var errs []error
	for _, db := range []*sql.DB{f.r, f.w} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// makeDir makes dir and the names on the way to it durable.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}
