package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hawser-iot/hawser/internal/core"
)

// readOutside reads the checkpoint that is kept outside the database. A
// missing file gives ok == false.
func readOutside(path string) (c Checkpoint, ok bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("read kept checkpoint: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, MaxNoteBytes+1))
	if err != nil {
		return c, false, fmt.Errorf("read kept checkpoint: %w", err)
	}
	if c, err = ParseCheckpoint(b); err != nil {
		return c, false, badOutside(path, err)
	}
	return c, true, nil
}

func badOutside(path string, cause error) error {
	return &core.Error{
		Kind: core.Unready, Reason: "ledger-checkpoint-bad", Err: cause,
		Message: "the checkpoint kept in " + path + " was not made by this ledger",
		Hint:    "put the right file back; if it is lost, move this one away and begin a new origin, saying so",
	}
}

// writeOutside replaces the kept checkpoint: whole and on disk, or not at all.
func writeOutside(path string, note []byte) error {
	dir := filepath.Dir(path)
	// One name, overwritten: what a kill leaves behind never piles up. A
	// checkpoint is public by nature, it is served to anybody.
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	_, err = f.Write(note)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is left of a failed write is of no use
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
