package telemetry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
	"github.com/hawser-iot/hawser/internal/telemetry"
)

const hour = time.Hour

// v is what a device sends.
func v(temperature float64, heating bool, note string) map[string]any {
	return map[string]any{"temperature": temperature, "heating": heating, "note": note}
}

// TestReadMergesWhatMayBeSeen (CC 2.10): parts of one reading lie under two keep-times
// in two files; the reader gets one line in order of time, without the field
// that is not for support.
func TestReadMergesWhatMayBeSeen(t *testing.T) {
	x := newEstate(t)
	s, other := x.device(t, "A1"), x.device(t, "B2")
	x.send(t, s, 3*day, 1, v(19.5, true, "canary-note"))
	x.send(t, s, 5*hour, 3, v(20.5, false, "canary-note"))
	x.send(t, s, 2*day, 2, v(20, false, "canary-note"))        // came late
	x.send(t, s, 10*day, 7, map[string]any{"temperature": 18}) // heating's keep-time was over when it came
	x.send(t, s, hour, 0, map[string]any{"temperature": 21})
	x.send(t, other, hour, 9, v(5, true, "neighbour"))

	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "readings", got, []string{
		`7 {"temperature":18}`,
		`1 {"heating":true,"temperature":19.5}`,
		`2 {"heating":false,"temperature":20}`,
		`3 {"heating":false,"temperature":20.5}`,
		`0 {"temperature":21}`,
	})
	if len(done.Withheld) != 1 || done.Withheld[0] != (telemetry.Withheld{Field: "note", Why: "reader"}) {
		t.Errorf("withheld %v", done.Withheld)
	}
	if done.Readings != 5 || done.Unreadable != 0 || done.Behind {
		t.Errorf("done %+v", done)
	}

	for _, c := range []struct {
		name string
		q    telemetry.ReadRequest
		want []string
	}{
		{"span", telemetry.ReadRequest{From: x.clock().Add(-3 * day), To: x.clock().Add(-5 * hour)}, []string{`1 {"heating":true,"temperature":19.5}`, `2 {"heating":false,"temperature":20}`}},
		{"one field", telemetry.ReadRequest{Fields: []string{"heating"}}, []string{`1 {"heating":true}`, `2 {"heating":false}`, `3 {"heating":false}`}},
		{"purpose", telemetry.ReadRequest{Purpose: "service.history", From: x.clock().Add(-day)}, []string{`3 {"temperature":20.5}`, `0 {"temperature":21}`}},
		{"only what is withheld", telemetry.ReadRequest{Fields: []string{"note"}}, nil},
		{"owner", telemetry.ReadRequest{Role: "owner", From: x.clock().Add(-3 * day), To: x.clock().Add(-2 * day)}, []string{`1 {"heating":true,"temperature":19.5}`}},
		{"owner, of what was", telemetry.ReadRequest{Role: "owner", Purpose: "service.history", From: x.clock().Add(-3 * day), To: x.clock().Add(-2 * day)}, []string{`1 {"note":"canary-note","temperature":19.5}`}},
		{"a role that nobody declared", telemetry.ReadRequest{Role: "vendor"}, nil},
	} {
		c.q.Device = "A1"
		got, _, err := x.readAll(t, c.q)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		same(t, c.name, got, c.want)
	}
	if n := found(t, x.data, "canary-note"); n != 0 {
		t.Errorf("a value lies in clear in the data folder %d times", n)
	}
}

// doOf is what an error tells its reader to do.
func doOf(err error) string {
	if e, ok := errors.AsType[*core.Error](err); ok {
		return e.Hint
	}
	return ""
}

// A purpose stands in the ledger in clear, so it is one of the declaration's
// words and no text of the reader's.
func TestReadForAPurposeOfItsOwn(t *testing.T) {
	x := newEstate(t)
	x.device(t, "A1")
	_, err := x.read.Read(t.Context(), staff, telemetry.ReadRequest{Device: "A1", Role: "support", Reason: reason, Purpose: "mrs-smith-called"},
		func(*telemetry.OpenReading) error { return nil })
	if core.ReasonOf(err) != "unknown-purpose" || !strings.Contains(doOf(err), "service.control, service.history") {
		t.Errorf("a purpose of the reader's own: %v", err)
	}
	_, err = x.read.Read(t.Context(), staff, telemetry.ReadRequest{Device: "A1", Role: "support", Reason: reason},
		func(*telemetry.OpenReading) error { return nil })
	if core.ReasonOf(err) != "no-purpose" || !strings.Contains(doOf(err), "service.control, service.history") {
		t.Errorf("no purpose: %v", err)
	}
	if n := len(x.records(t, telemetry.RecordReadOpened)); n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
}

// TestReadStandsInTheLedger (CC 4.1): who, what and why before the first value, how
// much after the last; the device and the reason only under the subject's key.
func TestReadStandsInTheLedger(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	x.send(t, s, hour, 1, v(20, true, "n"))
	x.send(t, s, hour/2, 2, v(21, true, "n"))
	_, err := x.read.Read(t.Context(), staff, telemetry.ReadRequest{Device: "A1", Role: "support", Reason: reason, Purpose: "service.control"},
		func(*telemetry.OpenReading) error {
			if n := len(x.records(t, telemetry.RecordReadOpened)); n != 1 {
				t.Errorf("a value flowed with %d records of the session", n)
			}
			if n := len(x.records(t, telemetry.RecordReadClosed)); n != 0 {
				t.Error("the session was closed before it ended")
			}
			return nil
		})
	must(t, err)
	opened, closed := x.records(t, telemetry.RecordReadOpened), x.records(t, telemetry.RecordReadClosed)
	if len(opened) != 1 || len(closed) != 1 {
		t.Fatalf("%d opened, %d closed", len(opened), len(closed))
	}
	o := opened[0]
	if o.Actor != staff || o.Subject != s || fact(o, "fields") != "heating,temperature" || fact(o, "role") != "support" ||
		fact(o, "purpose") != "service.control" || fact(o, "session") == "" || o.Policy.IsZero() {
		t.Errorf("opening record %+v", o)
	}
	if c := closed[0]; fact(c, "session") != fact(o, "session") || fact(c, "readings") != "2" || fact(c, "ended") != "complete" || c.Subject != s {
		t.Errorf("closing record %+v", c)
	}
	for _, f := range o.Facts {
		if strings.Contains(f.Value, "A1") || strings.Contains(f.Value, "4711") {
			t.Errorf("the record names device or reason in clear: %s=%s", f.Name, f.Value)
		}
	}
	plain, err := x.ring.OpenValue(s, "read-session", o.Sealed)
	must(t, err)
	var part struct{ Device, Reason string }
	must(t, json.Unmarshal(plain, &part))
	if part.Device != "A1" || part.Reason != reason {
		t.Errorf("sealed part %+v", part)
	}

	// A session that breaks off says so.
	broken := errors.New("the pipe is gone")
	done, err := x.read.Read(t.Context(), staff, telemetry.ReadRequest{Device: "A1", Role: "support", Purpose: "service.control", Reason: reason},
		func(*telemetry.OpenReading) error { return broken })
	if !errors.Is(err, broken) || done.Readings != 1 {
		t.Errorf("broken off: %+v, %v", done, err)
	}
	if c := x.records(t, telemetry.RecordReadClosed); len(c) != 2 || fact(c[1], "ended") != "broken-off" || fact(c[1], "readings") != "1" {
		t.Errorf("closing record %+v", c)
	}
}

func TestReadRefuses(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	x.send(t, s, hour, 1, v(20, true, "n"))
	for _, c := range []struct {
		name   string
		q      telemetry.ReadRequest
		kind   core.Kind
		reason string
	}{
		{"no reason", telemetry.ReadRequest{Device: "A1", Reason: "   x  "}, core.Invalid, "no-reason"},
		{"a novel for a reason", telemetry.ReadRequest{Device: "A1", Reason: strings.Repeat("x", 301)}, core.Invalid, "no-reason"},
		{"a reason that is not text", telemetry.ReadRequest{Device: "A1", Reason: "because \xff\xfe"}, core.Invalid, "no-reason"},
		{"not a device id", telemetry.ReadRequest{Device: "../etc"}, core.Invalid, "device-id"},
		{"unknown device", telemetry.ReadRequest{Device: "C3"}, core.Unknown, "unknown-device"},
		{"unknown field", telemetry.ReadRequest{Device: "A1", Fields: []string{"temperature", "location"}}, core.Invalid, "unknown-field"},
		{"backwards", telemetry.ReadRequest{Device: "A1", From: x.clock(), To: x.clock().Add(-hour)}, core.Invalid, "span"},
		{"too many fields", telemetry.ReadRequest{Device: "A1", Fields: make([]string, 257)}, core.Invalid, "bad-read"},
	} {
		got, _, err := x.readAll(t, c.q)
		wantReason(t, c.name, err, c.kind, c.reason)
		if len(got) != 0 {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	_, err := x.read.Read(t.Context(), staff, telemetry.ReadRequest{Device: "A1", Purpose: "service.control", Reason: reason}, nil)
	wantReason(t, "no role", err, core.Invalid, "bad-read")
	if r := x.records(t, telemetry.RecordReadOpened); len(r) != 0 {
		t.Errorf("refused sessions left %d records", len(r))
	}
}

// TestReadFollowsTheDeclaration: a widening never reaches back, a narrowing
// holds at once.
func TestReadFollowsTheDeclaration(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	x.send(t, s, 3*hour, 1, v(20, true, "n"))
	must(t, x.decl.Publish(t.Context(), staff, policy(t, 2, "[owner]")))
	x.send(t, s, 2*hour, 2, v(21, true, "n"))
	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "narrowed", got, []string{`1 {"heating":true}`, `2 {"heating":true}`})
	if fmt.Sprint(done.Withheld) != "[{note reader} {temperature reader}]" {
		t.Errorf("withheld %v", done.Withheld)
	}
	must(t, x.decl.Publish(t.Context(), staff, policy(t, 3, "[owner, support]")))
	x.send(t, s, hour, 3, v(22, true, "n"))
	got, _, err = x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "widened again", got, []string{`1 {"heating":true,"temperature":20}`, `2 {"heating":true}`, `3 {"heating":true,"temperature":22}`})
}

// TestReadWithholdsRemovedFields (CC 2.10): a field that the declaration in
// force no longer has is not read, though its old readings are kept.
func TestReadWithholdsRemovedFields(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	x.send(t, s, 3*hour, 1, v(20, true, "n"))
	without := thermostat
	for line := range strings.Lines(thermostat) {
		if strings.Contains(line, "heating:") {
			without = strings.Replace(thermostat, line, "", 1)
		}
	}
	d, err := declaration.Parse("thermostat.yaml", fmt.Appendf(nil, without, 2, "[owner, support]"))
	must(t, err)
	p, err := declaration.Compile(d)
	must(t, err)
	got, _, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "before", got, []string{`1 {"heating":true,"temperature":20}`})
	must(t, x.decl.Publish(t.Context(), staff, p))
	for _, fields := range [][]string{nil, {"heating", "temperature"}} {
		got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "A1", Fields: fields})
		must(t, err)
		same(t, "removed", got, []string{`1 {"temperature":20}`})
		if !slices.Contains(done.Withheld, telemetry.Withheld{Field: "heating", Why: "removed"}) {
			t.Errorf("withheld %v", done.Withheld)
		}
	}
	must(t, x.decl.Publish(t.Context(), staff, policy(t, 3, "[owner, support]")))
	got, _, err = x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "declared again", got, []string{`1 {"heating":true,"temperature":20}`})
}

// TestReadShowsNothingThatIsDue (CC 4.4), though expiry has not come to it yet.
func TestReadShowsNothingThatIsDue(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	x.send(t, s, 6*day, 1, v(20, true, "n"))
	x.send(t, s, hour, 2, v(21, true, "n"))
	x.now.Add((2 * day).Milliseconds())
	got, _, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "two days later", got, []string{`1 {"temperature":20}`, `2 {"heating":true,"temperature":21}`})
	x.now.Add((40 * day).Milliseconds())
	got, _, err = x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "at the end", got, nil)
}

func TestReadOfChangedRows(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	p, err := x.decl.Current(t.Context(), "thermostat")
	must(t, err)
	good := x.rows(t, reading{subject: s, at: x.clock().Add(-2 * hour), seq: 1, policy: p, values: v(20, true, "n")})
	moved := x.rows(t, reading{subject: s, at: x.clock().Add(-hour), seq: 2, policy: p, values: v(21, true, "n")})
	for i := range moved {
		moved[i].Reading.T-- // a row that says another time than it was sealed with
	}
	x.file(t, append(good, moved...)...)
	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "readings", got, []string{`1 {"heating":true,"temperature":20}`})
	if done.Unreadable != 2 {
		t.Errorf("%d unreadable parts, want 2", done.Unreadable)
	}
	if c := x.records(t, telemetry.RecordReadClosed); len(c) != 1 || fact(c[0], "unreadable") != "2" {
		t.Errorf("closing record %+v", c)
	}
}

// TestReadBesideADamagedFile: the rest serves, and the answer says what is
// missing.
func TestReadBesideADamagedFile(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	x.send(t, s, 3*day, 1, v(20, true, "n"))
	x.send(t, s, hour, 2, v(21, true, "n"))
	must(t, x.files.Close())
	e := core.EpochAt(30*day, day, x.clock().Add(-3*day))
	path := filepath.Join(x.data, "telemetry", e.String()+".db")
	b, err := os.ReadFile(path)
	must(t, err)
	for i := 100; i < len(b); i++ {
		b[i] = byte(i)
	}
	must(t, os.WriteFile(path, b, 0o600))
	x.close()
	x.open(t, nil)
	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	same(t, "readings", got, []string{`1 {"heating":true}`, `2 {"heating":true,"temperature":21}`})
	if len(done.Damaged) != 1 || done.Damaged[0] != e.String() {
		t.Errorf("damaged %v, want %s", done.Damaged, e)
	}
}

func TestReadSaysThatItIsBehind(t *testing.T) {
	x := newEstate(t)
	x.send(t, x.device(t, "A1"), hour, 1, v(20, true, "n"))
	x.unsettle = errors.New("the projector has stopped")
	got, done, err := x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	must(t, err)
	if len(got) != 1 || !done.Behind {
		t.Errorf("got %v, %+v", got, done)
	}
}

// TestReadWhileErased: the session stops the moment the key goes.
func TestReadWhileErased(t *testing.T) {
	x := newEstate(t)
	s := x.device(t, "A1")
	for i := range 5 {
		x.send(t, s, time.Duration(9-i)*hour, uint64(i+1), v(20, true, "n"))
	}
	n := 0
	_, err := x.read.Read(t.Context(), staff, telemetry.ReadRequest{Device: "A1", Role: "support", Purpose: "service.control", Reason: reason}, func(*telemetry.OpenReading) error {
		if n++; n == 2 {
			_, err := x.ring.Shred(t.Context(), seal.Order{Subjects: []core.Subject{s}})
			return err
		}
		return nil
	})
	wantReason(t, "read of somebody who is erased meanwhile", err, core.Unknown, "erased")
	if n > 3 {
		t.Errorf("%d readings flowed, the third at most may have been opened before", n)
	}
	_, _, err = x.readAll(t, telemetry.ReadRequest{Device: "A1"})
	wantReason(t, "read of somebody whose key is gone", err, core.Unknown, "erased")
}

// BenchmarkReadDeviceDay reads one day of one device out of many: 1,440
// readings, whose parts lie in one file or in two.
func BenchmarkReadDeviceDay(b *testing.B) {
	for _, c := range []struct {
		name   string
		fields []string
	}{{"one-group", []string{"temperature"}}, {"two-groups", nil}} {
		b.Run(c.name, func(b *testing.B) {
			x := newEstate(b)
			p, err := x.decl.Current(b.Context(), "thermostat")
			must(b, err)
			start := x.clock().Add(-30 * hour).Truncate(day)
			subjects := []core.Subject{x.device(b, "A1")}
			for i := range 20 {
				subjects = append(subjects, x.device(b, core.DeviceID(fmt.Sprintf("N%d", i))))
			}
			for block := range 24 {
				var rows []telemetry.Row
				for _, s := range subjects {
					for i := block * 60; i < (block+1)*60; i++ {
						rows = append(rows, x.rows(b, reading{subject: s, at: start.Add(time.Duration(i) * time.Minute), seq: uint64(i + 1), policy: p, values: v(20.5, true, "n")})...)
					}
				}
				x.file(b, rows...)
			}
			q := telemetry.ReadRequest{Device: "A1", Role: "support", Purpose: "service.control", Reason: reason, Fields: c.fields, From: start, To: start.Add(day)}
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				n := 0
				if _, err := x.read.Read(b.Context(), staff, q, func(*telemetry.OpenReading) error { n++; return nil }); err != nil || n != 1440 {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/day")
			b.ReportMetric((cpuTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/day")
		})
	}
}

// cpuTime is what this process has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
