package server

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the attacker's own tool

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// epochFiles are the telemetry files of an installation, largest first.
func epochFiles(t testing.TB, home string) []string {
	t.Helper()
	var out []string
	err := filepath.Walk(filepath.Join(home, "data", "telemetry"), func(p string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() && strings.HasSuffix(p, ".db") && st.Name() != "late.db" {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// behind runs statements on a database file behind the server's back.
func behind(t testing.TB, file string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// copyTree copies a folder with its modes, as a thief of a disk does.
func copyTree(t testing.TB, to, from string) {
	t.Helper()
	err := filepath.Walk(from, func(p string, st os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		switch {
		case st.IsDir():
			return os.MkdirAll(at, st.Mode().Perm())
		case !st.Mode().IsRegular():
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(at, b, st.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStoredRowsAreTamperEvident: one stored row that is changed, dropped,
// added or moved behind the server's back is found and named, and so is a file
// that is gone as a whole; an untouched installation has no fault (CC 3.3).
func TestStoredRowsAreTamperEvident(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	for _, id := range []core.DeviceID{"A1", "B1"} {
		c := dialMQTT(t, l, l.enrol(t, id))
		for i := range 20 {
			c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":%d,"boot":1,"seq":%d}`, i, i+1))
		}
		c.close(t)
	}
	var check api.RowsCheck
	l.call(t, "POST", "/v1/verify", nil, &check)
	if check.Rows != 40 || len(check.Faults) != 0 {
		t.Fatalf("before: %+v", check)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	files := epochFiles(t, home)
	if len(files) != 1 {
		t.Fatalf("epoch files: %v", files)
	}
	rel, err := filepath.Rel(home, files[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		attack []string
		names  string // what the fault must contain
	}{
		"a value changed":         {[]string{"UPDATE rows SET sealed = randomblob(length(sealed)) WHERE id = 7"}, "7"},
		"a time changed":          {[]string{"UPDATE rows SET t = t + 1 WHERE id = 11"}, "11"},
		"given to somebody else":  {[]string{"UPDATE rows SET subject = 3 - subject, seq = seq + 500 WHERE id = 5"}, "5"},
		"dropped":                 {[]string{"DELETE FROM rows WHERE id = 13"}, "13"},
		"the last one dropped":    {[]string{"DELETE FROM rows WHERE id = 40"}, "40"},
		"doubled under a new seq": {[]string{"INSERT INTO rows SELECT 41, subject, lane, boot, seq + 1000, t, head, sealed FROM rows WHERE id = 3"}, "41"},
		"the owner renamed":       {[]string{"UPDATE subjects SET subject = randomblob(16) WHERE id = 1"}, ""},
		"emptied":                 {[]string{"DELETE FROM rows", "DELETE FROM batches", "UPDATE epoch SET rows = 0, batches = 0"}, ""},
		"the file removed":        {nil, ""},
	} {
		copied := filepath.Join(t.TempDir(), "h")
		copyTree(t, copied, home)
		file := filepath.Join(copied, rel)
		if c.attack == nil {
			for _, f := range []string{file, file + "-wal", file + "-shm"} {
				if err := os.Remove(f); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
		} else {
			behind(t, file, c.attack...)
		}
		m := start(t, copied)
		var check api.RowsCheck
		m.call(t, "POST", "/v1/verify", nil, &check)
		said := strings.Join(check.Faults, "; ")
		if len(check.Faults) == 0 {
			t.Errorf("%s: not found: %+v", name, check)
		} else if !strings.Contains(said, c.names) || !strings.Contains(said, strings.TrimSuffix(filepath.Base(rel), ".db")) {
			t.Errorf("%s: found, but row %s or its file is not named: %s", name, c.names, said)
		}
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
}
