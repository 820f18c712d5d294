package server

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

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
