package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/store/pgtest"
)

// moving is an installation with something of everything in it.
type moving struct {
	home string
	conf []byte
	dsn  string

	restored bool // its ledger has two origins
}

// lived is an installation in which three devices sent, one owner was erased and
// one is held.
func lived(t *testing.T, after ...func(*live)) moving {
	t.Helper()
	return livedOn(t, pgtest.Database(t), "\"\"", after...)
}

func livedOn(t *testing.T, dsn, name string, after ...func(*live)) moving {
	t.Helper()
	m := moving{dsn: dsn, home: newHome(t, core.Test, "store: "+name+"\n")}
	b, err := os.ReadFile(filepath.Join(m.home, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m.conf = bytes.ReplaceAll(b, []byte("store: "+name+"\n"), nil)
	t.Run("before", func(t *testing.T) { // its server ends with it
		l := start(t, m.home)
		l.publish(t, testDeclaration)
		for _, id := range []core.DeviceID{"A1", "A2", "A3"} {
			c := dialMQTT(t, l, l.enrol(t, id))
			for n := range 20 {
				c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":%d,"note":"n","secret":7,"boot":1,"seq":%d}`, n, n+1))
			}
		}
		l.call(t, "POST", "/v1/devices/A3/hold", api.ReasonRequest{Reason: "a court asked"}, nil)
		l.call(t, "POST", "/v1/devices/A3/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
		l.call(t, "POST", "/v1/verify", nil, nil) // settles
		for _, f := range after {
			f(l)
		}
	})
	return m
}

func (m moving) config(t *testing.T, postgres bool) *Config {
	t.Helper()
	b := bytes.Clone(m.conf)
	if postgres {
		b = append(b, "store: "+m.dsn+"\n"...)
	}
	if err := os.WriteFile(filepath.Join(m.home, "config.yaml"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(m.home)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// alive starts a server and looks whether everything is there.
func (m moving) alive(t *testing.T, more int) {
	t.Helper()
	t.Run("alive", func(t *testing.T) {
		l := start(t, m.home)
		for _, id := range []core.DeviceID{"A1", "A2"} {
			if lines, err := l.readAll(t, id); err != nil || len(lines) != 20+more {
				t.Errorf("%s: %d readings, %v", id, len(lines), err)
			}
		}
		_, err := l.readAll(t, "A3")
		wantReason(t, "the erased one", err, core.Unknown, "the device belongs to nobody")
		var check api.RowsCheck
		l.call(t, "POST", "/v1/verify", nil, &check)
		if len(check.Faults) != 0 || check.Rows == 0 {
			t.Errorf("rows against the ledger: %+v", check)
		}
		var export bytes.Buffer
		if err := l.client.Stream(t.Context(), "GET", "/v1/ledger/export", nil, func(line []byte) error {
			_, err := export.Write(append(line, '\n'))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if r, err := verify.Log(&export, verify.Options{}); err != nil || !r.OK() || len(r.Origins) != 1+number(m.restored) {
			t.Errorf("the ledger: %+v, %v", r, err)
		}
		var kept []api.Hold
		l.call(t, "GET", "/v1/holds", nil, &kept)
		if len(kept) != 1 || kept[0].Rows < 20 {
			t.Errorf("holds: %+v", kept)
		}
	})
}

func refusesToStart(t *testing.T, c *Config, reason string) {
	t.Helper()
	if err := Run(t.Context(), c, Options{}); core.ReasonOf(err) != reason {
		t.Errorf("a server begins: %v, want %s", err, reason)
	}
}

// TestMigrate moves an installation to PostgreSQL and back, and it lives on each
// side, and never on both.
func TestMigrate(t *testing.T) {
	t.Parallel()
	m := lived(t)
	if _, err := Migrate(t.Context(), m.config(t, false), MigrateOptions{To: "postgres"}); core.ReasonOf(err) != "no-store" {
		t.Errorf("to nowhere: %v", err)
	}
	c := m.config(t, true)
	refusesToStart(t, c, "not-initialised")
	if _, err := Migrate(t.Context(), c, MigrateOptions{To: "sqlite"}); core.ReasonOf(err) != "not-initialised" {
		t.Errorf("from where nothing is: %v", err)
	}
	if _, err := Migrate(t.Context(), c, MigrateOptions{To: "mysql"}); core.ReasonOf(err) != "engine" {
		t.Errorf("to an engine that is none: %v", err)
	}
	stages := map[string]bool{}
	out, err := Migrate(t.Context(), c, MigrateOptions{To: "postgres", Progress: func(s string, _, _ int64) { stages[s] = true }})
	if err != nil {
		t.Fatal(err)
	}
	if out.Partitions == 0 || out.Readings < 100 || out.Holds != 1 || out.Ledger < 2 || len(out.Tables) < 30 || out.Rows < 50 || len(stages) < 4 {
		t.Errorf("moved %d partitions, %d readings, %d holds, %d entries, %d tables, %d rows; stages %v", out.Partitions, out.Readings, out.Holds, out.Ledger, len(out.Tables), out.Rows, stages)
	}
	if strings.Contains(out.To, "hawser@") {
		t.Errorf("to %q", out.To)
	}
	refusesToStart(t, m.config(t, false), "store-moved")
	c = m.config(t, true)
	m.alive(t, 0)
	if _, err := Migrate(t.Context(), c, MigrateOptions{To: "postgres"}); core.ReasonOf(err) != "store-moved" {
		t.Errorf("moved twice: %v", err)
	}
	t.Run("beside a server", func(t *testing.T) {
		start(t, m.home)
		if _, err := Migrate(t.Context(), c, MigrateOptions{To: "sqlite"}); core.ReasonOf(err) != "data-in-use" {
			t.Errorf("beside a server: %v", err)
		}
	})
	back, err := Migrate(t.Context(), c, MigrateOptions{To: "sqlite"})
	if err != nil {
		t.Fatal(err)
	}
	if back.Readings != out.Readings || back.Aside == "" {
		t.Errorf("back: %+v", back)
	}
	refusesToStart(t, m.config(t, true), "store-moved")
	m.config(t, false)
	m.alive(t, 0)
	if _, err := Migrate(t.Context(), m.config(t, true), MigrateOptions{To: "postgres"}); core.ReasonOf(err) != "not-empty" {
		t.Errorf("into what was moved away: %v", err)
	}
}

// TestMigrateInterrupted ends a move after each of its effects: until it is
// finished exactly the source lives, or nobody, and the next one finishes it.
func TestMigrateInterrupted(t *testing.T) {
	t.Parallel()
	errCut := errors.New("the power failed")
	for _, at := range []string{"arriving", "partition", "late lane", "holds", "control", "ledger", "source marked"} {
		t.Run(at, func(t *testing.T) {
			m := lived(t)
			c := m.config(t, true)
			cut := func(step string) error {
				if step == at {
					return errCut
				}
				return nil
			}
			for range 2 {
				if _, err := Migrate(t.Context(), c, MigrateOptions{To: "postgres", step: cut}); !errors.Is(err, errCut) {
					t.Fatalf("not cut: %v", err)
				}
				if at == "source marked" {
					refusesToStart(t, m.config(t, false), "store-moved")
				} else {
					m.config(t, false)
					m.alive(t, 0)
				}
				c = m.config(t, true)
				want := "store-arriving"
				if at == "arriving" || at == "partition" || at == "late lane" || at == "holds" {
					want = "not-initialised"
				}
				refusesToStart(t, c, want)
			}
			if _, err := Migrate(t.Context(), c, MigrateOptions{To: "postgres"}); err != nil {
				t.Fatal(err)
			}
			refusesToStart(t, m.config(t, false), "store-moved")
			m.config(t, true)
			m.alive(t, 0)
		})
	}
}

// TestBackupOfPostgreSQL: what a server on PostgreSQL writes is a backup like
// any other. It is restored to files, opens nothing of who was erased, and moves
// to another database.
func TestBackupOfPostgreSQL(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	to := filepath.Join(t.TempDir(), "backup")
	m := livedOn(t, dsn, dsn, func(l *live) {
		c := dialMQTT(t, l, l.enrol(t, "B1"))
		done, end := make(chan struct{}), make(chan struct{})
		go func() { // it goes on meanwhile
			defer close(done)
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				if code, err := c.try("telemetry/climate", fmt.Sprintf(`{"temp":1,"boot":1,"seq":%d}`, n+1)); err != nil || code != 0 {
					t.Errorf("beside a backup: 0x%02x, %v", code, err)
					return
				}
			}
		}()
		var b api.Backup
		l.call(t, "POST", "/v1/backup", api.BackupRequest{To: to}, &b)
		close(end)
		<-done
		if b.Files < 4 || b.Bytes == 0 || b.Generation == 0 {
			t.Errorf("backup: %+v", b)
		}
		err := l.client.Call(t.Context(), "POST", "/v1/backup", api.BackupRequest{To: to}, &b)
		if err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("over a backup: %v", err)
		}
	})
	if _, err := Restore(t.Context(), m.config(t, true), RestoreOptions{From: to}); core.ReasonOf(err) != "restore-postgres" {
		t.Errorf("restored to a database: %v", err)
	}
	// The database is lost, and the folder with it.
	if err := os.Rename(filepath.Join(m.home, "data"), filepath.Join(m.home, "lost")); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), m.config(t, false), RestoreOptions{From: to}); err != nil {
		t.Fatal(err)
	}
	m.dsn = pgtest.Database(t)
	m.restored = true
	m.alive(t, 0)
	if _, err := Migrate(t.Context(), m.config(t, true), MigrateOptions{To: "postgres"}); err != nil {
		t.Fatal(err)
	}
	m.alive(t, 0)
}
