package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

const (
	manifestName   = "manifest.json"
	manifestFormat = 1
	maxManifest    = 64 << 20 // bytes
)

// Manifest says what a backup holds. It is written last: a folder without one
// is no backup.
type Manifest struct {
	Format       int              `json:"format"`
	Installation string           `json:"installation"`
	Environment  core.Environment `json:"environment"`
	Created      time.Time        `json:"created"`
	Keyring      KeyringState     `json:"keyring"`
	Journal      JournalState     `json:"journal"`
	Ledger       LedgerHead       `json:"ledger"`
	Files        []BackupFile     `json:"files"` // by path
}

// KeyringState is how far the keyring had come. A keyring that is not as far
// lacks keys that the backup needs, or has keys that were destroyed.
type KeyringState struct {
	Generation uint64 `json:"generation"`
	Additions  uint64 `json:"additions"` // within that generation
}

// JournalState is the point up to which all that was acknowledged is in the
// backup's files: the journal itself is not.
type JournalState struct {
	Incarnation string `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
}

// LedgerHead is the head of the ledger in the backup.
type LedgerHead struct {
	Origin  string `json:"origin"`
	Entries uint64 `json:"entries"`
	Root    string `json:"root"` // hexadecimal
}

// BackupFile is one file of a backup.
type BackupFile struct {
	Path    string `json:"path"` // with slashes, relative to the data folder
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`            // hexadecimal
	Damaged bool   `json:"damaged,omitempty"` // the engine could not read it; copied byte for byte
}

// Bytes is how much the backup's files hold.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// BackupOptions says what a backup needs; all of it but Progress is required.
type BackupOptions struct {
	To string // a new or empty folder outside the data folder
	// Settle returns when all that was acknowledged before is filed; the
	// backup is refused when it does not.
	Settle func(context.Context) error
	// Journal is where the journal is now.
	Journal func() JournalState
	// Keyring is where the keyring is now.
	Keyring func(context.Context) (seal.State, error)
	Now     func() time.Time
	// Progress, if given, is told after each file how many bytes of about how
	// many are looked at. Both count the data folder, which is in use.
	Progress func(done, total int64)
	// Readings is where they are, when the store is not of files. The backup is:
	// it is restored to files, and from there to wherever.
	Readings *BackupReadings
}

// Backup writes a consistent copy of the data folder while it is in use: the
// control database, the epoch files, the late lane and what legal holds keep.
// All that was acknowledged before it began is in it. The keyring and the roots
// are not: they lie elsewhere, and by itself a backup opens nothing (CC 2.9;
// design, section 5, Roots and backups). Everything personal in it is sealed,
// as it is in the data folder.
func (s *Store) Backup(ctx context.Context, o BackupOptions) (m Manifest, err error) {
	if o.Settle == nil || o.Journal == nil || o.Keyring == nil || o.Now == nil {
		return m, errors.New("backup: a dependency is missing")
	}
	if s.pg != nil && o.Readings == nil {
		return m, errors.New("backup: a dependency is missing")
	}
	if err := s.backupFolder(o.To); err != nil {
		return m, err
	}
	b := &backup{s: s, to: o.To, progress: o.Progress}
	defer func() {
		if err != nil {
			b.discard()
			if s.pg != nil {
				b.discardFromPG()
			}
		}
	}()
	m = Manifest{Format: manifestFormat, Created: o.Now().UTC(), Journal: o.Journal()}
	if err := o.Settle(ctx); err != nil {
		return m, &core.Error{
			Kind: core.Unavail, Reason: "backup-behind", Err: err,
			Message: "readings that were acknowledged are not filed yet, and a backup now would miss them",
			Hint:    "see the projector in `hawser doctor`; then try again",
		}
	}
	if s.pg != nil {
		err = b.fromPG(ctx, &o)
		if err == nil {
			err = b.sealFromPG()
		}
		if err != nil {
			return m, fmt.Errorf("backup: %w", err)
		}
	} else if err := b.fromFiles(ctx); err != nil {
		return m, err
	}
	k, err := o.Keyring(ctx)
	if err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	m.Keyring = KeyringState{Generation: k.Generation, Additions: k.Additions}
	if err := describeControl(ctx, filepath.Join(o.To, "control.db"), &m); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	m.Files = b.files
	slices.SortFunc(m.Files, func(a, b BackupFile) int { return strings.Compare(a.Path, b.Path) })
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	if err := b.finish(append(text, '\n')); err != nil {
		return m, fmt.Errorf("backup: %w", err)
	}
	return m, nil
}

// fromFiles copies the databases of the data folder.
func (b *backup) fromFiles(ctx context.Context) (err error) {
	if b.total, err = b.size(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	// In this order what moves meanwhile is found twice, never not at all: the
	// database knows less than the files, and rows leave the late lane only for
	// an epoch file.
	if err := b.add(ctx, "control.db"); err != nil {
		return err
	}
	if err := b.addAll(ctx, "telemetry", "late.db"); err != nil {
		return err
	}
	if err := b.addAll(ctx, "telemetry", ""); err != nil {
		return err
	}
	return b.addAll(ctx, "hold", "")
}

// backupFolder makes the folder, which must be new or empty and lie apart.
func (s *Store) backupFolder(to string) error {
	data, err := filepath.Abs(s.dir)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	abs, err := filepath.Abs(to)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if rel, err := filepath.Rel(data, abs); to == "" || err == nil && filepath.IsLocal(rel) {
		return core.E(core.Invalid, "backup-folder", "a backup cannot lie inside the data folder", "name a folder elsewhere, best on another disk")
	}
	if err := os.Mkdir(abs, 0o700); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrExist) {
		return &core.Error{Kind: core.Invalid, Reason: "backup-folder", Err: err, Message: "the folder for the backup cannot be made", Hint: "name a new folder in one that exists"}
	}
	st, err := os.Stat(abs)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	ents, err := os.ReadDir(abs)
	if err != nil || len(ents) > 0 {
		return &core.Error{Kind: core.Conflict, Reason: "backup-folder", Err: err, Message: "the folder for the backup is not empty", Hint: "name a new folder: a backup never overwrites anything"}
	}
	if p := st.Mode().Perm(); p&0o077 != 0 {
		return core.E(core.Invalid, "backup-folder", fmt.Sprintf("the folder for the backup has mode %04o: others may use it", p), "run `chmod 700` on it, or name a new folder")
	}
	return nil
}

// backup is one under way.
type backup struct {
	s     *Store
	to    string
	files []BackupFile
	names []string // folders made, relative

	progress    func(done, total int64) // or nil
	done, total int64                   // bytes of the data folder
}

// size is how much the data folder holds of what is backed up.
func (b *backup) size() (n int64, err error) {
	for _, dir := range []string{"control.db", "telemetry", "hold"} {
		err := filepath.WalkDir(filepath.Join(b.s.dir, dir), func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			n += sizeOf(d.Info())
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// sizeOf is the size of a file; 0 of one that went meanwhile.
func sizeOf(st fs.FileInfo, err error) int64 {
	if err != nil {
		return 0
	}
	return st.Size()
}

// addAll adds the databases below a folder of DATA, or only the one with a
// name. Files may come and go meanwhile: an epoch that ends is not in the
// backup.
func (b *backup) addAll(ctx context.Context, dir, only string) error {
	return filepath.WalkDir(filepath.Join(b.s.dir, dir), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(b.s.dir, path)
		if err != nil {
			return err
		}
		name := d.Name()
		if only != "" && name != only || !strings.Contains(name, ".db") ||
			strings.HasSuffix(name, ".new") || strings.HasSuffix(name, "-shm") || strings.HasSuffix(name, "-wal") ||
			slices.ContainsFunc(b.files, func(f BackupFile) bool { return f.Path == filepath.ToSlash(rel) }) {
			return nil
		}
		return b.add(ctx, rel)
	})
}

// add copies one file of DATA.
func (b *backup) add(ctx context.Context, rel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	src, dst := filepath.Join(b.s.dir, rel), filepath.Join(b.to, rel)
	if dir := filepath.Dir(rel); dir != "." && !slices.Contains(b.names, dir) {
		if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		b.names = append(b.names, dir)
	}
	f := BackupFile{Path: filepath.ToSlash(rel), Damaged: strings.Contains(filepath.Base(rel), asideMark)}
	var err error
	if !f.Damaged {
		err = snapshotDatabase(ctx, src, dst)
		if suspect(err) {
			f.Damaged = true
			err = os.Remove(dst)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
	}
	if err == nil && f.Damaged {
		err = copyFile(src, dst)
	}
	if err == nil {
		var sum core.Hash
		f.Bytes, sum, err = sealCopy(dst)
		f.SHA256 = sum.String()
	}
	if errors.Is(err, fs.ErrNotExist) && rel != "control.db" {
		_ = os.Remove(dst) // the file went while we copied: its epoch has ended
		return nil
	}
	if err != nil {
		_ = os.Remove(dst) // half a file; the error is the one to report
		return fmt.Errorf("backup of %s: %w", rel, engineTrouble(err))
	}
	b.files = append(b.files, f)
	if b.progress != nil {
		b.done += sizeOf(os.Stat(src)) + sizeOf(os.Stat(src+"-wal"))
		b.progress(min(b.done, b.total), b.total)
	}
	return nil
}

// snapshotDatabase writes one consistent state of an SQLite file that is in
// use to a new file (https://sqlite.org/lang_vacuum.html#vacuuminto). It has
// no write-ahead log and no pages that are not in use.
func snapshotDatabase(ctx context.Context, src, dst string) (err error) {
	if _, err := os.Stat(src); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: src}).EscapedPath()+"?mode=rw&_pragma=busy_timeout(10000)&_pragma=trusted_schema(OFF)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, dst)
	return err
}

// copyFile copies a file byte for byte.
func copyFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// sealCopy makes a finished copy private and durable, and says what it is.
func sealCopy(path string) (n int64, sum core.Hash, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, sum, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(0o600); err != nil {
		return 0, sum, err
	}
	h := sha256.New()
	if n, err = io.Copy(h, f); err != nil {
		return 0, sum, err
	}
	h.Sum(sum[:0])
	return n, sum, f.Sync()
}

// describeControl reads from the copied database what the manifest says of it.
func describeControl(ctx context.Context, path string, m *Manifest) (err error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&immutable=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, `SELECT id, environment FROM installation`).Scan(&m.Installation, &m.Environment); err != nil {
		return fmt.Errorf("read installation: %w", err)
	}
	var entries int64
	var root []byte
	err = db.QueryRowContext(ctx, `SELECT name, size, root FROM ledger_origin ORDER BY number DESC LIMIT 1`).Scan(&m.Ledger.Origin, &entries, &root)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	m.Ledger.Entries = uint64(entries)
	m.Ledger.Root = hex.EncodeToString(root)
	return err
}

// finish makes all names durable, then the manifest.
func (b *backup) finish(manifest []byte) error {
	for _, dir := range append(slices.Clone(b.names), ".") {
		if err := syncDir(filepath.Join(b.to, dir)); err != nil {
			return err
		}
	}
	path := filepath.Join(b.to, manifestName)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(manifest)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return errors.Join(syncDir(b.to), syncDir(filepath.Dir(b.to)))
}

// discard removes what an unfinished backup has written.
func (b *backup) discard() {
	_ = os.Remove(filepath.Join(b.to, manifestName+".new"))
	for _, f := range b.files {
		_ = os.Remove(filepath.Join(b.to, filepath.FromSlash(f.Path))) // as far as it goes: without a manifest it is no backup
	}
	slices.SortFunc(b.names, func(x, y string) int { return len(y) - len(x) })
	for _, dir := range b.names {
		_ = os.Remove(filepath.Join(b.to, dir)) // only empty ones go
	}
	for _, dir := range []string{"telemetry", "hold"} {
		_ = os.Remove(filepath.Join(b.to, dir))
	}
}
