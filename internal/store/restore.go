package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// ReadManifest reads and checks what a backup says of itself. It does not look
// at the files yet; Restore does.
func ReadManifest(dir string) (Manifest, error) {
	var m Manifest
	f, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, core.E(core.Invalid, "no-backup", fmt.Sprintf("%s holds no whole backup: it has no %s", dir, manifestName), "name the folder that `hawser backup` wrote")
	}
	if err != nil {
		return m, fmt.Errorf("read backup: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return m, fmt.Errorf("read backup: %w", err)
	}
	m, err = parseManifest(b)
	if err != nil {
		return m, &core.Error{Kind: core.Invalid, Reason: "bad-manifest", Err: err, Message: "the backup's manifest cannot be used", Hint: "it is damaged, or of another program"}
	}
	return m, nil
}

func parseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > maxManifest {
		return m, fmt.Errorf("it has more than %d bytes", maxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, err
	}
	if m.Format != manifestFormat {
		return m, fmt.Errorf("format %d is not known to this program", m.Format)
	}
	if !m.Environment.Valid() || m.Keyring.Generation == 0 {
		return m, errors.New("it names no environment or no keyring generation")
	}
	seen, control := map[string]bool{}, false
	for _, f := range m.Files {
		if _, err := core.ParseHash(f.SHA256); err != nil {
			return m, fmt.Errorf("%q: %w", f.Path, err)
		}
		if !backupPath(f.Path) || seen[f.Path] || f.Bytes < 0 {
			return m, fmt.Errorf("%q is no file of a backup, or stands there twice", f.Path)
		}
		seen[f.Path] = true
		control = control || f.Path == "control.db"
	}
	if !control {
		return m, errors.New("it has no control.db")
	}
	return m, nil
}

// backupPath reports whether a backup may hold a file of that path: nothing
// that leaves the data folder, and nothing that is not a database of ours.
func backupPath(p string) bool {
	if p != path.Clean(p) || !filepath.IsLocal(filepath.FromSlash(p)) || strings.ContainsAny(p, "\\\x00") || len(p) > 512 {
		return false
	}
	dir, name := path.Split(p)
	if !strings.Contains(name, ".db") || strings.HasSuffix(name, "-wal") || strings.HasSuffix(name, "-shm") {
		return false
	}
	return p == "control.db" || dir == "hold/" || dir == "telemetry/" || strings.HasPrefix(dir, "telemetry/") && strings.Count(dir, "/") == 2
}

// Fits refuses a keyring that is not as far as the one the backup was taken
// with, and names the generation that is missing. A newer one fits: who was
// erased since stays erased.
func (m *Manifest) Fits(k seal.State) error {
	if k.Generation > m.Keyring.Generation || k.Generation == m.Keyring.Generation && k.Additions >= m.Keyring.Additions {
		return nil
	}
	return core.E(core.Unready, "keyring-older-than-backup",
		fmt.Sprintf("the backup was taken with keyring generation %d (addition %d), but this keyring is of generation %d (addition %d)",
			m.Keyring.Generation, m.Keyring.Additions, k.Generation, k.Additions),
		fmt.Sprintf("bring the newest keyring and its root: generation %d or later", m.Keyring.Generation))
}

// RestoringSuffix is what the name of a data folder that is being restored ends
// in. One that is there without a restore under way is of one that was
// interrupted, and worth nothing.
const RestoringSuffix = ".restoring"

// RestoreOptions says what a restore needs. From and To are required.
type RestoreOptions struct {
	From string // the backup
	To   string // the data folder: missing, or empty
	// Finish, if given, changes the folder that is being restored before it
	// takes its place: nobody ever sees To without what it does.
	Finish func(ctx context.Context, dir string) error
	// Progress, if given, is told how many bytes of how many are copied.
	Progress func(done, total int64)
	// Step, if given, is called after each effect on disk, with its name. Tests
	// end the process there.
	Step func(name string)
}

// Restore makes the data folder To from the backup in From. Every file is
// checked against the manifest while it is copied to a folder beside To, which
// takes its place when all of it is there, finished and durable. Whenever it
// is killed, To is as it was or whole; what lies beside it is removed by the
// next restore. The caller holds the manifest against the keyring (Fits) and
// lets no two restores run at once.
func Restore(ctx context.Context, o RestoreOptions) (m Manifest, err error) {
	if o.Step == nil {
		o.Step = func(string) {}
	}
	if m, err = ReadManifest(o.From); err != nil {
		return m, err
	}
	to := filepath.Clean(o.To)
	if err := restorePlace(to); err != nil {
		return m, err
	}
	part := to + RestoringSuffix
	if err := os.RemoveAll(part); err != nil { // of a restore that was interrupted
		return m, fmt.Errorf("restore: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(part, "telemetry"), 0o700); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(part) // the error is the one to report
		}
	}()
	if err := restoreFiles(ctx, &o, part, &m); err != nil {
		return m, err
	}
	o.Step("copied")
	if err := settleHeads(ctx, part, &m); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	o.Step("settled")
	if o.Finish != nil {
		if err := o.Finish(ctx, part); err != nil {
			return m, err
		}
	}
	o.Step("finished")
	if err := syncTree(part); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	o.Step("durable")
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("restore: %w", err)
	}
	o.Step("place free")
	if err := os.Rename(part, to); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	o.Step("in place")
	return m, nil
}

// restorePlace refuses a place that a restored folder cannot take.
func restorePlace(to string) error {
	ents, err := os.ReadDir(to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if len(ents) > 0 {
		return core.E(core.Conflict, "data-exists", fmt.Sprintf("%s is not empty", to), "a restore overwrites nothing: move the old data folder away")
	}
	var in, above unix.Stat_t
	if err := errors.Join(unix.Stat(to, &in), unix.Stat(filepath.Dir(to), &above)); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if in.Dev != above.Dev {
		return core.E(core.Invalid, "data-is-mount", fmt.Sprintf("a file system is mounted at %s, and a restore puts a new folder there", to),
			"name a folder inside it with the key `data` in config.yaml")
	}
	return nil
}

func restoreFiles(ctx context.Context, o *RestoreOptions, part string, m *Manifest) error {
	done, total := int64(0), m.Bytes()
	for i, f := range m.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		rel := filepath.FromSlash(f.Path)
		each := func(n int64) error {
			if done += n; o.Progress != nil {
				o.Progress(done, total)
			}
			return ctx.Err()
		}
		if err := restoreFile(filepath.Join(o.From, rel), filepath.Join(part, rel), f, each); err != nil {
			return err
		}
		if i == 0 {
			o.Step("first file")
		}
	}
	return nil
}

// syncTree makes the files and names below a folder durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path) // fsync asks nobody whether it is a folder
	})
}

// counted tells how much was written through it.
type counted func(n int64) error

func (c counted) Write(p []byte) (int, error) { return len(p), c(int64(len(p))) }

func restoreFile(src, dst string, want BackupFile, each counted) error {
	changed := func(err error) error {
		return &core.Error{
			Kind: core.Invalid, Reason: "backup-changed", Err: err,
			Message: fmt.Sprintf("%s of the backup is missing or not what was written", want.Path), Hint: "use another backup: this one was changed or is damaged",
		}
	}
	in, err := os.Open(src)
	if err != nil {
		return changed(err)
	}
	defer func() { _ = in.Close() }() // only read
	if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h, each), io.LimitReader(in, want.Bytes+1))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("restore %s: %w", want.Path, err)
	}
	if sum := core.Hash(h.Sum(nil)); n != want.Bytes || sum.String() != want.SHA256 {
		return changed(nil)
	}
	return nil
}

// settleHeads brings the control database up to what the epoch files hold. In
// the backup they may be ahead of it by the commits that fell in between; in a
// running server the journal would be read again, but it is not in a backup.
func settleHeads(ctx context.Context, dir string, m *Manifest) (err error) {
	s, err := openSQLite(filepath.Join(dir, "control.db"), "_txlock=immediate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	s.SetMaxOpenConns(1)
	if err := inTx(ctx, s, func(t *Tx) error { return migrate(ctx, t) }); err != nil { // the backup may be an older release's
		return err
	}
	return inTx(ctx, s, func(t *Tx) error {
		for _, f := range m.Files {
			if f.Damaged || !strings.HasPrefix(f.Path, "telemetry/k") {
				continue
			}
			if err := t.settleHead(ctx, filepath.Join(dir, filepath.FromSlash(f.Path)), m.Created); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		}
		return nil
	})
}

func (t *Tx) settleHead(ctx context.Context, path string, at time.Time) (err error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&immutable=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // only read
	var f epochFile
	if f.epoch, err = f.readHead(ctx, tx); err != nil {
		return err
	}
	known, found, err := t.Epoch(ctx, f.epoch)
	if err != nil || found && known.Head.Batches >= f.head.Batches {
		return err
	}
	return t.PutEpochHead(ctx, f.epoch, f.head, at)
}
