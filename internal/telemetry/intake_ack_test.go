package telemetry

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/journal"
)

// snap is a completion that copies the journal as it lies on the disk at the
// moment of an acknowledgement: what a power cut right after it would leave.
type snap struct {
	from, to string

	mu     sync.Mutex
	acked  int
	images []string // by number of acknowledgements
	failed error
	done   chan struct{}
}

func (s *snap) Done(_ uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked++
	image := filepath.Join(s.to, fmt.Sprint(s.acked))
	if err == nil {
		err = os.CopyFS(image, os.DirFS(s.from))
	}
	if err != nil {
		s.failed = err
	}
	s.images = append(s.images, image)
	s.done <- struct{}{}
}

// counted opens a copy of a journal and adds up what its refusals count.
func counted(tb testing.TB, dir string, now func() time.Time) (n int) {
	tb.Helper()
	j, err := journal.Open(tb.Context(), journal.Options{Dir: dir, Now: now, MinFreeBytes: -1})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = j.Close(context.Background()) }() // a copy
	last := j.Durable()
	r := j.Reader(0)
	defer r.Close()
	for seq := uint64(0); seq < last; {
		b, err := r.Next(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		seq = b.Seq
		for _, rec := range b.Records {
			var reading Reading
			var f Refusal
			kind, err := DecodeRecord(rec, &reading, &f)
			if err != nil {
				tb.Fatal(err)
			}
			if kind == RecordRefusal {
				n += int(f.Count)
			}
		}
	}
	return n
}

// An acknowledgement means decided and recorded (design, section 5, Messages):
// whatever is not stored is counted on the disk by the time it is acknowledged,
// and the disk of that very moment says so.
func TestWhatIsAcknowledgedIsCounted(t *testing.T) {
	d := newDoor(t)
	unowned := d.in.NewSource(SourceInfo{Device: "B2", Product: "aria-thermostat"})
	old := fmt.Sprintf(`{"t":%d,"mode":"off"}`, testNow.Add(-2*time.Hour).UnixMilli())
	before := fmt.Sprintf(`{"t":%d,"heating_on":true}`, testNow.Add(-21*24*time.Hour).UnixMilli())
	const rounds = 3
	s := &snap{from: d.dir, to: t.TempDir(), done: make(chan struct{}, 100)}
	total := 0
	for range rounds {
		for _, m := range []struct {
			src     *Source
			payload string
			want    Verdict
		}{
			{d.source(), old, Verdict{Drop, ReasonTooOld}},
			{d.source(), before, Verdict{Drop, ReasonBeforeOwner}},
			{unowned, `{"mode":"off"}`, Verdict{Drop, ReasonUnowned}},
			{unowned, `{"mode":"on"}`, Verdict{Drop, ReasonUnowned}},
			{d.source(), `[]`, Verdict{Refuse, ReasonNotObject}},
		} {
			d.want(t, d.in.Message(m.src, []byte("climate"), []byte(m.payload), s, 0), m.want.Action, m.want.Reason)
			d.refuse(t, m.src, m.want.Reason, s)
			total++
		}
	}
	for range total {
		select {
		case <-s.done:
		case <-time.After(30 * time.Second):
			t.Fatal("not everything was acknowledged within 30 s")
		}
	}
	if s.failed != nil {
		t.Fatal(s.failed)
	}
	for i, image := range s.images {
		if n := counted(t, image, d.clock); n < i+1 {
			t.Errorf("after %d acknowledgements the disk counts %d messages", i+1, n)
		}
	}
	if n := counted(t, s.images[total-1], d.clock); n != total {
		t.Errorf("%d are counted in the end, want %d", n, total)
	}
}

// A device that has a thousand messages refused or dropped, 32 at a time, adds
// few records to the journal, and each is acknowledged once.
func TestAWindowSharesRecords(t *testing.T) {
	d := newDoor(t)
	src := d.source()
	old := fmt.Sprintf(`{"t":%d,"mode":"off"}`, testNow.Add(-2*time.Hour).UnixMilli())
	const messages, window = 1000, 32
	room := make(chan struct{}, window)
	tokens := &tokenCount{room: room, seen: make([]int, messages)}
	for i := range messages {
		room <- struct{}{}
		payload, want := old, Verdict{Drop, ReasonTooOld}
		if i%2 == 1 {
			payload, want = `[]`, Verdict{Refuse, ReasonNotObject}
		}
		d.want(t, d.in.Message(src, []byte("climate"), []byte(payload), tokens, uint64(i)), want.Action, want.Reason)
		if err := d.in.Refuse(src, []byte("climate"), want.Reason, tokens, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	for range window {
		select {
		case room <- struct{}{}:
		case <-time.After(30 * time.Second):
			t.Fatal("not everything was acknowledged within 30 s")
		}
	}
	got, records := map[Reason]uint32{}, 0
	for got[ReasonTooOld]+got[ReasonNotObject] < messages {
		f := d.refusal(t)
		got[f.Reason] += f.Count
		records++
	}
	t.Logf("%d messages, %d at a time: %d records", messages, window, records)
	if got[ReasonTooOld] != messages/2 || got[ReasonNotObject] != messages/2 || records > messages/4 {
		t.Errorf("recorded %v in %d records", got, records)
	}
	tokens.mu.Lock()
	defer tokens.mu.Unlock()
	if tokens.failed != nil {
		t.Error(tokens.failed)
	}
	for i, n := range tokens.seen {
		if n != 1 {
			t.Errorf("message %d was acknowledged %d times", i, n)
		}
	}
}

// tokenCount frees a place of the window for each acknowledgement.
type tokenCount struct {
	room chan struct{}

	mu     sync.Mutex
	seen   []int
	failed error
}

func (c *tokenCount) Done(token uint64, err error) {
	c.mu.Lock()
	c.seen[token]++
	if err != nil {
		c.failed = err
	}
	c.mu.Unlock()
	<-c.room
}

// dam is a journal whose word that a record is on disk can be held back, and
// that can be made to take nothing.
type dam struct {
	*journal.Journal

	mu   sync.Mutex
	shut error
	held []func()
}

type dammed struct {
	d     *dam
	c     Completion
	token uint64
}

func (x dammed) Done(_ uint64, err error) {
	x.d.mu.Lock()
	defer x.d.mu.Unlock()
	x.d.held = append(x.d.held, func() { x.c.Done(x.token, err) })
}

func (d *dam) Submit(rec []byte, c Completion, token uint64) error {
	d.mu.Lock()
	shut := d.shut
	d.mu.Unlock()
	if shut != nil || c == nil {
		return shut
	}
	return d.Journal.Submit(rec, dammed{d, c, token}, token)
}

// release passes on one word that was held back.
func (d *dam) release(tb testing.TB) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		d.mu.Lock()
		var f func()
		if len(d.held) > 0 {
			f, d.held = d.held[0], d.held[1:]
		}
		d.mu.Unlock()
		if f != nil {
			f()
			return
		}
	}
	tb.Fatal("the journal says nothing")
}

// What comes while a record of its kind is on its way joins the next one; when
// the journal takes that no more, none of it is acknowledged, and what is sent
// again is counted once.
func TestWhatGathersIsAcknowledgedOrComesAgain(t *testing.T) {
	d := newDoor(t)
	j := &dam{Journal: d.journal}
	in, err := NewIntake(IntakeDeps{Keys: d, Journal: j, Now: d.clock})
	if err != nil {
		t.Fatal(err)
	}
	d.in = in
	in.SetPlan(testPlan(t))
	src, done := d.source(), newAcks()
	send := func(n int) {
		t.Helper()
		for range n {
			d.want(t, in.Message(src, []byte("climate"), []byte(`[]`), done, 0), Refuse, ReasonNotObject)
			d.refuse(t, src, ReasonNotObject, done)
		}
	}
	none := func(int) bool { return false }
	acks := func(n int, failed func(int) bool) {
		t.Helper()
		for i := range n {
			select {
			case err := <-done.ch:
				if (err != nil) != failed(i) {
					t.Fatalf("message %d was acknowledged with %v", i, err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("no word within 20 s")
			}
		}
		done.none(t)
	}
	records := func(want ...uint32) {
		t.Helper()
		for _, n := range want {
			if f := d.refusal(t); f.Count != n {
				t.Errorf("a record counts %d, want %d", f.Count, n)
			}
		}
	}

	send(1) // goes at once
	send(5) // gather
	done.none(t)
	j.release(t)
	acks(1, none)
	j.release(t)
	acks(5, none)
	records(1, 5)

	send(1)
	send(4)
	j.mu.Lock()
	j.shut = journal.ErrFull
	j.mu.Unlock()
	j.release(t)
	acks(5, func(i int) bool { return i > 0 })
	if err := in.Refuse(src, []byte("climate"), ReasonNotObject, done, 0); err != journal.ErrFull {
		t.Fatalf("a full journal: %v", err)
	}
	done.none(t)
	j.mu.Lock()
	j.shut = nil
	j.mu.Unlock()
	send(1)
	j.release(t)
	acks(1, none)
	records(1, 1)

	// What nobody waits for when the session ends goes out behind what flies.
	send(1)
	d.refuse(t, src, ReasonNotObject, nil)
	src.Close()
	j.release(t)
	acks(1, none)
	records(1, 1)
}

// gate is a journal that takes its time.
type gate struct {
	*journal.Journal
	entered, leave chan struct{}
}

func (g *gate) Submit(rec []byte, c Completion, token uint64) error {
	close(g.entered)
	<-g.leave
	return g.Journal.Submit(rec, c, token)
}

// Quiesce returns when what was sealed before is with the journal, so that
// nothing of a subject comes after its retirement and a barrier.
func TestQuiesceWaitsForWhatIsSealed(t *testing.T) {
	d := newDoor(t)
	g := &gate{d.journal, make(chan struct{}), make(chan struct{})}
	in, err := NewIntake(IntakeDeps{Keys: d, Journal: g, Now: d.clock})
	if err != nil {
		t.Fatal(err)
	}
	d.in = in
	in.SetPlan(testPlan(t))
	in.Quiesce() // nothing is under way
	src, done := d.source(), newAcks()
	go in.Message(src, []byte("climate"), []byte(`{"mode":"off"}`), done, 0)
	<-g.entered
	d.keys.Retire(d.subject)
	quiet := make(chan struct{})
	go func() { in.Quiesce(); close(quiet) }()
	select {
	case <-quiet:
		t.Fatal("a message is sealed and the journal has not got it")
	case <-time.After(100 * time.Millisecond):
	}
	close(g.leave)
	select {
	case <-quiet:
	case <-time.After(20 * time.Second):
		t.Fatal("not quiet after 20 s")
	}
	done.wait(t)
	d.want(t, in.Message(d.source(), []byte("climate"), []byte(`{"mode":"off"}`), done, 0), Drop, ReasonUnowned)
}
