package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// asideMark stands in the name of a damaged file between the name it had and
// the Unix time at which it was put aside.
const asideMark = ".damaged-"

// damageError says that a file is not what it must be.
type damageError struct{ detail string }

func (e *damageError) Error() string { return e.detail }

// resultCode is SQLite's primary result code of err, or -1.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return -1
}

// suspect reports whether err may come from a damaged file.
func suspect(err error) bool {
	switch resultCode(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	case sqlite3.SQLITE_IOERR:
		e, _ := errors.AsType[*sqlite.Error](err)
		return e.Code() == sqlite3.SQLITE_IOERR_SHORT_READ
	}
	return false
}

// engineTrouble gives errors of the disk the kind that says "later it may
// pass". Others stay as they are.
func engineTrouble(err error) error {
	switch resultCode(err) {
	case sqlite3.SQLITE_FULL:
		return &core.Error{
			Kind: core.Unavail, Reason: "disk-full", Message: "the disk of the telemetry files is full",
			Hint: "make room on the file system of the data folder; nothing acknowledged is lost", Err: err,
		}
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
		return &core.Error{
			Kind: core.Unavail, Reason: "telemetry-io", Message: "a telemetry file cannot be written or read",
			Hint: "look at the disk of the data folder; the log has the cause", Err: err,
		}
	}
	return err
}

// structure is what the engine finds wrong with a database, "" when nothing.
func structure(ctx context.Context, db *sql.DB, pragma string) string {
	rows, err := db.QueryContext(ctx, pragma)
	if err != nil {
		if suspect(err) {
			return err.Error()
		}
		return ""
	}
	defer func() { _ = rows.Close() }() // read to the end or given up
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			break
		}
		found = append(found, line)
	}
	if err := rows.Err(); err != nil && suspect(err) {
		found = append(found, err.Error())
	}
	if len(found) == 0 || len(found) == 1 && found[0] == "ok" {
		return ""
	}
	return strings.ReplaceAll(strings.Join(found, "; "), "\n", " ")
}

// damage says what is wrong with the file after err, "" when the file is
// well. Only a check of its structure condemns a file, never an error alone.
func (f *epochFile) damage(err error) string {
	if d, ok := errors.AsType[*damageError](err); ok {
		return d.detail
	}
	if err == nil || !suspect(err) {
		return ""
	}
	return structure(context.Background(), f.r, `PRAGMA quick_check(3)`)
}

// putAside takes a damaged file out of use, closes it when its last user has
// gone, and renames it, so that it is kept as it is for who repairs it. ent is
// nil when the file could not be opened at all.
func (s *EpochFiles) putAside(e core.Epoch, ent *epochEntry, detail string) error {
	at := s.now().UTC()
	aside := s.path(e) + asideMark + strconv.FormatInt(at.Unix(), 10)
	rel, err := filepath.Rel(filepath.Dir(s.dir), aside)
	if err != nil {
		rel = aside
	}
	b := telemetry.BrokenError{Epoch: e, Aside: rel, Detail: detail, At: at}

	s.mu.Lock()
	if old, ok := s.broken[keyOf(e)]; ok { // somebody else saw it first
		s.mu.Unlock()
		if ent != nil {
			s.release(ent)
		}
		return &old
	}
	s.broken[keyOf(e)] = b
	var wait chan struct{}
	if ent != nil && ent.refs > 1 {
		if ent.idle == nil {
			ent.idle = make(chan struct{})
		}
		wait = ent.idle
	}
	s.mu.Unlock()
	if ent != nil {
		s.release(ent)
		if wait != nil {
			<-wait // everyone else on this file is on their way out: entry is closed
		}
		_ = s.retire(ent) // of a damaged file no more can be expected
	}
	if err := rename(s.path(e), aside); err != nil {
		s.mu.Lock()
		delete(s.broken, keyOf(e)) // it stays in its place and is found again
		s.mu.Unlock()
		return engineTrouble(fmt.Errorf("put damaged epoch file %s aside: %w", e, err))
	}
	return &b
}

// rename moves a database with its write-ahead log. The log goes first: then
// no moment exists in which a new file at the old name would take over an
// old log.
func rename(from, to string) error {
	for _, suffix := range []string{"-wal", ""} {
		if err := os.Rename(from+suffix, to+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(from + "-shm"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(from))
}

// findAside notes which epochs have only a file that was put aside.
func (s *EpochFiles) findAside() error {
	return s.walk(func(e core.Epoch, name string, all []string) error {
		i := strings.Index(name, asideMark)
		if i < 0 || strings.HasSuffix(name, "-wal") {
			return nil
		}
		sec, err := strconv.ParseInt(name[i+len(asideMark):], 10, 64)
		if err != nil || slices.Contains(all, name[:i]) {
			return nil
		}
		s.broken[keyOf(e)] = telemetry.BrokenError{
			Epoch: e, Aside: filepath.Join(filepath.Base(s.dir), e.Class(), name), At: time.Unix(sec, 0).UTC(),
			Detail: "found damaged before the last start",
		}
		return nil
	})
}

// Broken names the epochs whose file was put aside, by name.
func (s *EpochFiles) Broken() []telemetry.BrokenError {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]telemetry.BrokenError, 0, len(s.broken))
	for _, b := range s.broken {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b telemetry.BrokenError) int { return strings.Compare(a.Aside, b.Aside) })
	return out
}

// walk calls fn for every file that belongs to an epoch. Names do not hold the
// epoch's length: it is what a declaration would make it today.
func (s *EpochFiles) walk(fn func(e core.Epoch, name string, all []string) error) error {
	classes, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list epoch files: %w", err)
	}
	for _, c := range classes {
		keep, err := strconv.ParseInt(strings.TrimPrefix(c.Name(), "k"), 10, 64)
		if err != nil || !c.IsDir() || keep <= 0 || keep > int64(1<<62)/int64(time.Second) {
			continue
		}
		ents, err := os.ReadDir(filepath.Join(s.dir, c.Name()))
		if err != nil {
			return fmt.Errorf("list epoch files: %w", err)
		}
		var all []string
		for _, f := range ents {
			all = append(all, f.Name())
		}
		for _, name := range all {
			stem, _, ok := strings.Cut(name, ".db")
			start, err := time.Parse("20060102T150405Z", stem)
			if !ok || err != nil {
				continue
			}
			e := core.Epoch{Keep: time.Duration(keep) * time.Second, Start: start.Unix()}
			e.Length = declaration.EpochLength(e.Keep)
			if err := fn(e, name, all); err != nil {
				return err
			}
		}
	}
	return nil
}

// List names every epoch that has a file, damaged or not.
func (s *EpochFiles) List(ctx context.Context) ([]core.Epoch, error) {
	var out []core.Epoch
	err := s.walk(func(e core.Epoch, name string, all []string) error {
		if strings.HasSuffix(name, "-wal") || strings.HasSuffix(name, "-shm") {
			return nil
		}
		if strings.Contains(name, asideMark) && slices.Contains(all, name[:strings.Index(name, asideMark)]) {
			return nil
		}
		out = append(out, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, e := range out {
		e.Length = 0 // unknown: the file says it
		err := s.with(ctx, e, leaveIt, func(f *epochFile) error {
			out[i].Length = f.epoch.Length
			return nil
		})
		if _, broken := telemetry.AsBroken(err); err != nil && !broken && !errors.Is(err, errNoFile) {
			return nil, fmt.Errorf("open epoch file %s: %w", e, err)
		}
	}
	return out, nil
}

// unlink removes e's file, its write-ahead log and damaged copies, and makes
// that durable.
func (s *EpochFiles) unlink(e core.Epoch) error {
	base := s.path(e)
	dir, stem := filepath.Split(base)
	ents, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []string
	for _, f := range ents {
		if strings.HasPrefix(f.Name(), stem) {
			all = append(all, f.Name())
		}
	}
	if len(all) == 0 {
		return nil
	}
	// The log before the file: a log without its file is nothing, but a new
	// file would take over an old log.
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	for _, name := range all {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return syncDir(dir)
}

// syncDir makes names made, changed or removed in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
