package identity_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// A renewal that was stopped between two steps is finished by the next, and the
// old issuer's key is nowhere any more.
func TestRenewCASurvivesCrash(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(f.dir, "keys", "ca")
	again := func() error {
		return identity.RenewCA(identity.CAOptions{Environment: f.env, RootDir: filepath.Join(f.dir, "ca-root"), Dir: dir, Now: f.clock})
	}
	before, err := os.ReadFile(filepath.Join(dir, "operational-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	first := f.device("A1")
	if err := again(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".pem") {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && string(b) == string(before) {
			t.Errorf("the old key is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Stopped after the old folder was set aside: nothing is there but the new.
	if err := os.Rename(dir, dir+".next"); err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
	// Stopped before: what was made and not put in place signed nothing.
	if err := os.MkdirAll(filepath.Join(dir+".next", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
	f.restart()
	f.mustIdentify(first)
	if err := f.svc.VerifyLeaf(first); err != nil {
		t.Errorf("two renewals later: %v", err)
	}
	if got := f.svc.Authority(); got.Retired != 2 {
		t.Errorf("%d retired, want 2", got.Retired)
	}
	if err := identity.RenewCA(identity.CAOptions{Environment: core.Live, RootDir: filepath.Join(f.dir, "ca-root"), Dir: dir, Now: f.clock}); f.env != core.Live && core.ReasonOf(err) != "foreign-environment" {
		t.Errorf("for another environment: %v", err)
	}
}
