package server

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// controlFiles are the bytes of the control database and its log.
func controlFiles(t *testing.T, home string) (all []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "data", "control.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// TestOwnershipLeavesTheDisk: who takes the disk right after an erasure finds
// the row that tied the subject to the device neither in the database nor in
// its log; before the erasure, and of who stays, he does (CC 4.8).
func TestOwnershipLeavesTheDisk(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	row := func(id core.DeviceID) []byte { // the row begins with subject and device
		var shown api.Device
		l.call(t, "GET", "/v1/devices/"+string(id), nil, &shown)
		subject, err := core.ParseSubject(shown.Subject)
		if err != nil {
			t.Fatal(err)
		}
		return append(subject[:], id...)
	}
	for _, id := range []core.DeviceID{"serial-gone", "serial-stays"} {
		c := dialMQTT(t, l, l.enrol(t, id))
		c.publish(t, "telemetry/climate", `{"temp":20.5}`)
		c.close(t)
	}
	gone, stays := row("serial-gone"), row("serial-stays")
	for _, r := range [][]byte{gone, stays} {
		if !bytes.Contains(controlFiles(t, l.home), r) {
			t.Fatal("the row is not found even before the erasure: this test shows nothing")
		}
	}
	l.call(t, "POST", "/v1/devices/serial-gone/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
	after := controlFiles(t, l.home)
	if n := bytes.Count(after, gone); n != 0 {
		t.Errorf("after the erasure its row still stands %d times on the disk", n)
	}
	if !bytes.Contains(after, stays) {
		t.Error("the other row is gone")
	}
}

// below are the bytes of every file below a folder, write-ahead logs and all.
func below(t *testing.T, dir string) (all []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestErasedSubjectLeadsToNoUnit: the register keeps whose a certificate was,
// so that certificate stands nowhere near the pseudonym of who was erased: not
// in the journal, not in an epoch file, not in the late lane, not in a log of
// any of them (design, section 5, Subjects; CC 4.8).
func TestErasedSubjectLeadsToNoUnit(t *testing.T) {
	home := newHome(t, core.Test, "")
	const away = 8 * 24 * time.Hour // a device that comes back after a week
	l := start(t, home)
	l.publish(t, testDeclaration)
	u := l.enrol(t, "serial-gone")
	var shown api.Device
	l.call(t, "GET", "/v1/devices/serial-gone", nil, &shown)
	subject, err := core.ParseSubject(shown.Subject)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(u.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	var serial [16]byte
	leaf.SerialNumber.FillBytes(serial[:])
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	now := func() time.Time { return time.Now().Add(away) }
	l = startAt(t, home, home, now)
	c := dialMQTT(t, l, u)
	c.publish(t, "telemetry/climate", `{"temp":20.5,"note":"here","gps":1}`)
	if code, _ := c.try("telemetry/climate", `[]`); code != 0x99 {
		t.Fatalf("a message that is no object: %#x", code)
	}
	for day := range 7 { // more days than are filed at once
		at := now().Add(-away + time.Duration(day)*24*time.Hour + time.Hour)
		c.publish(t, "telemetry/climate", fmt.Sprintf(`{"t":%d,"temp":19.5}`, at.UnixMilli()))
	}
	var late []byte
	telemetryDir, journalDir := filepath.Join(home, "data", "telemetry"), filepath.Join(home, "data", "journal")
	waitFor(t, 60*time.Second, "a reading waits in the late lane", func() bool {
		late = nil
		for _, f := range []string{"late.db", "late.db-wal"} {
			b, _ := os.ReadFile(filepath.Join(telemetryDir, f)) // none: nothing is in it
			late = append(late, b...)
		}
		return bytes.Contains(late, subject[:])
	})
	c.close(t)

	leads := func(what string, b []byte) {
		t.Helper()
		if !bytes.Contains(b, subject[:]) {
			t.Errorf("%s: nothing of the subject is found in it: the search shows nothing", what)
		}
		for form, needle := range map[string][]byte{
			"serial number": serial[:], "serial number in hex": []byte(hex.EncodeToString(serial[:])), "name": []byte("serial-gone"),
		} {
			if n := bytes.Count(b, needle); n != 0 {
				t.Errorf("%s: the unit's %s stands %d times beside the subject", what, form, n)
			}
		}
	}
	for _, when := range []string{"before the erasure", "after it"} {
		leads("late lane "+when, late)
		leads("telemetry "+when, below(t, telemetryDir))
		leads("journal "+when, below(t, journalDir))
		if when == "after it" {
			break
		}
		l.call(t, "POST", "/v1/devices/serial-gone/erase", api.ReasonRequest{Reason: "owner asked"}, nil)
	}
	// The register does know the certificate: this is what it must not lead to.
	if !bytes.Contains(controlFiles(t, home), serial[:]) {
		t.Error("the register does not hold the serial number: the search shows nothing")
	}
}
