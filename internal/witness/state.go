package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Memory is the last checkpoint that was seen of one ledger.
type Memory struct {
	Origin string    `json:"origin"`
	Size   uint64    `json:"size"`
	Root   string    `json:"root"` // base64, as in the checkpoint
	Seen   time.Time `json:"seen"`
	Note   string    `json:"note"` // as the ledger signed it, and cosigned
}

const maxMemoryBytes = 64 << 10

// stem is the name of the files about a ledger: origins may hold anything.
func stem(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:8])
}

func (w *Witness) path(origin string) string {
	return filepath.Join(w.o.Dir, stem(origin)+".json")
}

// remember reads what was last seen of a ledger; nil: nothing ever.
func (w *Witness) remember(origin string) (*Memory, error) {
	path := w.path(origin)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // never seen is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read what was last seen: %w", err)
	}
	m := &Memory{}
	if err := json.Unmarshal(b, m); err != nil || len(b) > maxMemoryBytes || m.Origin != origin || m.Size == 0 {
		return nil, core.E(core.Unready, "witness-memory", path+" is not what this witness wrote", "put the file back; a witness that forgot is worth nothing for what was before")
	}
	return m, nil
}

// keep replaces what was last seen: whole and on disk, or not at all. It must
// be on disk before a cosignature leaves.
func (w *Witness) keep(m *Memory) error {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	return replace(w.path(m.Origin), append(b, '\n'))
}

// accuse keeps both checkpoints that contradict each other, under a name of
// their own.
func (w *Witness) accuse(kind, origin string, at time.Time, notes ...string) (string, error) {
	path := filepath.Join(w.o.Dir, fmt.Sprintf("%s-%s-%s.txt", kind, stem(origin), at.UTC().Format("20060102T150405Z")))
	text := "The ledger " + origin + " signed both of these. " + map[string]string{
		"fork":     "No ledger that only grows can be both.",
		"rollback": "It showed the second, smaller one after the first.",
	}[kind] + "\n"
	for _, n := range notes {
		text += "\n" + n
	}
	if err := replace(path, []byte(text)); err != nil {
		return "", err
	}
	return path, nil
}

func replace(path string, b []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		_ = os.Remove(path + ".tmp") // what is left of a failed write is of no use
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	return nil
}
