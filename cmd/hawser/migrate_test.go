package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/server"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// TestMigrateExample types the example of migrate, and the way back, for people
// and for programs.
func TestMigrateExample(t *testing.T) {
	home := filepath.Join(t.TempDir(), "h")
	if code, _, errs := try(t, "init", "--environment", "test", "--home", home); code != exitOK {
		t.Fatal(errs)
	}
	conf := "devices: 127.0.0.1:0\nhttps: 127.0.0.1:0\nconsole: 127.0.0.1:0\n"
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(home, "config.yaml"), []byte(conf+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	example := ""
	for _, c := range commands() {
		if c.name == "migrate" {
			example = c.example
		}
	}
	args := append(words(example)[1:], "--home", home)
	write("")
	if code, _, errs := try(t, args...); code == exitOK || !strings.Contains(errs, "key `store`") {
		t.Errorf("without a database: exit %d, %s", code, errs)
	}
	write("store: " + pgtest.Database(t) + "\n")
	code, out, errs := try(t, args...)
	if code != exitOK || !strings.Contains(out, "all compared") || !strings.Contains(out, "to the PostgreSQL database") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	code, out, errs = try(t, "migrate", "--to", "sqlite", "--json", "--home", home)
	var m server.Migrated
	if err := json.Unmarshal([]byte(out), &m); code != exitOK || err != nil || len(m.Tables) < 30 || m.Aside == "" {
		t.Fatalf("exit %d, %v: %s%s", code, err, out, errs)
	}
	if code, _, errs := try(t, "migrate", "--home", home); code == exitOK || !strings.Contains(errs, "--to postgres or --to sqlite") {
		t.Errorf("without an engine: exit %d, %s", code, errs)
	}
}
