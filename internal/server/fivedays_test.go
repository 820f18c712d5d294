package server

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

// TestProjectorStoppedForFiveDays: what a server took while its projector stood
// still for five days lies in the journal, acknowledged. When it comes back it
// takes messages at once, files everything, once and in order, and what had to
// end within those days is not there, while the ledger and every row agree
// (CC 3.3, 4.4).
func TestProjectorStoppedForFiveDays(t *testing.T) {
	const (
		day     = 24 * time.Hour
		every   = 5 * time.Minute
		backlog = int(5 * day / every)
		wet     = "  wet: {stream: climate, type: integer, unit: \"%\", range: [0, 100000], class: personal, purposes: [service.control], keep: 1d, readers: [owner, support], when_done: shred}\n"
	)
	var skew atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	home := newHome(t, core.Test, "")
	l := startAt(t, home, home, now)
	l.publish(t, strings.Replace(testDeclaration, "  temp: {", wet+"  temp: {", 1))
	u := l.enrol(t, "A1")
	dialMQTT(t, l, u).publish(t, "telemetry/climate", `{"temp":1,"wet":1,"boot":1,"seq":1}`)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	// The same server with every part but the projector.
	c, err := LoadConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(c, Options{Now: now})
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	d, err := s.devices.Device("A1")
	if err != nil {
		t.Fatal(err)
	}
	src := s.intake.NewSource(telemetry.SourceInfo{Device: d.ID, Product: d.Product, Subject: d.Subject, OwnedSince: d.OwnedSince, Sender: [16]byte(d.Serial)})
	var done settled
	for i := range backlog {
		skew.Add(int64(every))
		done.n.Add(1)
		payload := fmt.Appendf(nil, `{"t":%d,"temp":%d,"wet":%d,"boot":2,"seq":%d}`, now().UnixMilli(), i%40, i, i+1)
		for {
			v := s.intake.Message(src, []byte("climate"), payload, &done, uint64(i))
			if v.Action == telemetry.Pending {
				break
			}
			if v.Action != telemetry.Trouble {
				t.Fatalf("message %d: %+v", i, v)
			}
			time.Sleep(time.Millisecond) // the journal's queue is full
		}
	}
	done.n.Wait()
	if n := done.failed.Load(); n != 0 {
		t.Fatalf("%d messages not committed", n)
	}
	src.Close()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}

	l = startAt(t, home, home, now)
	began := time.Now()
	dialMQTT(t, l, u).publish(t, "telemetry/climate", `{"temp":3,"wet":3,"boot":3,"seq":1}`)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the first message took %s", took)
	}
	l.confirmClock(t) // nobody saw these days pass
	var lines []api.ReadLine
	waitFor(t, 60*time.Second, "everything is filed, and what is due has ended", func() bool {
		var behind bool
		lines, behind = l.readDone(t, "A1")
		return !behind && l.records(t, "epoch-ended") > 0
	})
	if len(lines) != backlog+2 {
		t.Errorf("%d readings, want %d", len(lines), backlog+2)
	}
	last, moist := uint64(0), 0
	for i, x := range lines {
		switch {
		case *x.Boot == 2 && *x.Seq != last+1:
			t.Fatalf("reading %d of %d follows %d", i, *x.Seq, last)
		case *x.Boot == 2:
			last++
		}
		if !strings.Contains(string(x.Values), `"temp"`) {
			t.Fatalf("reading %d has lost its longer half: %s", i, x.Values)
		}
		if strings.Contains(string(x.Values), `"wet"`) {
			moist++
			if age := now().Sub(x.Time); age > day+time.Minute {
				t.Errorf("a value that is kept for a day opens after %s", age)
			}
		}
	}
	if least := int(day/every) / 2; moist < least {
		t.Errorf("%d values of the last day open, want more than %d", moist, least)
	}
	var check api.RowsCheck
	l.call(t, "POST", "/v1/verify", nil, &check)
	if len(check.Faults) != 0 || check.Rows < backlog {
		t.Errorf("%d rows, faults: %v", check.Rows, check.Faults)
	}
	if sums := l.device(t, "A1").Counts; sums.Accepted != uint64(backlog)+2 || sums.Duplicates != 0 {
		t.Errorf("counts: %+v", sums)
	}
}
