package verify_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
	"github.com/hawser-iot/hawser/internal/store"
)

// Entries of the scene's two origins, and where checkpoints were taken.
const (
	firstSize  = 40
	lostSize   = 60
	middleSize = 150
	lastSize   = 320
)

// scene is a real ledger with a restore in its past: what it exports, and what
// others had kept of it.
type scene struct {
	model
	export  []byte // the whole, now
	older   []byte // an honest export from before the last entries
	key     ed25519.PrivateKey
	pinned  string
	oldNote []byte // signed in the first origin, within what is left of it
	lost    []byte // signed in the first origin, within what was lost
	middle  []byte // signed in the second origin, before its end
}

func newScene(t testing.TB) scene {
	t.Helper()
	home := t.TempDir()
	st, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(home, "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	key, err := ledger.CreateKey(filepath.Join(home, "key"))
	if err != nil {
		t.Fatal(err)
	}
	d := ledger.Deps{
		Update: func(ctx context.Context, fn func(ledger.Tx) error) error {
			return st.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(ledger.Tx) error) error {
			return st.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Key: key, CheckpointFile: filepath.Join(home, "checkpoint"), Name: "hawser/scene", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	by := core.Job("scene")
	l, err := ledger.Create(t.Context(), d, by)
	if err != nil {
		t.Fatal(err)
	}
	s := scene{key: readKey(t, filepath.Join(home, "key"))}
	s.oldNote = grow(t, st, l, 29)
	grow(t, st, l, firstSize-30)
	// A later checkpoint whose entries the restored database does not have.
	first := l.Latest()
	s.lost = []byte(sign(t, s.key, first.Origin, lostSize, tlog.Hash{7}))
	if l, err = ledger.NewOrigin(t.Context(), withCheckpoint(t, d, s.lost), by, "the disk died; restored from the backup of the night"); err != nil {
		t.Fatal(err)
	}
	s.middle = grow(t, st, l, middleSize-1)
	s.older = exportOf(t, l)
	grow(t, st, l, lastSize-middleSize)
	s.export = exportOf(t, l)
	s.model = parseModel(t, s.export)
	s.pinned = l.VerifierKey()
	return s
}

func grow(t testing.TB, st *store.Store, l *ledger.Ledger, n int) []byte {
	t.Helper()
	err := st.Update(t.Context(), func(tx *store.Tx) error {
		for i := range n {
			err := tx.Record(t.Context(), core.Record{
				Time: time.Unix(1800000000, 0), Kind: "thing-done", Actor: core.Job("scene"),
				Facts: []core.Fact{{Name: "n", Value: fmt.Sprint(i)}, {Name: "say", Value: "tab\t \"quoted\" é \x01"}},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Sequence(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Note
}

func exportOf(t testing.TB, l *ledger.Ledger) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func withCheckpoint(t testing.TB, d ledger.Deps, note []byte) ledger.Deps {
	t.Helper()
	d.CheckpointFile = filepath.Join(t.TempDir(), "checkpoint")
	writeFile(t, d.CheckpointFile, note)
	return d
}

func check(t testing.TB, export []byte, o verify.Options) verify.Report {
	t.Helper()
	r, err := verify.Log(bytes.NewReader(export), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestHonestIsAccepted is the positive control of the adversaries: with each
// degree of trust, the untouched export has no fault and the right standing.
func TestHonestIsAccepted(t *testing.T) {
	s := newScene(t)
	if got := s.render(); !bytes.Equal(got, s.export) {
		t.Fatal("the model does not write what Export writes: the adversaries below would prove nothing")
	}
	for _, c := range []struct {
		name   string
		o      verify.Options
		want   verify.Standing
		pinned bool
	}{
		{"nothing", verify.Options{}, verify.SelfConsistent, false},
		{"key", verify.Options{Keys: []string{s.pinned}}, verify.SelfConsistent, true},
		{"first origin", verify.Options{Keys: []string{s.pinned}, Earlier: s.oldNote}, verify.Proved, true},
		{"second origin", verify.Options{Keys: []string{s.pinned}, Earlier: s.middle}, verify.Proved, true},
		{"unpinned", verify.Options{Earlier: s.middle}, verify.Proved, false},
		{"the very end", verify.Options{Earlier: []byte(s.last().notes[0])}, verify.Proved, false},
		{"declared lost", verify.Options{Keys: []string{s.pinned}, Earlier: s.lost}, verify.DeclaredLost, true},
	} {
		r := check(t, s.export, c.o)
		if !r.OK() || r.Standing != c.want || r.Pinned != c.pinned {
			t.Errorf("%s: standing %q, pinned %v, faults %v; want %q, %v, none", c.name, r.Standing, r.Pinned, r.Faults, c.want, c.pinned)
		}
		if r.Entries != firstSize+lastSize || len(r.Origins) != 2 || r.Witnessed() != verify.Unwitnessed {
			t.Errorf("%s: %d entries, %d origins, %s", c.name, r.Entries, len(r.Origins), r.Witnessed())
		}
		if len(r.Losses) != 1 || r.Losses[0].Kept != firstSize || r.Losses[0].Signed != lostSize || !strings.Contains(r.Losses[0].Said, "disk died") {
			t.Errorf("%s: losses %+v", c.name, r.Losses)
		}
	}
	if r := check(t, s.older, verify.Options{Earlier: s.middle}); !r.OK() || r.Standing != verify.Proved {
		t.Errorf("older export: %v", r.Faults)
	}
}

// TestAdversaries changes an export in thousands of ways and expects every
// change to be found (mission row 3.3).
func TestAdversaries(t *testing.T) {
	s := newScene(t)
	stolen := s.key
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	outside := verify.Options{Keys: []string{s.pinned}}
	earlier := verify.Options{Keys: []string{s.pinned}, Earlier: s.middle}
	rng := rand.New(rand.NewPCG(1, 2))

	type adversary struct {
		name  string
		trust verify.Options
		cases int
		make  func(m *model) []byte // nil when it changed nothing
	}
	// What one can do to the entries of the last origin.
	edit := func(o *origin, below int) {
		i := rng.IntN(below)
		o.leaves[i] = strings.Replace(o.leaves[i], `"time":"20`, `"time":"19`, 1)
	}
	remove := func(o *origin, below int) {
		i := rng.IntN(below)
		o.leaves = slices.Delete(o.leaves, i, i+1)
	}
	insert := func(o *origin, below int) {
		i := rng.IntN(below)
		o.leaves = slices.Insert(o.leaves, i, o.leaves[rng.IntN(len(o.leaves))])
	}
	swap := func(o *origin, below int) {
		i, j := rng.IntN(below), rng.IntN(below)
		for o.leaves[i] == o.leaves[j] {
			i, j = rng.IntN(below), rng.IntN(below)
		}
		o.leaves[i], o.leaves[j] = o.leaves[j], o.leaves[i]
	}
	cut := func(o *origin, below int) { o.leaves = o.leaves[:rng.IntN(below)+1] }
	acts := []struct {
		name string
		do   func(*origin, int)
	}{{"edit", edit}, {"delete", remove}, {"insert", insert}, {"swap", swap}, {"cut tail", cut}}

	adversaries := []adversary{
		{"one byte of the file", outside, 800, func(m *model) []byte {
			b := m.render()
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			return b
		}},
		{"a line removed", outside, 150, func(m *model) []byte {
			lines := bytes.SplitAfter(m.render(), []byte("\n"))
			i := rng.IntN(len(lines) - 1)
			return bytes.Join(slices.Delete(lines, i, i+1), nil)
		}},
		{"a line doubled or moved", outside, 150, func(m *model) []byte {
			lines := bytes.SplitAfter(m.render(), []byte("\n"))
			lines = lines[:len(lines)-1]
			i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
			return bytes.Join(slices.Insert(lines, i, lines[j]), nil)
		}},
		{"file cut", outside, 150, func(m *model) []byte {
			b := m.render()
			return b[:rng.IntN(len(b))]
		}},
		{"signed by another key", outside, 50, func(m *model) []byte {
			edit(m.last(), len(m.last().leaves))
			m.last().resign(t, other)
			return m.render()
		}},
		{"first origin left out", outside, 1, func(m *model) []byte {
			m.origins = m.origins[1:]
			return m.render()
		}},
		{"last origin left out", earlier, 1, func(m *model) []byte {
			m.origins = m.origins[:1]
			return m.render()
		}},
		{"an older export", verify.Options{Keys: []string{s.pinned}, Earlier: []byte(s.last().notes[0])}, 1, func(*model) []byte { return s.older }},
		{"a smaller loss declared", verify.Options{Keys: []string{s.pinned}, Earlier: []byte(sign(t, stolen, s.origins[0].name, lostSize+1, tlog.Hash{9}))}, 1, func(m *model) []byte { return m.render() }},
		{"another tree lost than declared", verify.Options{Keys: []string{s.pinned}, Earlier: []byte(sign(t, stolen, s.origins[0].name, lostSize, tlog.Hash{9}))}, 1, func(m *model) []byte { return m.render() }},
		{"first origin rewritten, key stolen", outside, 50, func(m *model) []byte {
			o := &m.origins[0]
			acts[rng.IntN(len(acts))].do(o, len(o.leaves)-1)
			o.resign(t, stolen)
			return m.render()
		}},
	}
	for _, a := range acts {
		adversaries = append(adversaries, adversary{a.name, outside, 60, func(m *model) []byte {
			o := m.last()
			n := len(o.leaves)
			a.do(o, n-1)
			o.hashes = append(o.hashes, o.hashes...)[:len(o.leaves)] // stored hashes stay as they were
			return m.render()
		}}, adversary{a.name + ", hashes too", outside, 60, func(m *model) []byte {
			a.do(m.last(), len(m.last().leaves)-1)
			m.last().rehash(t)
			return m.render()
		}}, adversary{a.name + ", key stolen", earlier, 60, func(m *model) []byte {
			a.do(m.last(), middleSize-1)
			m.last().resign(t, stolen)
			return m.render()
		}})
	}
	total := 0
	for _, a := range adversaries {
		for range a.cases {
			m := s.clone()
			b := a.make(&m)
			if bytes.Equal(b, s.export) && a.cases > 1 {
				t.Fatalf("%s: changed nothing", a.name)
			}
			total++
			r, err := verify.Log(bytes.NewReader(b), a.trust)
			if err != nil {
				t.Fatal(err)
			}
			if r.OK() || r.Standing != verify.Refuted {
				t.Errorf("%s: accepted, standing %q", a.name, r.Standing)
			}
		}
	}
	t.Logf("%d changed exports, all found", total)
	if total < 2000 {
		t.Errorf("%d cases, want 2000", total)
	}
}

// BenchmarkLog verifies an export.
func BenchmarkLog(b *testing.B) {
	s := newScene(b)
	o := verify.Options{Keys: []string{s.pinned}, Earlier: s.middle}
	b.SetBytes(int64(len(s.export)))
	n := 0
	for b.Loop() {
		n += int(check(b, s.export, o).Entries)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
}
