package gate_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/gate"
)

// small are limits with little tables, so that a flood fills them.
func small() gate.Limits {
	l := gate.Standard()
	l.All = gate.Budget{Burst: 1 << 20, Refill: time.Millisecond}
	for s := range l.Rows {
		l.Rows[s] = 64
	}
	return l
}

// However many strangers come, tables in memory and on disk stay within their
// limits, and nobody has fresh tries by pushing an account out.
func TestTablesAreBounded(t *testing.T) {
	f := newFixtureWith(t, small())
	for i := range 200 {
		f.try(password("ann", net(i)), false)
	}
	f.mustWait(password("ann", net(9999)))
	flood := func() {
		for w := range 10 {
			together(400, func(i int) {
				n := 400*w + i
				f.try(password(fmt.Sprint("made-up-", n), net(n)), false)
				f.try(enrolment(fmt.Sprint("made-up-", n), net(n)), false)
			})
		}
	}
	bounded := func() {
		t.Helper()
		st, all := f.state(), 0
		for _, tb := range st.Tables {
			if tb.Rows > tb.Max || tb.Max > 64 {
				t.Errorf("%s has %d rows, may have %d", tb.Scope, tb.Rows, tb.Max)
			}
			all += tb.Rows
		}
		if st.Kept > all+2 || st.Kept < all { // and two floors
			t.Errorf("%d counters on disk, %d in memory", st.Kept, all)
		}
	}
	flood()
	bounded()
	if f.try(password("ann", net(10_000)), false) == 0 {
		t.Error("a flood of accounts gives fresh tries at one")
	}
	f.restart()
	bounded()
	if f.try(password("ann", net(10_001)), false) == 0 {
		t.Error("a flood and a restart give fresh tries")
	}
	// What is forgiven goes, without anybody coming.
	f.advance(3 * 24 * time.Hour)
	if err := f.gate.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := f.state(); st.Kept > 2 || !st.Oldest.IsZero() || st.Held != 0 || st.Slowed != 0 {
		t.Errorf("after three days: %+v", st)
	}
	f.mustGetIn(password("ann", net(1)))
}

// An account whose count is pushed out begins where the count was, not anew.
func TestPushedOutIsNotForgiven(t *testing.T) {
	lim := small()
	lim.Rows = gate.Standard().Rows
	lim.Rows[gate.Account] = 64
	f := newFixtureWith(t, lim)
	for p := range 200 { // each with a higher count than ann's
		for i := range 30 {
			f.try(password(fmt.Sprint("made-up-", p), net(30*p+i)), false)
		}
		if p == 20 {
			for i := range 20 {
				f.try(password("ann", net(9000+i)), false)
			}
		}
	}
	// Once the table is not full any more, nothing but the floor on disk says
	// where ann was.
	rows := func() int { return f.state().Tables[3].Rows }
	for i := 0; rows() > 60 || f.state().Tables[3].Scope != gate.Account; i++ {
		f.try(password(fmt.Sprint("one-more-", i), net(20_000+i)), false)
	}
	f.restart()
	guesses := 20
	for i := range 60 {
		if f.try(password("ann", net(10_000+i)), false) == 0 {
			guesses++
		}
	}
	if guesses > 50 {
		t.Errorf("%d guesses within a minute, may be 50", guesses)
	}
}

// The limits of every gate: what is written in Standard of tables that cannot
// be filled with rows that count, and the day's guesses.
func TestStandardLimits(t *testing.T) {
	l := gate.Standard()
	if n := l.Account.Burst + int(24*time.Hour/l.Account.Refill); n > l.GuessesPerDay || l.GuessesPerDay > 100 {
		t.Errorf("%d guesses a day", n)
	}
	if n := l.All.Burst + int(l.Account.Refill/l.All.Refill); n >= 37_000 || n > l.Rows[gate.Account]*7/8 {
		t.Errorf("%d accounts with a try that counts do not fit", n)
	}
	if n := l.All.Burst + int(l.LongestDelay/l.All.Refill); n > 20_000 || n > l.Rows[gate.Pair]*7/8 {
		t.Errorf("%d pairs that must wait do not fit", n)
	}
	rows := 0
	for _, s := range gate.Scopes() {
		if l.Rows[s] == 0 {
			t.Errorf("%s has no limit", s)
		}
		rows += l.Rows[s]
	}
	if rows > 1<<18 {
		t.Errorf("%d rows in all", rows)
	}
	g := newFixture(t).gate
	g.Limits().Rows[gate.Account] = 1 << 30
	if g.Limits().Rows[gate.Account] == 1<<30 {
		t.Error("limits can be changed from outside")
	}
}

func TestState(t *testing.T) {
	f := newFixture(t)
	if st := f.state(); st.Kept != 0 || len(st.Means) != len(gate.AllMeans()) || len(st.Tables) != len(gate.Scopes()) || !st.Oldest.IsZero() {
		t.Errorf("at first: %+v", st)
	}
	began := f.now()
	for i := range 60 {
		f.try(password("ann", net(i)), false)
	}
	f.advance(time.Second)
	f.mustGetIn(password("ben", net(1)))
	f.open(password("cleo", net(1)))
	for range 31 {
		f.try(password("dan", net(2)), false)
		f.advance(15 * time.Second)
		f.try(enrolment("A1", net(3)), false)
	}
	st := f.state()
	m := st.Means[0]
	if m.Means != gate.Password || m.Attempts != 60+2+31 || m.Right != 1 || m.Attempts != m.Refused+m.Right+m.Wrong+1 || m.Refused < 10 {
		t.Errorf("passwords: %+v", m)
	}
	if st.Held != 1 || !st.Oldest.Equal(began) || st.Kept == 0 || st.Hot || st.Lost != 0 {
		t.Errorf("state %+v", st)
	}
}

// Neither accounts nor addresses are on the disk, and without the key nobody
// is found in the counters; under another one they are no use, are deleted,
// and the ledger says so.
func TestKeyOfTheCounters(t *testing.T) {
	f := newFixture(t)
	for i := range 60 {
		f.try(password("ann-of-the-office", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})), false)
		f.try(enrolment("SERIAL-OF-ONE", netip.MustParseAddr("203.0.113.9")), false)
	}
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(f.dir, "control.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"ann-of-the-office", "SERIAL-OF-ONE", "203.0.113", string([]byte{203, 0, 113, 9}), string(f.key)} {
			if strings.Contains(string(b), what) {
				t.Errorf("%s holds %q", filepath.Base(name), what)
			}
		}
	}
	f.start()
	kept := f.state().Kept
	f.key = binary.BigEndian.AppendUint64(f.key, 7)
	f.restart()
	if st := f.state(); kept == 0 || st.Kept != 0 {
		t.Errorf("%d counters of another key of %d", st.Kept, kept)
	}
	if r := f.records(gate.RecordForgotten); len(r) != 1 || fact(r[0], "counters") != fmt.Sprint(kept) {
		t.Errorf("records %+v", r)
	}
	f.restart()
	if r := f.records(gate.RecordForgotten); len(r) != 1 {
		t.Errorf("%d records of one change of the key", len(r))
	}
}

func TestMissingDependency(t *testing.T) {
	f := newFixture(t)
	whole := f.deps()
	for name, take := range map[string]func(*gate.Deps){
		"Update": func(d *gate.Deps) { d.Update = nil },
		"View":   func(d *gate.Deps) { d.View = nil },
		"Now":    func(d *gate.Deps) { d.Now = nil },
		"Key":    func(d *gate.Deps) { d.Key = d.Key[:31] },
	} {
		d := whole
		take(&d)
		if _, err := gate.New(t.Context(), d); err == nil {
			t.Errorf("a gate without %s opens", name)
		}
	}
	whole.Tell = nil
	if _, err := gate.New(t.Context(), whole); err != nil {
		t.Error(err)
	}
}
