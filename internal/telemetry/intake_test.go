package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/journal"
	"github.com/hawser-iot/hawser/internal/kms"
	"github.com/hawser-iot/hawser/internal/seal"
)

// door is an intake on a real keyring and a real journal.
type door struct {
	in      *Intake
	keys    *seal.Keyring
	journal *journal.Journal
	dir     string // of the journal
	ensured atomic.Int64
	now     atomic.Int64 // Unix milliseconds
	subject core.Subject
	reader  *journal.Reader
	unread  [][]byte
}

func (d *door) Lease(s core.Subject, e core.Epoch) (*seal.Key, error) { return d.keys.Lease(s, e) }

func (d *door) EnsureEpoch(ctx context.Context, e core.Epoch) error {
	d.ensured.Add(1)
	return d.keys.EnsureEpoch(ctx, e)
}

func (d *door) clock() time.Time { return time.UnixMilli(d.now.Load()).UTC() }

func newDoor(tb testing.TB) *door {
	tb.Helper()
	dir := tb.TempDir()
	d := &door{dir: filepath.Join(dir, "journal"), subject: core.Subject{1, 2, 3}}
	d.now.Store(testNow.UnixMilli())
	roots, err := kms.OpenFile(kms.FileOptions{Dir: filepath.Join(dir, "root")})
	if err != nil {
		tb.Fatal(err)
	}
	d.keys, err = seal.Create(tb.Context(), seal.Options{
		Copies: []string{filepath.Join(dir, "a", "keyring"), filepath.Join(dir, "b", "keyring")}, Roots: roots, Now: d.clock,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.keys.Close() })
	if err := d.keys.AddSubject(tb.Context(), d.subject); err != nil {
		tb.Fatal(err)
	}
	d.journal, err = journal.Open(tb.Context(), journal.Options{Dir: d.dir, Now: d.clock, MinFreeBytes: -1, MaxBytes: 1 << 30})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = d.journal.Close(context.Background()) })
	d.in, err = NewIntake(IntakeDeps{Keys: d, Journal: d.journal, Now: d.clock})
	if err != nil {
		tb.Fatal(err)
	}
	d.in.SetPlan(testPlan(tb))
	d.reader = d.journal.Reader(0)
	tb.Cleanup(d.reader.Close)
	return d
}

func (d *door) source() *Source {
	return d.in.NewSource(SourceInfo{
		Device: "A1", Product: "aria-thermostat", Subject: d.subject,
		OwnedSince: testNow.Add(-20 * 24 * time.Hour), Sender: Sender{15: 7},
	})
}

// acks is a completion that says when a token was done.
type acks struct{ ch chan error }

func newAcks() *acks                     { return &acks{make(chan error, 100_000)} }
func (a *acks) Done(_ uint64, err error) { a.ch <- err }

func (a *acks) wait(tb testing.TB) {
	tb.Helper()
	select {
	case err := <-a.ch:
		if err != nil {
			tb.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		tb.Fatal("no acknowledgement within 20 s")
	}
}

// none fails if anything is acknowledged.
func (a *acks) none(tb testing.TB) {
	tb.Helper()
	select {
	case err := <-a.ch:
		tb.Fatalf("an acknowledgement (%v) where none must come", err)
	default:
	}
}

// next reads one record of the journal.
func (d *door) next(tb testing.TB) (kind RecordType, r Reading, f Refusal) {
	tb.Helper()
	for len(d.unread) == 0 {
		ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
		defer cancel()
		b, err := d.reader.Next(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		for _, rec := range b.Records {
			d.unread = append(d.unread, bytes.Clone(rec))
		}
	}
	kind, err := DecodeRecord(d.unread[0], &r, &f)
	if err != nil {
		tb.Fatal(err)
	}
	d.unread = d.unread[1:]
	return kind, r, f
}

// reading reads one record, which must be a reading, and opens its parts.
func (d *door) reading(tb testing.TB) (Reading, []string) {
	tb.Helper()
	kind, r, f := d.next(tb)
	if kind != RecordReading {
		tb.Fatalf("a record of type %d (%+v), want a reading", kind, f)
	}
	var plain []string
	for i := range r.Parts {
		key, err := d.keys.Lease(r.Subject, r.Parts[i].Epoch)
		if err != nil {
			tb.Fatal(err)
		}
		b, err := key.Open(nil, r.Parts[i].Sealed, AppendAAD(nil, &r, &r.Parts[i]))
		if err != nil {
			tb.Fatal(err)
		}
		sender, object, err := CutPlain(b)
		if err != nil || sender != (Sender{15: 7}) {
			tb.Fatalf("a part of sender %x, %v", sender, err)
		}
		plain = append(plain, fmt.Sprintf("%d%s", r.Parts[i].Group, object))
	}
	return r, plain
}

func (d *door) refusal(tb testing.TB) Refusal {
	tb.Helper()
	kind, r, f := d.next(tb)
	if kind != RecordRefusal {
		tb.Fatalf("a record of type %d (%+v), want a refusal", kind, r)
	}
	return f
}

// refuse records a message of climate that was not stored.
func (d *door) refuse(tb testing.TB, src *Source, r Reason, c Completion) {
	tb.Helper()
	if err := d.in.Refuse(src, []byte("climate"), r, c, 0); err != nil {
		tb.Fatal(err)
	}
}

func (d *door) want(tb testing.TB, got Verdict, action Action, why Reason) {
	tb.Helper()
	if got != (Verdict{action, why}) {
		tb.Fatalf("verdict %+v, want %+v", got, Verdict{action, why})
	}
}

// From payload to sealed record and back: everything as declared, nothing else.
func TestMessageIsSealedAndRecorded(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`{"t":1795341599000,"boot":3,"seq":9,"room_temperature":21.44,"label":"K","mode":"off","gps":"52.3702","starts":"x"}`), done, 1), Pending, "")
	done.wait(t)
	r, parts := d.reading(t)
	if got, want := strings.Join(parts, " "), `0{"room_temperature":21.4} 1{"mode":"off"} 2{"label":"K"}`; got != want {
		t.Errorf("stored %s\nwant   %s", got, want)
	}
	if r.Product != "aria-thermostat" || r.Subject != d.subject || r.Stream != "climate" ||
		r.Policy != (core.Hash{1, 2, 3}) || r.T != 1795341599000 || r.Received != testNow.UnixMilli() ||
		!r.HasSeq || r.Boot != 3 || r.Seq != 9 || r.Flags != 0 || r.Dropped != 2 || r.Gateway == [8]byte{} {
		t.Errorf("record %+v", r)
	}
	// Moved to another counter, time or group, a part does not open.
	for name, edit := range map[string]func(*Reading, *Part){
		"counter": func(r *Reading, _ *Part) { r.Counter++ },
		"time":    func(r *Reading, _ *Part) { r.T++ },
		"group":   func(_ *Reading, p *Part) { p.Group++ },
	} {
		moved, part := r, r.Parts[0]
		edit(&moved, &part)
		key, err := d.keys.Lease(r.Subject, r.Parts[0].Epoch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Open(nil, part.Sealed, AppendAAD(nil, &moved, &part)); err == nil {
			t.Errorf("opened with another %s", name)
		}
	}
	c := d.in.Counters()
	if c.Accepted != 1 || c.Parts != 3 || c.UndeclaredFields != 1 || c.BadFields != 1 || c.WrongClock != 0 || len(c.Refused)+len(c.Dropped) != 0 {
		t.Errorf("counted %+v", c)
	}
	if f := d.in.Undeclared(); len(f) != 1 || strings.Join(f[0].Names, " ") != "gps" || f[0].Stream != "climate" || !f[0].First.Equal(testNow) {
		t.Errorf("findings %+v", f)
	}

	// No time: that of receipt, flagged. No number: none is made up here.
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`{"mode":"off"}`), done, 2), Pending, "")
	done.wait(t)
	first := r.Counter
	if r, _ = d.reading(t); r.T != testNow.UnixMilli() || r.Flags != FlagWrongClock || r.HasSeq || r.Counter == first {
		t.Errorf("record %+v", r)
	}
}

// CC 4.4: what is past its keep-time on arrival is not stored, part by part.
func TestOldReadingsAreDropped(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	at := func(before time.Duration) string {
		return fmt.Sprintf(`{"t":%d,"heating_on":true,"mode":"off","starts":1}`, testNow.Add(-before).UnixMilli())
	}
	const day = 24 * time.Hour
	// The group kept for an hour goes, the one kept for 30 days stays.
	d.want(t, d.in.Message(src, []byte("climate"), []byte(at(2*time.Hour)), done, 0), Pending, "")
	done.wait(t)
	r, parts := d.reading(t)
	if strings.Join(parts, " ") != `0{"heating_on":true}` || r.Dropped != 2 {
		t.Errorf("stored %v, %d dropped", parts, r.Dropped)
	}
	if n := d.in.Counters().OldFields; n != 2 {
		t.Errorf("counted %d old fields, want 2", n)
	}
	// Nothing but what is too old.
	d.want(t, d.in.Message(src, []byte("climate"), fmt.Appendf(nil, `{"t":%d,"mode":"off"}`, testNow.Add(-2*time.Hour).UnixMilli()), done, 0), Drop, ReasonTooOld)
	d.refuse(t, src, ReasonTooOld, done)
	done.wait(t)
	if f := d.refusal(t); f.Reason != ReasonTooOld || f.Count != 1 || f.Stream != "climate" || f.Subject != d.subject {
		t.Errorf("recorded %+v", f)
	}
	// At the edge of one hour: the epoch of five minutes decides.
	edge := core.EpochAt(time.Hour, 5*time.Minute, testNow.Add(-55*time.Minute))
	for _, c := range []struct {
		t    time.Time
		kept bool
	}{{time.Unix(edge.Start, 0), true}, {time.Unix(edge.Start, 0).Add(-time.Millisecond), false}} {
		v := d.in.Message(src, []byte("climate"), fmt.Appendf(nil, `{"t":%d,"mode":"off"}`, c.t.UnixMilli()), done, 0)
		if (v.Action == Pending) != c.kept {
			t.Errorf("t %s at %s: %+v", c.t, testNow, v)
		}
	}
	done.wait(t)
	// Before this owner's time, though young enough for the keep-time.
	d.want(t, d.in.Message(src, []byte("climate"), []byte(at(20*day+time.Second)), done, 0), Drop, ReasonBeforeOwner)
	d.want(t, d.in.Message(src, []byte("climate"), []byte(at(20*day)), done, 0), Pending, "")
	done.wait(t)
	done.none(t)
}

// A key that was destroyed is never made again: what comes for its epoch before
// it is due is not acknowledged, what comes for an erased subject is nobody's.
func TestDestroyedKeysStayDestroyed(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	payload := []byte(`{"heating_on":true}`)
	d.want(t, d.in.Message(src, []byte("climate"), payload, done, 0), Pending, "")
	done.wait(t)
	r, _ := d.reading(t)

	if _, err := d.keys.Shred(t.Context(), seal.Order{Epochs: []core.Epoch{r.Parts[0].Epoch}}); err != nil {
		t.Fatal(err)
	}
	// It was destroyed before its time: the server's clock stood later once.
	// By its own time the message is not too old, so it must not be lost.
	d.want(t, d.in.Message(src, []byte("climate"), payload, done, 0), Trouble, ReasonTrouble)
	done.none(t)
	if c := d.in.Counters(); c.Trouble != 1 || c.OldFields != 0 || c.Dropped[ReasonTooOld] != 0 {
		t.Errorf("counted %+v", c)
	}

	d.now.Add(25 * 3600 * 1000)
	d.want(t, d.in.Message(src, []byte("climate"), payload, done, 0), Pending, "")
	done.wait(t)
	d.reading(t)
	if _, err := d.keys.Shred(t.Context(), seal.Order{Subjects: []core.Subject{d.subject}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.want(t, d.in.Message(src, []byte("climate"), payload, done, 0), Drop, ReasonUnowned)
		d.refuse(t, src, ReasonUnowned, nil)
	}
	if d.keys.Has(d.subject) {
		t.Error("an erased subject has a key again")
	}
	done.none(t)
	src.Close()
	total := uint32(0)
	for total < 3 {
		f := d.refusal(t)
		if f.Reason != ReasonUnowned {
			t.Fatalf("recorded %+v", f)
		}
		total += f.Count
	}
	if n := d.in.Counters().Dropped[ReasonUnowned]; n != 3 || total != 3 {
		t.Errorf("counted %d and recorded %d, want 3", n, total)
	}
}

func TestUnownedDeviceIsAcknowledgedAndNotStored(t *testing.T) {
	d := newDoor(t)
	src := d.in.NewSource(SourceInfo{Device: "B2", Product: "aria-thermostat"})
	done := newAcks()
	for _, payload := range []string{`{"mode":"off"}`, `not json`} {
		d.want(t, d.in.Message(src, []byte("climate"), []byte(payload), done, 0), Drop, ReasonUnowned)
		d.refuse(t, src, ReasonUnowned, nil)
	}
	src.Close()
	if f := d.refusal(t); f.Reason != ReasonUnowned || !f.Subject.IsZero() || f.Count != 1 {
		t.Errorf("recorded %+v", f)
	}
	if f := d.refusal(t); f.Reason != ReasonUnowned || f.Count != 1 {
		t.Errorf("recorded %+v", f)
	}
	done.none(t)
}

// Our own trouble is never acknowledged, and is no refusal either.
func TestTroubleIsNeitherAckNorRefusal(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	if err := d.journal.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`{"mode":"off"}`), done, 0), Trouble, ReasonTrouble)
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`nonsense`), done, 0), Refuse, ReasonNotJSON)
	if err := d.in.Refuse(src, []byte("climate"), ReasonNotJSON, done, 0); core.KindOf(err) != core.Unavail {
		t.Errorf("a refusal that cannot be recorded: %v, want trouble", err)
	}
	src.Close()
	done.none(t)
	if c := d.in.Counters(); c.Trouble != 2 || c.Accepted != 0 {
		t.Errorf("counted %+v", c)
	}
}

// Keys of epochs to come are made before they begin; without Prepare the first
// message makes its own, once.
func TestPrepareKeepsMessagesFromWaiting(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`{"heating_on":true,"mode":"off"}`), done, 0), Pending, "")
	if n := d.ensured.Load(); n != 2 {
		t.Errorf("%d epochs made for a message of two keep-times, want 2", n)
	}
	if err := d.in.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := d.ensured.Load()
	for range 15 { // a quarter of an hour of messages, some from clocks that are ahead
		d.want(t, d.in.Message(src, []byte("climate"), fmt.Appendf(nil, `{"t":%d,"heating_on":true,"mode":"off"}`, d.now.Load()), done, 0), Pending, "")
		d.now.Add(60_000)
	}
	if n := d.ensured.Load() - before; n != 0 {
		t.Errorf("%d messages had to make an epoch's key after Prepare", n)
	}
	for range 16 {
		done.wait(t)
	}
}

func TestPublishedPlanReachesSessions(t *testing.T) {
	d := newDoor(t)
	src, done := d.source(), newAcks()
	p := testPolicy()
	p.Hash = core.Hash{9}
	p.Fields[0].Name = "heating"
	plan, err := NewPlan(p, testDeclared)
	if err != nil {
		t.Fatal(err)
	}
	d.in.SetPlan(plan)
	d.want(t, d.in.Message(src, []byte("climate"), []byte(`{"heating":true,"heating_on":true}`), done, 0), Pending, "")
	done.wait(t)
	if r, parts := d.reading(t); r.Policy != (core.Hash{9}) || strings.Join(parts, "") != `0{"heating":true}` {
		t.Errorf("stored %v under %s", parts, r.Policy)
	}
	stranger := d.in.NewSource(SourceInfo{Product: "other", Subject: d.subject})
	d.want(t, d.in.Message(stranger, []byte("climate"), []byte(`{"mode":"off"}`), done, 0), Refuse, ReasonNoPlan)
}

// CC 5.9: what no declaration names is a finding, the first time.
func TestFindingsAreFewAndTame(t *testing.T) {
	d := newDoor(t)
	src := d.source()
	for i := range 100 {
		d.in.Message(src, []byte("climate"), fmt.Appendf(nil, `{"mode":"off","lat_52.37%d":1}`, i%10), nil, 0)
		d.in.Message(src, []byte("climate"), fmt.Appendf(nil, `{"mode":"off","%s":1}`, strings.Repeat("x", 1+i)), nil, 0)
	}
	f := d.in.Undeclared()
	if len(f) != 1 || len(f[0].Names) != MaxUndeclaredNames {
		t.Fatalf("%+v, want %d names", f, MaxUndeclaredNames)
	}
	for _, x := range f[0].Names {
		if strings.ContainsAny(x, "0123456789.") || len(x) > maxUndeclaredName {
			t.Errorf("finding %q", x)
		}
	}
}

func TestManySessions(t *testing.T) {
	d := newDoor(t)
	const sessions, each = 8, 500
	done := newAcks()
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() {
			src := d.source()
			defer src.Close()
			for n := range each {
				v := d.in.Message(src, []byte("climate"), fmt.Appendf(nil, `{"boot":%d,"seq":%d,"heating_on":true,"x":1}`, i, n), done, 0)
				if v.Action != Pending {
					t.Errorf("%+v", v)
				}
			}
		})
	}
	for range 20 {
		d.in.SetPlan(testPlan(t))
		_ = d.in.Counters()
		_ = d.in.Undeclared()
		if err := d.in.Prepare(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	type name struct {
		gateway [8]byte
		counter uint64
	}
	names, next := map[name]bool{}, map[uint64]uint64{}
	for range sessions * each {
		done.wait(t)
		r, _ := d.reading(t)
		names[name{r.Gateway, r.Counter}] = true
		if r.Seq != next[r.Boot] {
			t.Fatalf("session %d: number %d where %d was due", r.Boot, r.Seq, next[r.Boot])
		}
		next[r.Boot]++
	}
	if len(names) != sessions*each {
		t.Errorf("%d names for %d readings", len(names), sessions*each)
	}
}

func TestNewIntakeNeedsItsParts(t *testing.T) {
	d := newDoor(t)
	for name, deps := range map[string]IntakeDeps{
		"keys":    {Journal: d.journal, Now: d.clock},
		"journal": {Keys: d, Now: d.clock},
		"clock":   {Keys: d, Journal: d.journal},
	} {
		if _, err := NewIntake(deps); err == nil {
			t.Errorf("without %s: accepted", name)
		}
	}
}

// BenchmarkMessage is judging, sealing and handing over, with the journal
// committing behind it, from one session with 1,000 messages in flight.
func BenchmarkMessage(b *testing.B) {
	for name, payload := range map[string]string{
		"1-group":             `{"t":1795341599000,"boot":3,"seq":91,"room_temperature":21.44,"set_point":20.5,"humidity":48.3,"heating_on":true}`,
		"3-groups-12-members": benchPayload,
	} {
		b.Run(name, func(b *testing.B) {
			d := newDoor(b)
			src := d.source()
			c := freeing{make(chan struct{}, 1000)}
			cpu, start := cpuTime(b), time.Now()
			b.ReportAllocs()
			for b.Loop() {
				c.window <- struct{}{}
				if v := d.in.Message(src, []byte("climate"), []byte(payload), c, 0); v.Action != Pending {
					b.Fatal(v)
				}
			}
			b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "messages/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/1e3/float64(b.N), "cpu-µs/message")
		})
	}
}

type freeing struct{ window chan struct{} }

func (f freeing) Done(uint64, error) { <-f.window }

// cpuTime is the processor time that this process has used.
func cpuTime(tb testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
