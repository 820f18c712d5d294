package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/api"
)

// The kinds of ledger entries that the figures come from.
const (
	erasedKind     = "subject-erased"
	readClosedKind = "read-session-closed"
)

func factInt(e api.Entry, name string) int {
	for _, f := range e.Facts {
		if f[0] == name {
			n, err := strconv.Atoi(f[1])
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// restore brings yesterday's backup back, with today's keyring, and looks at
// what opens.
func (d *demo) restore(ctx context.Context, f *Figures) error {
	done := d.say.step("The backup from before is restored", "hawser restore FOLDER --home ANOTHER")
	if err := os.MkdirAll(d.restored, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	// The same keys, as a person would point a new machine at them.
	keys := filepath.Join(d.home, "keys")
	more := fmt.Sprintf("ca: %[1]s/ca\nroots: %[1]s/roots\nkeyring: [%[1]s/keyring-a/keyring, %[1]s/keyring-b/keyring]\nledger_key: %[1]s/ledger.key\ncheckpoint: %[1]s/checkpoint\n", keys)
	var err error
	if d.ports, err = freePorts(); err != nil {
		return err
	}
	if err := writeConfig(d.restored, d.ports, more); err != nil {
		return err
	}
	var r api.Restored
	if err := d.hawser(ctx, d.restored, &r, "restore", filepath.Join(d.dir, "backup")); err != nil {
		return err
	}
	if d.server, err = d.startServer(ctx, d.restored); err != nil {
		return err
	}
	for i, a := range d.agents {
		lines, _, err := d.readBack(ctx, d.restored, a.serial)
		switch {
		case i == 0:
			// It must not open: the restore found no key and unlinked the two.
			// Any other error is not the one that is wanted.
			if err == nil {
				f.OpenedAfterErasure = len(lines)
			} else if !strings.Contains(err.Error(), "belongs to nobody") {
				return err
			}
		case err != nil:
			return err
		case len(lines) > 0:
			f.SurvivorsOpened++
		}
	}
	d.say.detail("aria-1: %d readings open; the other devices that open: %d of %d", f.OpenedAfterErasure, f.SurvivorsOpened, devices-1)
	done()

	done = d.say.step("The ledger of all that happened is verified by code of its own", "hawser ledger verify")
	var v struct {
		Verified bool     `json:"verified"`
		Entries  int      `json:"entries"`
		Origins  int      `json:"origins"`
		Standing string   `json:"standing"`
		Losses   []string `json:"declared_losses"`
	}
	if err := d.hawser(ctx, d.restored, &v, "ledger", "verify"); err != nil {
		return err
	}
	f.LedgerVerified = f.LedgerVerified && v.Verified
	d.say.detail("%d entries in %d origins; the restore is a declared break: %s", v.Entries, v.Origins, strings.Join(v.Losses, "; "))
	done()

	done = d.say.step("A planted value is searched in clear on the whole disk of the server", "")
	d.server.stop()
	if f.CanaryFoundInClear, err = d.search(ctx); err != nil {
		return err
	}
	d.say.detail("%s was sent, sealed, read and erased; found in clear in %d files", d.canary, f.CanaryFoundInClear)
	done()
	return nil
}

// search counts the files of the server that hold the canary in clear, by
// another process. The same search must find it in a copy that was left
// unsealed on purpose: a search that finds nothing anywhere proves nothing.
func (d *demo) search(ctx context.Context) (int, error) {
	control := filepath.Join(d.dir, "unsealed")
	if err := os.MkdirAll(control, 0o700); err != nil {
		return 0, fmt.Errorf("make folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(control, "copy"), []byte("…"+d.canary+"…"), 0o600); err != nil {
		return 0, fmt.Errorf("write unsealed copy: %w", err)
	}
	var found struct {
		Files int `json:"files"`
		Hits  int `json:"hits"`
	}
	if err := d.hawser(ctx, d.home, &found, "demo", "search", d.canary, control); err != nil {
		return 0, err
	}
	if found.Hits != 1 {
		return 0, errors.New("the search does not find the value in an unsealed copy: it proves nothing")
	}
	if err := d.hawser(ctx, d.home, &found, "demo", "search", d.canary, d.home, d.restored, filepath.Join(d.dir, "backup"),
		filepath.Join(d.dir, "home.log"), filepath.Join(d.dir, "restored.log")); err != nil {
		return 0, err
	}
	if found.Files < 10 {
		return 0, fmt.Errorf("the search looked at %d files only", found.Files)
	}
	return found.Hits, nil
}

// Search counts the files below folders, and those of them that hold needle.
func Search(needle string, folders []string) (files, hits int, err error) {
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(p string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			files++
			ok, err := holds(p, []byte(needle))
			if ok {
				hits++
			}
			return err
		})
		if err != nil {
			return 0, 0, fmt.Errorf("search %s: %w", folder, err)
		}
	}
	return files, hits, nil
}

// holds reads a file piece by piece, pieces overlapping by the needle's length.
func holds(path string, needle []byte) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	keep := 0
	for {
		n, err := f.Read(buf[keep:])
		if bytes.Contains(buf[:keep+n], needle) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		tail := min(len(needle)-1, keep+n)
		copy(buf, buf[keep+n-tail:keep+n])
		keep = tail
	}
}
