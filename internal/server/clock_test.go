package server

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/store"
)

// confirmClock says that the server's clock is right, as a person would.
func (l *live) confirmClock(t testing.TB) {
	t.Helper()
	now := time.Now()
	if l.now != nil {
		now = l.now()
	}
	l.call(t, "POST", "/v1/clock/confirm", api.ClockRequest{Date: now.UTC().Format(time.DateOnly)}, nil)
}

// TestClockJump: a clock that jumps ahead by years while the server runs
// destroys nothing, doctor names it and the command, and when it is set right
// all is as before. One that a person confirms is believed (CC 4.4).
func TestClockJump(t *testing.T) {
	home := newHome(t, core.Test, "")
	var skew atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	l := startAt(t, home, home, now)
	l.publish(t, testDeclaration)
	c := dialMQTT(t, l, l.enrol(t, "A1"))
	c.publish(t, "telemetry/climate", `{"temp":21}`)
	c.close(t)
	if lines, err := l.readAll(t, "A1"); err != nil || len(lines) != 1 {
		t.Fatalf("%d readings, %v", len(lines), err)
	}
	if f := l.finding(t, "clock"); f != "" {
		t.Fatalf("doctor says of a clock that is right: %s", f)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	const years = 3 * 365 * 24 * time.Hour // within the life of the authority
	files := len(epochFiles(t, home))
	skew.Store(int64(years))
	l = startAt(t, home, home, now)
	waitFor(t, 20*time.Second, "doctor names the clock", func() bool {
		for _, f := range l.status(t).Findings {
			if f.Area == "clock" && f.Severity == "error" && strings.Contains(f.Do, "hawser clock confirm "+now().UTC().Format(time.DateOnly)) {
				return true
			}
		}
		return false
	})
	waitFor(t, 20*time.Second, "the job has run", func() bool {
		_, some := l.findMetric(t, `hawser_job_last_success_timestamp_seconds{job="expiry"}`)
		return some
	})
	// The job's success is noted by the clock that everything goes by.
	if at := l.metric(t, `hawser_job_last_success_timestamp_seconds{job="expiry"}`); time.Unix(int64(at), 0).Sub(now()).Abs() > time.Hour {
		t.Errorf("the job says that it ran at %v", time.Unix(int64(at), 0))
	}
	if f := l.finding(t, "jobs"); f != "" {
		t.Errorf("doctor: %s", f)
	}
	if n := len(epochFiles(t, home)); n != files || n == 0 {
		t.Errorf("%d of %d files are left", n, files)
	}
	if n := l.records(t, "epoch-ended"); n != 0 {
		t.Errorf("%d epochs ended", n)
	}
	if n := l.records(t, "clock-ahead"); n != 1 {
		t.Errorf("%d records of it, want 1", n)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	// Set right: nothing was lost, and nobody has to say anything.
	skew.Store(0)
	l = startAt(t, home, home, now)
	if lines, err := l.readAll(t, "A1"); err != nil || len(lines) != 1 {
		t.Errorf("after the clock was set right: %d readings, %v", len(lines), err)
	}
	if f := l.finding(t, "clock"); f != "" {
		t.Errorf("doctor still says %s", f)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}

	// Really off for years: a person says so.
	skew.Store(int64(years))
	l = startAt(t, home, home, now)
	today := time.Now().UTC().Format(time.DateOnly)
	if err := l.client.Call(t.Context(), "POST", "/v1/clock/confirm", api.ClockRequest{Date: today}, nil); core.KindOf(err) != core.Conflict || !strings.Contains(err.Error(), now().UTC().Format("2006-01")) {
		t.Errorf("a date that is not the clock's: %v", err)
	}
	if n := len(epochFiles(t, home)); n != files {
		t.Errorf("after the refusal: %d of %d files", n, files)
	}
	l.confirmClock(t)
	waitFor(t, 30*time.Second, "what is due has ended", func() bool { return len(epochFiles(t, home)) == 0 })
	if f := l.finding(t, "clock"); f != "" {
		t.Errorf("confirmed, but doctor says %s", f)
	}
	if n := l.records(t, "clock-confirmed"); n != 1 {
		t.Errorf("%d confirmations in the ledger, want 1", n)
	}
}

// TestClockTrust: what is believed, and when (docs/decisions/005-clock-jump.md).
func TestClockTrust(t *testing.T) {
	const day = 24 * time.Hour
	began := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	type look struct {
		passed time.Duration // since the look before
		jumped time.Duration // by how much more the clock went on
		want   bool
	}
	for name, looks := range map[string][]look{
		"goes on":                     {{time.Minute, 0, true}, {day, 0, true}, {20 * time.Hour, 0, true}},
		"half a day":                  {{time.Minute, 12 * time.Hour, true}},
		"back and forth":              {{time.Minute, -56 * 365 * day, true}, {time.Minute, 56 * 365 * day, true}},
		"back, and far ahead":         {{time.Minute, -365 * day, true}, {time.Minute, 400 * day, false}},
		"ahead, and back":             {{time.Minute, 300 * day, false}, {time.Hour, 0, false}, {time.Hour, -300 * day, true}},
		"off for a month, steady":     {{time.Minute, 30 * day, false}, {71 * time.Hour, 0, false}, {2 * time.Hour, 0, true}},
		"off for a month, set right":  {{time.Minute, 30 * day, false}, {71 * time.Hour, time.Minute, false}, {2 * time.Hour, -time.Minute, true}},
		"off for a month, not steady": {{time.Minute, 30 * day, false}, {71 * time.Hour, 0, false}, {2 * time.Hour, time.Hour, false}, {71 * time.Hour, 0, false}, {time.Hour, 0, true}},
		"years, steady":               {{time.Minute, 3 * 365 * day, false}, {80 * time.Hour, 0, false}, {80 * time.Hour, 0, false}},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = st.Close() }() // the test is over
			at, passed := began, time.Duration(0)
			c, err := openClock(t.Context(), st, store.Installation{Created: began}, func() time.Time { return at })
			if err != nil {
				t.Fatal(err)
			}
			c.steady = func() time.Duration { return passed }
			for i, l := range looks {
				at, passed = at.Add(l.passed+l.jumped), passed+l.passed
				got, err := c.trusted(t.Context(), at)
				if err != nil || got != l.want {
					t.Errorf("look %d, the clock says %v: %t, %v; want %t", i+1, at, got, err, l.want)
				}
				var d diagnosis
				if c.finding(&d); (len(d.found) == 0) != got {
					t.Errorf("look %d: doctor says %+v", i+1, d.found)
				}
			}
		})
	}
}

// TestClockIsRemembered: a restart does not make a clock right.
func TestClockIsRemembered(t *testing.T) {
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }() // the test is over
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	inst := store.Installation{Created: at}
	open := func(want bool) *clock {
		t.Helper()
		c, err := openClock(t.Context(), st, inst, func() time.Time { return at })
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.trusted(t.Context(), at); err != nil || got != want {
			t.Errorf("at %v: %t, %v; want %t", at, got, err, want)
		}
		return c
	}
	open(true)
	for range 5 { // five days of work, a restart each
		at = at.Add(23 * time.Hour)
		open(true)
	}
	at = at.Add(48 * time.Hour)
	open(false)
	c := open(false)
	for _, date := range []string{"", "today", "2026-11-22", "2026-11-31"} {
		if _, err := c.confirm(t.Context(), core.Job("test"), date); err == nil {
			t.Errorf("confirmed with %q", date)
		}
	}
	// One day of difference is the far side of the earth.
	if _, err := c.confirm(t.Context(), core.Job("test"), at.Add(24*time.Hour).Format(time.DateOnly)); err != nil {
		t.Error(err)
	}
	open(true)
	// A wrong one was confirmed: the right date brings it back.
	at = at.Add(365 * 24 * time.Hour)
	c = open(false)
	if _, err := c.confirm(t.Context(), core.Job("test"), at.Format(time.DateOnly)); err != nil {
		t.Error(err)
	}
	at = at.Add(-365 * 24 * time.Hour)
	c = open(true)
	if _, err := c.confirm(t.Context(), core.Job("test"), at.Format(time.DateOnly)); err != nil {
		t.Error(err)
	}
	at = at.Add(365 * 24 * time.Hour)
	open(false)
}
