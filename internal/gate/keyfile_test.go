package gate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "gate.key")
	first, made, err := gate.OpenKey(path)
	if err != nil || !made || len(first) != 32 {
		t.Fatalf("made %d bytes, %t, %v", len(first), made, err)
	}
	again, made, err := gate.OpenKey(path)
	if err != nil || made || !bytes.Equal(first, again) {
		t.Errorf("read %d bytes, made %t, %v", len(again), made, err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	other, _, err := gate.OpenKey(path + "2")
	if err != nil || bytes.Equal(first, other) {
		t.Errorf("two keys are one, %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".gate*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	refused := func(reason string) {
		t.Helper()
		if _, _, err := gate.OpenKey(path); core.ReasonOf(err) != reason {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	refused("gate-key-open")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "00", strings.Repeat("z", 64), strings.Repeat("0", 62), strings.Repeat("0", 66)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		refused("gate-key-damaged")
	}
}
