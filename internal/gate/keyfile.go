package gate

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

const keyBytes = 32

// OpenKey reads the Gate's key from its file, one line of hexadecimal digits
// with mode 0600. Where there is none it makes one and says so: without the
// old key all counters begin anew and every known device is a stranger, but
// everybody still gets in.
func OpenKey(path string) (key []byte, made bool, err error) {
	key, err = readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(path)
		return key, err == nil, err
	}
	return key, false, err
}

func readKey(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the gate's key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, core.E(core.Unready, "gate-key-open", fmt.Sprintf("others can read the gate's key %s (mode %04o)", path, st.Mode().Perm()), "chmod 600 "+path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the gate's key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != keyBytes {
		return nil, core.E(core.Unready, "gate-key-damaged", "the gate's key "+path+" is damaged",
			"put the file back; or remove it: a new one is made, wrong tries begin anew and every known device is a stranger")
	}
	return key, nil
}

// makeKey writes a new key, whole or not at all.
func makeKey(path string) ([]byte, error) {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // crypto/rand.Read never fails
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the gate's key: %w", err)
	}
	f, err := os.CreateTemp(dir, ".gate-key-") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make the gate's key: %w", err)
	}
	_, err = fmt.Fprintf(f, "%x\n", key)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to report
		return nil, fmt.Errorf("make the gate's key: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("make the gate's key: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return nil, fmt.Errorf("make the gate's key: %w", err)
	}
	return key, nil
}
