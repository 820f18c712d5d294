package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/core"
)

// TestSleepers: a device that was off for half a year, far past the end of its
// certificate, is back and delivers in one wake: with two connections, where
// its clock is right or it is known to sleep; with three where the clock says
// 1970 and nobody told the library (CC 3.2).
func TestSleepers(t *testing.T) {
	home := newHome(t, core.Test, "")
	l := start(t, home)
	l.publish(t, testDeclaration)
	roots, err := os.ReadFile(l.rootFile(t))
	if err != nil {
		t.Fatal(err)
	}
	const slept = 180 * 24 * time.Hour
	board := &switchboard{l: l}
	type sleeper struct {
		conf  device.Config
		dials atomic.Int32
		most  int32
	}
	began := time.Now()
	all := map[string]*sleeper{
		"right-clock": {conf: device.Config{Now: func() time.Time { return time.Now().Add(slept) }}, most: 2},
		"1970-told":   {conf: device.Config{Now: func() time.Time { return time.Unix(0, 0).Add(time.Since(began)) }, Sleeps: true}, most: 2},
		"1970":        {conf: device.Config{Now: func() time.Time { return time.Unix(0, 0).Add(time.Since(began)) }}, most: 3},
	}
	run := func(name string, s *sleeper, now func() time.Time) {
		t.Helper()
		conf := s.conf
		if now != nil {
			conf.Now = now
		}
		d, err := device.Open(conf)
		if err != nil {
			t.Fatal(err)
		}
		if now == nil { // awake again, with something to say
			if err := d.Send("climate", device.NewReading(conf.Now()).Float("temp", 4)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		waitFor(t, 20*time.Second, name+" to be connected with nothing left to say", func() bool {
			st := d.Status()
			return st.Connected && st.Queued == 0
		})
		if st := d.Status(); now == nil && (st.Acked != 1 || st.Renewals != 1) {
			t.Errorf("%s: %d readings taken, %d renewals", name, st.Acked, st.Renewals)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, s := range all {
		code := l.add(t, core.DeviceID(name))
		s.conf.Serial, s.conf.Server, s.conf.EnrolServer, s.conf.Roots = name, "localhost:8883", "localhost:8443", roots
		s.conf.StateDir, s.conf.EnrolmentCode = filepath.Join(t.TempDir(), "s"), func() (string, error) { return code, nil }
		s.conf.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			s.dials.Add(1)
			return board.dial(ctx, network, address)
		}
		run(name, s, time.Now)
	}
	over := l.enrol(t, "over")
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l = startAt(t, home, home, func() time.Time { return time.Now().Add(slept) })
	board.set(l)
	// It opens nothing else, at no door.
	newPoster(l, over, t).post(t, "climate", jsonType, `{"temp":4}`).want(t, "a certificate that ran out", 403, "certificate-expired")
	if m, err := tryMQTT(t.Context(), l, over); err == nil {
		m.close(t)
		t.Error("a certificate that ran out opens a session")
	}
	for name, s := range all {
		if x := l.device(t, core.DeviceID(name)); x.State != "expired" {
			t.Fatalf("%s is %s", name, x.State)
		}
		s.dials.Store(0)
		run(name, s, nil)
		if n := s.dials.Load(); n > s.most {
			t.Errorf("%s took %d connections, want at most %d", name, n, s.most)
		}
		if x := l.device(t, core.DeviceID(name)); x.State != "active" {
			t.Errorf("%s is %s", name, x.State)
		}
		if lines, err := l.readAll(t, core.DeviceID(name)); err != nil || len(lines) != 1 {
			t.Errorf("%s: %d readings, %v", name, len(lines), err)
		}
	}
}
