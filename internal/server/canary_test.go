package server

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/store"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// TestCanaryInAnUnsealedCopy: the search of TestCanary, which finds nothing,
// finds the planted value in a copy of the same data folder in which the values
// lie unsealed where they lay sealed: in the pages of an epoch file, in the
// journal's blocks, in the control database. Nothing in the forms of these
// files hides it (CC 2.9).
func TestCanaryInAnUnsealedCopy(t *testing.T) {
	const canary = "canary-77b2e0c4"
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	c := dialMQTT(t, l, l.enrol(t, "A1"))
	const readings = 60
	for i := range readings {
		c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":21.5,"note":"%s","boot":1,"seq":%d}`, canary, i+1))
	}
	c.close(t)
	// The reason of a read is sealed in the ledger.
	err := l.client.Stream(t.Context(), "POST", "/v1/devices/A1/read", api.ReadRequest{Purpose: "service.control", Reason: "says " + canary}, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if files, hits := found(t, canary, l.home); files < 10 || hits != 0 {
		t.Errorf("sealed: %d of %d files hold it", hits, files)
	}
	unsealed := filepath.Join(t.TempDir(), "unsealed")
	copyDisk(t, l.home, unsealed)
	if n := unseal(t, unsealed); n != readings {
		t.Fatalf("%d rows were unsealed, want %d", n, readings)
	}
	behind(t, filepath.Join(unsealed, "data", "control.db"), "CREATE TABLE unsealed (reason TEXT)", "INSERT INTO unsealed VALUES ('says "+canary+"')")
	for _, place := range []string{"telemetry", "journal", "control.db"} {
		paths, err := filepath.Glob(filepath.Join(unsealed, "data", place+"*")) // a database may have a log
		if err != nil {
			t.Fatal(err)
		}
		if _, hits := found(t, canary, paths...); hits == 0 {
			t.Errorf("the search does not find it in the unsealed copy's %v: it proves nothing about that", paths)
		}
	}
}

// unseal replaces every sealed part in the epoch files of a home folder by what
// is in it, and hands the same readings to its journal, as a server would that
// forgot to seal. It counts the parts.
func unseal(t *testing.T, home string) (n int) {
	t.Helper()
	ctx := t.Context()
	no := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(home, "keys", "roots")})
	no(err)
	k, err := seal.Open(ctx, seal.Options{Roots: roots, Now: time.Now, Copies: []string{
		filepath.Join(home, "keys", "keyring-a", "keyring"), filepath.Join(home, "keys", "keyring-b", "keyring"),
	}})
	no(err)
	defer func() { _ = k.Close() }() // a copy
	files, err := store.OpenEpochFiles(store.EpochFilesOptions{Dir: filepath.Join(home, "data", "telemetry"), Now: time.Now})
	no(err)
	epochs, err := files.List(ctx)
	no(err)
	clear := map[int64]string{} // by row
	var records [][]byte
	for _, e := range epochs {
		no(files.Audit(ctx, e, telemetry.AuditVisitor{
			Head: func(telemetry.Head) error { return nil }, Batch: func(*telemetry.Batch) error { return nil },
			Fault: func(detail string) error { return errors.New(detail) },
			Row: func(r *telemetry.Row) error {
				key, err := k.Lease(r.Reading.Subject, r.Part.Epoch)
				if err != nil {
					return err
				}
				values, err := key.Open(nil, r.Part.Sealed, telemetry.AppendAAD(nil, &r.Reading, &r.Part))
				if err != nil {
					return err
				}
				clear[r.ID] = string(values)
				bare := r.Reading
				bare.Parts = []telemetry.Part{{Epoch: r.Part.Epoch, Group: r.Part.Group, Sealed: values}}
				records = append(records, telemetry.AppendReading(nil, &bare))
				return nil
			},
		}))
	}
	no(files.Close())
	paths := epochFiles(t, home)
	if len(epochs) != 1 || len(paths) != 1 {
		t.Fatalf("%d epochs in %v, want one: rows are told apart by their number", len(epochs), paths)
	}
	var statements []string
	for id, values := range clear {
		statements = append(statements, fmt.Sprintf("UPDATE rows SET sealed = x'%x' WHERE id = %d", values, id))
	}
	behind(t, paths[0], statements...)

	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Join(home, "data", "journal"), Now: time.Now, MinFreeBytes: -1})
	no(err)
	var done settled
	for i, rec := range records {
		done.n.Add(1)
		no(j.Submit(rec, &done, uint64(i)))
	}
	done.n.Wait()
	if done.failed.Load() != 0 {
		t.Fatalf("%d records were not committed", done.failed.Load())
	}
	no(j.Close(ctx))
	return len(clear)
}
