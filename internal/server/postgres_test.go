package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// TestJourneyOnPostgreSQL is the same with the second engine, and goes on after
// a restart.
func TestJourneyOnPostgreSQL(t *testing.T) {
	t.Parallel()
	home := newHome(t, core.Test, "store: "+pgtest.Database(t)+"\n")
	t.Run("first", func(t *testing.T) { journey(t, home) }) // its server ends with it
	l := start(t, home)
	lines, err := l.readAll(t, "A1")
	if err != nil || len(lines) != 1 || string(lines[0].Values) != `{"temp":23}` {
		t.Errorf("after a restart: %+v, %v", lines, err)
	}
	var sums api.Counts
	l.call(t, "GET", "/v1/counts", nil, &sums)
	if sums.Accepted != 2 || sums.Stored != 2 {
		t.Errorf("after a restart: %+v", sums)
	}
	if _, err := os.Stat(filepath.Join(home, "data", "control.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a control database of files: %v", err)
	}
	if files, err := filepath.Glob(filepath.Join(home, "data", "*", "k*", "*.db")); err != nil || len(files) != 0 {
		t.Errorf("epoch files beside the database: %v, %v", files, err)
	}
	// A second server with the same database, from a home of its own.
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	c.Data, c.Socket = filepath.Join(other, "data"), filepath.Join(other, "socket")
	if err := os.Mkdir(c.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), c, Options{}); core.ReasonOf(err) != "data-in-use" {
		t.Errorf("a second server on one database: %v", err)
	}
	if _, err := Init(t.Context(), filepath.Join(other, "new"), core.Test); err != nil {
		t.Fatal(err) // an empty home has a store of its own
	}
}

// TestStoreIsNotThere: the server names the database that is missing, and makes
// nothing.
func TestStoreIsNotThere(t *testing.T) {
	dsn := pgtest.Database(t)
	home := newHome(t, core.Test, "")
	conf := filepath.Join(home, "config.yaml")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	with := func(line string) error {
		t.Helper()
		if err := os.WriteFile(conf, append(bytes.Clone(b), line...), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(home)
		if err != nil {
			return err
		}
		return Run(t.Context(), c, Options{})
	}
	for _, c := range []struct{ line, want string }{
		{"store: " + dsn + "\n", "not-initialised"}, // nothing was moved there yet
		{"store: postgres://hawser@/x?host=/nonexistent\n", "database-gone"},
		{"store: postgres://hawser@127.0.0.1/x?sslmode=disable\n", "config-store"},
		{"store: postgres://hawser:secret-1@/x?host=/nonexistent\n", "config-store"},
		{"store: postgres://hawser@/x?host=/nonexistent\nstore_password_file: data/password\n", "config-store"},
	} {
		err := with(c.line)
		if core.ReasonOf(err) != c.want || strings.Contains(err.Error(), "secret-1") {
			t.Errorf("%s: %v, want %s", c.line, err, c.want)
		}
	}
}

// TestDatabaseGone: the database is killed while devices send. What is
// acknowledged is safe in the journal, doctor names the cause, the doors that
// need the database say so, and with the database everything goes on by itself
// (design, section 5, Messages).
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	cl := pgtest.Start(t, "")
	home := newHome(t, core.Test, "store: "+cl.Database(t)+"\n")
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "A1")
	c := dialMQTT(t, l, u)
	seq := 0
	send := func() error {
		seq++
		code, err := c.try("telemetry/climate", fmt.Sprintf(`{"temp":20,"boot":1,"seq":%d}`, seq))
		if err == nil && code != 0 {
			err = fmt.Errorf("refused with 0x%02x", code)
		}
		return err
	}
	for range 50 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	for _, how := range []string{"immediate", "fast"} {
		if err := cl.Stop(how); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := send(); err != nil {
				t.Fatalf("the journal is there, and a device is told: %v", err)
			}
		}
		err := l.client.Call(t.Context(), "POST", "/v1/devices", api.AddDeviceRequest{Device: "A2", Product: "test-sensor"}, nil)
		if core.KindOf(err) != core.Unavail || !strings.Contains(err.Error(), "PostgreSQL") {
			t.Errorf("a device is added without a database: %v", err)
		}
		waitFor(t, 20*time.Second, "doctor names the store", func() bool { return named(t, home) })
		if err := cl.Run(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, 30*time.Second, "doctor has nothing against the store", func() bool { return !named(t, home) })
		waitFor(t, 60*time.Second, "nor against the projector", func() bool { return l.finding(t, "projector") == "" })
	}
	var lines []api.ReadLine
	waitFor(t, 60*time.Second, "what was acknowledged can be read", func() bool {
		var err error
		lines, err = l.readAll(t, "A1") // its first tries may meet connections that died
		return err == nil && len(lines) >= seq
	})
	if len(lines) != seq {
		t.Errorf("%d readings of %d that were acknowledged", len(lines), seq)
	}
	l.call(t, "POST", "/v1/devices", api.AddDeviceRequest{Device: "A2", Product: "test-sensor"}, nil)
	var check api.RowsCheck
	l.call(t, "POST", "/v1/verify", nil, &check)
	if len(check.Faults) != 0 {
		t.Errorf("rows: %v", check.Faults)
	}
}

// named reports whether doctor has an error about the store.
func named(t *testing.T, home string) bool {
	t.Helper()
	found, err := Doctor(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Severity == "error" && f.Area == "store" && strings.Contains(f.Text, "PostgreSQL") && f.Do != "" {
			return true
		}
	}
	return false
}
