package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// What was read can be trimmed; the numbering goes on, even after the process
// was killed with everything trimmed.
func TestTrimKeepsTheNumbering(t *testing.T) {
	dir := t.TempDir()
	j := open(t, testOptions(dir))
	got := newTally()
	for i := range uint64(20) {
		if err := j.Submit(record(i), got, i); err != nil {
			t.Fatal(err)
		}
		got.wait(t, int(i)+1) // one batch each
	}
	if err := j.Trim(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	if s := j.State(); s.First != 11 || s.Last != 20 {
		t.Fatalf("holds %d to %d, want 11 to 20", s.First, s.Last)
	}
	if b, err := j.Reader(5).Next(t.Context()); err != nil || b.Seq != 11 || b.Missing != 5 {
		t.Errorf("a reader at 5 got %d with %d missing (%v), want 11 with 5", b.Seq, b.Missing, err)
	}
	if err := j.Trim(t.Context(), 1<<40); err != nil {
		t.Fatal(err)
	}
	if s := j.State(); s.First != 20 || s.Last != 20 {
		t.Fatalf("holds %d to %d after trimming all, want the newest", s.First, s.Last)
	}
	copied := filepath.Join(t.TempDir(), "as-after-a-kill")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := open(t, testOptions(copied))
	if s := again.State(); s.Last != 20 || again.Incarnation() != j.Incarnation() {
		t.Errorf("reopened at %d as %s, want 20 as %s", s.Last, again.Incarnation(), j.Incarnation())
	}
	if err := again.Submit(record(99), got, 99); err != nil {
		t.Fatal(err)
	}
	if b, err := again.Reader(20).Next(t.Context()); err != nil || b.Seq != 21 {
		t.Errorf("next batch is %d (%v), want 21", b.Seq, err)
	}
}

// At its limit the journal acknowledges nothing and loses nothing; a Trim
// brings it back by itself.
func TestFullJournalStopsAndRecovers(t *testing.T) {
	opt := testOptions(t.TempDir())
	opt.MaxBytes = 4 << 20
	j := open(t, opt)
	got := newTally()
	rec := make([]byte, 100<<10)
	submitted := 0
	var err error
	for err == nil && submitted < 1000 {
		binary.BigEndian.PutUint64(rec, uint64(submitted))
		if err = j.Submit(rec, got, uint64(submitted)); err == nil {
			submitted++
			got.wait(t, submitted)
			if _, bad := got.counts(); bad > 0 {
				break
			}
		}
	}
	ok, bad := got.wait(t, submitted)
	if ok < 20 || ok > 42 || bad == 0 {
		t.Fatalf("%d records of 100 KB acknowledged and %d not, with room for 41", ok, bad)
	}
	if err := j.Submit(rec, got, 0); !errors.Is(err, ErrFull) || core.KindOf(err) != core.Unavail {
		t.Errorf("submit to a full journal: %v, want ErrFull", err)
	}
	if s := j.State(); !errors.Is(s.Trouble, ErrFull) || s.Bytes > s.MaxBytes || s.Bytes < 2<<20 {
		t.Errorf("state of a full journal: %+v", s)
	}
	for _, err := range got.errs {
		if !errors.Is(err, ErrFull) {
			t.Errorf("a record was failed with %v, want ErrFull", err)
		}
	}
	records, last := readAll(t, j, 0, ok)
	for i, r := range records {
		if binary.BigEndian.Uint64(r) != uint64(i) {
			t.Fatalf("record %d is number %d", i, binary.BigEndian.Uint64(r))
		}
	}
	if err := j.Trim(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	eventually(t, "submit after a trim", func() bool { return j.Submit(rec, got, 77) == nil })
	if ok2, _ := got.wait(t, submitted+1); ok2 != ok+1 {
		t.Errorf("the record after the trim was not acknowledged")
	}
	if s := j.State(); s.Trouble != nil {
		t.Errorf("still in trouble: %v", s.Trouble)
	}
}

// A store that dies under the journal costs the records in flight their
// acknowledgement, and nothing else.
func TestStoreFailureIsHealed(t *testing.T) {
	j := open(t, testOptions(t.TempDir()))
	got := newTally()
	for i := range uint64(50) {
		if err := j.Submit(record(i), got, i); err != nil {
			t.Fatal(err)
		}
	}
	got.wait(t, 50)
	id := j.Incarnation()
	reader := j.Reader(0)
	defer reader.Close()
	if _, err := reader.Next(t.Context()); err != nil {
		t.Fatal(err)
	}

	e, _ := j.current()
	e.home.srv.Shutdown() // as after a fatal error inside
	if err := j.Submit(record(50), got, 50); err != nil {
		t.Fatal(err)
	}
	if ok, bad := got.wait(t, 51); ok != 50 || bad != 1 {
		t.Fatalf("%d acknowledged, %d failed, want 50 and 1", ok, bad)
	}
	if err := got.errs[0]; core.KindOf(err) != core.Unavail {
		t.Errorf("failed with %v, want a passing trouble", err)
	}
	eventually(t, "submit after the store died", func() bool { return j.Submit(record(51), got, 51) == nil })
	if ok, _ := got.wait(t, 52); ok != 51 {
		t.Fatal("not acknowledged after the store came back")
	}
	if j.Incarnation() != id {
		t.Error("the incarnation changed")
	}
	records, _ := readAll(t, j, 0, 51)
	if !bytes.Equal(records[len(records)-1], record(51)) {
		t.Errorf("last record is %q", records[len(records)-1])
	}
	// The reader from before goes on where it was.
	for {
		b, err := reader.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(b.Records); n > 0 && bytes.Equal(b.Records[n-1], record(51)) {
			break
		}
	}
}

// flip changes one byte in the middle of the newest block.
func flip(tb testing.TB, dir string) {
	tb.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		tb.Fatal("no block file", err)
	}
	b, err := os.ReadFile(blocks[len(blocks)-1])
	if err != nil {
		tb.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(blocks[len(blocks)-1], b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// JetStream cuts a damaged block off and numbers on from the cut. That must
// never look like the same journal.
func TestDamagedBlockIsNoticed(t *testing.T) {
	dir := t.TempDir()
	j := open(t, testOptions(dir))
	got := newTally()
	for i := range uint64(50) {
		if err := j.Submit(record(i), got, i); err != nil {
			t.Fatal(err)
		}
		got.wait(t, int(i)+1)
	}
	id := j.Incarnation()
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	flip(t, dir)
	j = open(t, testOptions(dir))
	s := j.State()
	if j.Incarnation() == id || s.Damage == "" || s.Last >= 50 || s.Last < 20 {
		t.Fatalf("opened a damaged journal as %s (was %s), %+v", j.Incarnation(), id, s)
	}
	t.Log(s.Damage)
	// What is left can be read, and it takes records again.
	readAll(t, j, 0, int(s.Last))
	if err := j.Submit(record(99), got, 99); err != nil {
		t.Fatal(err)
	}
	got.wait(t, 51)
	id = j.Incarnation()
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	j = open(t, testOptions(dir))
	if j.Incarnation() != id || j.State().Damage != s.Damage || j.State().Last != s.Last+1 {
		t.Errorf("reopened as %s (was %s), %+v", j.Incarnation(), id, j.State())
	}

	// Damaged under a running journal, it acknowledges nothing more.
	e, _ := j.current()
	e.home.srv.Shutdown()
	e.home.srv.WaitForShutdown()
	flip(t, dir)
	_ = j.Submit(record(100), got, 100)
	eventually(t, "the damage shows", func() bool { return errors.Is(j.State().Trouble, ErrDamaged) })
	if err := j.Submit(record(101), got, 101); !errors.Is(err, ErrDamaged) {
		t.Errorf("submit to a damaged journal: %v", err)
	}
	if ok, _ := got.counts(); ok != 51 {
		t.Errorf("%d acknowledged, want 51", ok)
	}
}
