package server

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// daysOn is a clock that runs ahead.
func daysOn(days int) func() time.Time {
	return func() time.Time { return time.Now().Add(time.Duration(days) * 24 * time.Hour) }
}

// TestKeepTimesEnd: the clock goes on, and readings are there until their
// keep-time is over and then nowhere: not in a read, not in a file, and not in
// a backup that was taken before (CC 4.4).
func TestKeepTimesEnd(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration) // temp is kept for 30 days, secret for 10
	c := dialMQTT(t, l, l.enrol(t, "A1"))
	for i := range 10 {
		c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":%d,"secret":%d}`, i, i))
	}
	c.close(t)
	folder := filepath.Join(t.TempDir(), "backup")
	l.call(t, "POST", "/v1/backup", api.BackupRequest{To: folder}, nil)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	// rowsAt starts the server some days later and looks.
	rowsAt := func(days int, wantFiles, wantReadings int) {
		t.Helper()
		l := startAt(t, home, home, daysOn(days))
		l.confirmClock(t)
		defer func() {
			if err := l.stop(); err != nil {
				t.Error(err)
			}
		}()
		if wantFiles < 2 {
			waitFor(t, 10*time.Second, fmt.Sprintf("%d files are left on day %d", wantFiles, days), func() bool {
				return len(epochFiles(t, home)) == wantFiles
			})
		} else if got := len(epochFiles(t, home)); got != wantFiles {
			t.Errorf("day %d: %d files, want %d", days, got, wantFiles)
		}
		lines, err := l.readAll(t, "A1")
		if err != nil || len(lines) != wantReadings {
			t.Errorf("day %d: %d readings, want %d, %v", days, len(lines), wantReadings, err)
		}
		var check api.RowsCheck
		l.call(t, "POST", "/v1/verify", nil, &check)
		if len(check.Faults) != 0 {
			t.Errorf("day %d: expiry looks like tampering: %v", days, check.Faults)
		}
		if n := l.records(t, "epoch-ended"); wantFiles < 2 && n < 2-wantFiles {
			t.Errorf("day %d: %d expiries in the ledger, want %d", days, n, 2-wantFiles)
		}
	}
	rowsAt(9, 2, 10)
	rowsAt(12, 1, 10) // secret is gone, temp is not
	rowsAt(28, 1, 10)
	rowsAt(33, 0, 0)

	// Yesterday's backup brings the files back; nothing opens them.
	restored := restore(t, home, folder)
	r := startAt(t, restored, home, daysOn(33))
	r.confirmClock(t)
	lines, err := r.readAll(t, "A1")
	if len(lines) != 0 {
		t.Errorf("%d readings came back with the backup, %v", len(lines), err)
	}
	waitFor(t, 10*time.Second, "the restored files go, too", func() bool { return len(epochFiles(t, restored)) == 0 })
}

// TestRotationLosesNobody: every erasure rotates the keyring. All others still
// read, before and after a restart; one missing copy is repaired; a copy of the
// data with the keyring of yesterday opens nothing any more, and did open
// before (CC 2.9, 4.8).
func TestRotationLosesNobody(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	const devices = 6
	id := func(i int) core.DeviceID { return core.DeviceID(fmt.Sprintf("unit-%d", i)) }
	for i := range devices {
		c := dialMQTT(t, l, l.enrol(t, id(i)))
		for n := range 5 {
			c.publish(t, "telemetry/climate", fmt.Sprintf(`{"temp":%d,"note":"unit %d"}`, n, i))
		}
		c.close(t)
	}
	everybody := func(l *live, from int) {
		t.Helper()
		for i := range devices {
			lines, err := l.readAll(t, id(i))
			switch {
			case i < from:
				wantReason(t, string(id(i))+" after its erasure", err, core.Unknown, "the device belongs to nobody")
			case i >= from && (err != nil || len(lines) != 5):
				t.Errorf("%s: %d readings, %v", id(i), len(lines), err)
			}
		}
	}
	everybody(l, 0)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	stolen := filepath.Join(t.TempDir(), "stolen") // the whole disk, keys and all, before
	copyTree(t, stolen, home)
	before := start(t, stolen)
	everybody(before, 0) // the attack works while the keys exist
	if err := before.stop(); err != nil {
		t.Fatal(err)
	}

	l = start(t, home)
	const erased = 3
	generations := map[string]bool{}
	for i := range erased {
		var receipt api.Receipt
		l.call(t, "POST", "/v1/devices/"+string(id(i))+"/erase", api.ReasonRequest{Reason: "owner asked"}, &receipt)
		generations[receipt.Facts["root_after"]] = true
		everybody(l, i+1)
	}
	if len(generations) != erased {
		t.Errorf("%d erasures, generations %v", erased, generations)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(home, "keys/keyring-a/keyring")); err != nil {
		t.Fatal(err)
	}
	l = start(t, home)
	everybody(l, erased)
	if _, err := os.Stat(filepath.Join(home, "keys/keyring-a/keyring")); err != nil {
		t.Errorf("the missing copy was not repaired: %v", err)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	// The thief's data and keyring of yesterday with the roots of today.
	if err := os.RemoveAll(filepath.Join(stolen, "keys/roots")); err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(stolen, "keys/roots"), filepath.Join(home, "keys/roots"))
	c, err := LoadConfig(stolen)
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), c, Options{}); core.ReasonOf(err) != "root-missing" {
		t.Errorf("yesterday's keyring under today's roots: %v", err)
	}
}
