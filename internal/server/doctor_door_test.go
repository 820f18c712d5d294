package server

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
)

// A device that cannot stay in is named with its reason where an operator
// looks: `device show` has its own connections, doctor the whole door (CC 4.17).
func TestWhoIsTurnedAwayShows(t *testing.T) {
	l := start(t, newHome(t, core.Test, ""))
	l.publish(t, testDeclaration)
	bad, good := l.enrol(t, "BAD"), l.enrol(t, "GOOD")
	dialMQTT(t, l, good).publish(t, "telemetry/climate", `{"temp":1}`)
	if f := l.finding(t, "devices' door"); f != "" {
		t.Errorf("before anything happened doctor says %q", f)
	}
	speak := func(packets string) {
		t.Helper()
		c, err := tls.Dial("tcp", l.addr.Devices, l.tls(bad))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, packets); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second)) // a failure shows below
		_, _ = io.Copy(io.Discard, c)                           // until the server closes
	}
	connect := "\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01x"
	speak(connect + "\x82\x03\x00\x01\x00") // SUBSCRIBE without a filter
	speak(connect)                          // kept out for a second
	waitFor(t, 20*time.Second, "doctor names the reason", func() bool {
		return strings.Contains(l.finding(t, "devices' door"), "back-off")
	})
	reasons := map[string]int{}
	for _, r := range l.device(t, "BAD").Refusals {
		reasons[r.Reason]++
		if r.Source != "127.0.0.0/24" || r.Time.IsZero() {
			t.Errorf("%+v", r)
		}
	}
	if reasons["malformed"] != 1 || reasons["back-off"] != 1 {
		t.Errorf("device show has %v", reasons)
	}
	d := l.device(t, "GOOD")
	if len(d.Refusals) != 0 {
		t.Errorf("the neighbour shows %+v", d.Refusals)
	}
	if b := d.Birth; b == nil || b.Added.IsZero() || b.By == "" || b.KeyOrigin != "device" || b.Enrolled == nil || b.CodeBits < 128 {
		t.Errorf("where it comes from: %+v", b) // CC 1.7
	}
}

// TestOwnStrangersAreNoFinding: the strangers that our own checks send are
// refused, and the refusals are seen; doctor does not take them for devices
// that cannot get in. A device that knocks a moment later is named.
func TestOwnStrangersAreNoFinding(t *testing.T) {
	l := start(t, newHome(t, core.Live, ""))
	for range 2 {
		for _, id := range []string{"devices.no-anonymous", "doors.cleartext", "environment.apart"} {
			l.look(t, api.RunRequest{Check: id})
		}
	}
	if f := l.finding(t, "devices' door"); f != "" {
		t.Errorf("after looks of our own doctor says %q", f)
	}
	waitFor(t, 20*time.Second, "doctor to name who speaks old TLS", func() bool {
		if c, err := tls.Dial("tcp", l.addr.Devices, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
			_ = c.Close() // it must not be taken
			t.Fatal("TLS 1.1 is taken")
		}
		return strings.Contains(l.finding(t, "devices' door"), "tls-version")
	})
}
