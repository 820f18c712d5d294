// Package store is the only place with SQL. It keeps the control database
// (devices, certificates, declarations, ownerships, the ledger) and the
// telemetry files, one SQLite file per keep-class and epoch, and gives each
// capability exactly the Tx interface that the capability declares.
//
// What a capability needs from storage is written in one file here named after
// it (identity.go, ledger.go, …), and its behaviour is tested once, for every
// engine, in storetest.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the embedded engine, pure Go

	"github.com/hawser-iot/hawser/internal/core"
)

// Options says where a store lives.
type Options struct {
	Dir string // the data folder; made with mode 0700 when it is missing
	// Postgres is where the control database is instead of in the data folder;
	// the zero value is in the folder.
	Postgres PGOptions
	// Moved opens a store that everything was moved from, or is being moved to.
	Moved bool
}

// Store is an open data folder. One process at a time holds it.
type Store struct {
	dir  string
	lock *os.File
	w    *sql.DB    // one connection: all writers queue here
	r    *sql.DB    // readers, on snapshots
	pg   *pgControl // nil: SQLite

	moved bool // opened although everything was moved
}

// ErrInUse says that another process holds the data folder.
var ErrInUse = errors.New("data folder is in use by another process")

// Open opens the data folder, makes what is missing and brings the control
// database to the newest schema. It fails with ErrInUse when another process
// holds the folder.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, "telemetry"), 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	return openStore(ctx, o, lock)
}

// Beside opens a second store for the same folder, of the other engine.
func (s *Store) Beside(ctx context.Context, o Options) (*Store, error) {
	o.Dir = s.dir
	if (o.Postgres != (PGOptions{})) == (s.pg != nil) {
		return nil, errors.New("open a store beside another one: both are of one engine")
	}
	return openStore(ctx, o, nil)
}

func openStore(ctx context.Context, o Options, lock *os.File) (*Store, error) {
	s := &Store{dir: o.Dir, lock: lock, moved: o.Moved}
	open := s.open
	if o.Postgres != (PGOptions{}) {
		open = func(ctx context.Context) error { return s.openPG(ctx, o.Postgres) }
	}
	if err := open(ctx); err != nil {
		_ = s.Close() // the open error is the one to report
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	path := filepath.Join(s.dir, "control.db")
	var err error
	if s.w, err = openSQLite(path, "_txlock=immediate"); err != nil {
		return err
	}
	s.w.SetMaxOpenConns(1)
	err = inTx(ctx, s.w, func(t *Tx) error {
		if err := migrate(ctx, t); err != nil {
			return err
		}
		var moved string
		if err := t.tx.QueryRowContext(ctx, `SELECT moved_to FROM store_holder WHERE one = 1`).Scan(&moved); err != nil {
			return fmt.Errorf("read whether the store was moved: %w", err)
		}
		if moved != "" && !s.moved {
			return errMoved(moved)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.r, err = openSQLite(path, "_pragma=query_only(1)"); err != nil {
		return err
	}
	s.r.SetMaxOpenConns(8)
	return nil
}

// errMoved says that a store is kept for reference only.
func errMoved(to string) error {
	if to == arriving {
		return core.E(core.Conflict, "store-arriving", "the move to this store is not finished", "run `hawser migrate` again")
	}
	return core.E(core.Conflict, "store-moved", "everything that was in this store was moved to "+to, "say so in the configuration, key store; or move it back with `hawser migrate`")
}

// busyTimeout is how long a connection waits for a lock.
const busyTimeout = 10 * time.Second

// openSQLite opens a database file with the settings that every file of ours
// has: durable commits, deleted bytes overwritten (measured: without
// secure_delete a deleted key stays in the file), references enforced.
func openSQLite(path, extra string) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=secure_delete(ON)&_pragma=foreign_keys(ON)&_pragma=busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")"
	if extra != "" {
		dsn += "&" + extra
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	if err := db.Ping(); err != nil {
		_ = db.Close() // the ping error is the one to report
		return nil, fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	return db, nil
}

func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	return f, nil
}

// Dir is the data folder.
func (s *Store) Dir() string { return s.dir }

// Close closes the databases and gives up the folder.
func (s *Store) Close() error {
	var errs []error
	if s.pg != nil {
		errs = append(errs, s.pg.close())
	}
	for _, db := range []*sql.DB{s.r, s.w} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Tx is one transaction on the control database. It has the methods of every
// capability's Tx interface.
type Tx struct{ tx engineTx }

// Update runs fn in a transaction that can write, and commits if fn returns
// nil. Writers run one after another; the commit is on disk when Update
// returns nil. An error means that nothing was written, with one exception
// that ends the server: see Lost.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	if s.pg != nil {
		return s.pg.update(ctx, fn)
	}
	return inTx(ctx, s.w, fn)
}

// View runs fn on a snapshot. Writes fail.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	if s.pg != nil {
		return s.pg.view(ctx, fn)
	}
	return inTx(ctx, s.r, fn)
}

// inTx runs fn in a transaction on an SQLite file.
func inTx(ctx context.Context, db *sql.DB, fn func(*Tx) error) error {
	return inEngineTx(ctx, db, sqliteEngine, nil, fn)
}

func inEngineTx(ctx context.Context, db *sql.DB, e engine, o *sql.TxOptions, fn func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // a no-op after Commit
	if err := fn(&Tx{tx: engineTx{Tx: tx, engine: e}}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
