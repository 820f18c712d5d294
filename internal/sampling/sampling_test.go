package sampling_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/store"
)

var (
	dawn     = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	assessor = core.Actor{Kind: core.ActorStaff, ID: "passessoraaaa"}
	founder  = core.Actor{Kind: core.ActorStaff, ID: "pfounderaaaaa"}
	nonce    = []byte("sixteen bytes :-")
)

// pool is a population, and what was asked of it.
type pool struct {
	ids   []string
	asked []sampling.Request
}

func (p *pool) Population(_ context.Context, q sampling.Request, _ []byte) ([]string, error) {
	p.asked = append(p.asked, q)
	return slices.Clone(p.ids), nil
}

func (p *pool) Items(_ context.Context, s sampling.Sampling) (out []sampling.Item, _ error) {
	for _, id := range s.Drawn {
		out = append(out, sampling.Item{ID: id, Gone: !slices.Contains(p.ids, id)})
	}
	return out, nil
}

type world struct {
	*sampling.Service
	store *store.Store
	pool  pool
	now   time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test is over
	w := &world{store: s, now: dawn}
	for i := range 1000 {
		w.pool.ids = append(w.pool.ids, fmt.Sprintf("unit-%d", i))
	}
	w.Service, err = sampling.New(sampling.Deps{
		Update: func(ctx context.Context, fn func(sampling.Tx) error) error {
			return s.Update(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		View: func(ctx context.Context, fn func(sampling.Tx) error) error {
			return s.View(ctx, func(tx *store.Tx) error { return fn(tx) })
		},
		Populations: &w.pool, Now: func() time.Time { return w.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) begin(t *testing.T, size int) sampling.Sampling {
	t.Helper()
	s, err := w.Begin(t.Context(), founder, sampling.Request{Of: sampling.Devices, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDraw: what is drawn is what seed and nonce give, from the population that
// was there before the nonce, once and for all.
func TestDraw(t *testing.T) {
	w := newWorld(t)
	s := w.begin(t, 25)
	if err := s.Check(); err != nil || s.IsDrawn() || len(s.Population) != 1000 || len(s.Seed) != 32 {
		t.Fatalf("begun: %v, %d to draw from, seed %s", err, len(s.Population), s.Seed)
	}
	w.pool.ids = w.pool.ids[:30] // who now takes away what should not be drawn is too late
	w.now = dawn.Add(time.Hour)
	drawn, err := w.Draw(t.Context(), assessor, s.ID, nonce)
	if err != nil {
		t.Fatal(err)
	}
	if err := drawn.Check(); err != nil || len(drawn.Drawn) != 25 || !slices.Equal(drawn.Population, s.Population) {
		t.Errorf("drawn: %v: %d of %d", err, len(drawn.Drawn), len(drawn.Population))
	}
	kept, err := w.Find(t.Context(), s.ID)
	if err != nil || !slices.Equal(kept.Drawn, drawn.Drawn) || kept.Assessor != assessor || !kept.Taken.Equal(w.now) || kept.By != founder {
		t.Errorf("kept: %v, %+.300v", err, kept)
	}
	if _, err := w.Draw(t.Context(), assessor, s.ID, []byte("another nonce :-)")); core.ReasonOf(err) != "sample-drawn" {
		t.Errorf("drawn a second time: %v", err)
	}
	if _, err := w.Draw(t.Context(), assessor, w.begin(t, 3).ID, nonce); core.ReasonOf(err) != "nonce-used" {
		t.Errorf("a nonce that the maker knows already: %v", err)
	}
	if _, err := w.Draw(t.Context(), assessor, "snone", []byte("another nonce :-)")); core.KindOf(err) != core.Unknown {
		t.Errorf("a sample that there is not: %v", err)
	}
	if x, items, err := w.Look(t.Context(), s.ID); err != nil || len(items) != 25 || items[0].ID != drawn.Drawn[0] || x.ID != s.ID || !items[24].Gone && !items[12].Gone {
		t.Errorf("what was drawn: %v, %v", err, items)
	}
	all, err := w.Drawn(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != s.ID || len(all[0].Population) != 1000 {
		t.Errorf("what a bundle takes along: %v, %d", err, len(all))
	}
}

// TestSteering: neither another order of the population, nor another nonce or
// seed, nor ids that run together lead to the same sample; and what was drawn
// differently is seen.
func TestSteering(t *testing.T) {
	w := newWorld(t)
	s := w.begin(t, 25)
	want := sampling.Sample(s.Seed, nonce, s.Population, 25)
	for name, got := range map[string][]string{
		"another nonce": sampling.Sample(s.Seed, []byte("another nonce :-)"), s.Population, 25),
		"another seed":  sampling.Sample([]byte("other"), nonce, s.Population, 25),
	} {
		if slices.Equal(got, want) {
			t.Errorf("%s draws the same", name)
		}
	}
	var short, long []string
	for i := range 16 {
		short, long = append(short, fmt.Sprintf("%x", i)), append(long, fmt.Sprintf("c%x", i))
	}
	if slices.Equal(sampling.Sample([]byte("ab"), nonce, long, 8), prefixed("c", sampling.Sample([]byte("abc"), nonce, short, 8))) {
		t.Error("a seed that takes the first letter of the ids over draws the same")
	}
	s.Taken, s.Assessor, s.Nonce, s.Drawn = dawn.Add(time.Minute), assessor, nonce, want
	if err := s.Check(); err != nil {
		t.Fatalf("an honest one: %v", err)
	}
	other := s.Population[slices.IndexFunc(s.Population, func(id string) bool { return !slices.Contains(want, id) })]
	for name, lie := range map[string]func(*sampling.Sampling){
		"another unit": func(s *sampling.Sampling) { s.Drawn = slices.Sorted(slices.Values(append(s.Drawn[:24:24], other))) },
		"one fewer":    func(s *sampling.Sampling) { s.Drawn = s.Drawn[:24] },
		"a smaller population": func(s *sampling.Sampling) {
			s.Population = slices.DeleteFunc(s.Population, func(id string) bool { return id == want[0] })
		},
		"an id twice":   func(s *sampling.Sampling) { s.Population, s.Total = append(s.Population, s.Population[999]), 1001 },
		"not sorted":    func(s *sampling.Sampling) { slices.Reverse(s.Population) },
		"a line's end":  func(s *sampling.Sampling) { s.Population[0] = "\n" },
		"no assessor":   func(s *sampling.Sampling) { s.Assessor = core.Actor{} },
		"nobody asked":  func(s *sampling.Sampling) { s.By = core.Actor{} },
		"drawn before":  func(s *sampling.Sampling) { s.Taken = dawn.Add(-time.Minute) },
		"a short nonce": func(s *sampling.Sampling) { s.Nonce = s.Nonce[:15] },
		"a short seed":  func(s *sampling.Sampling) { s.Seed = s.Seed[:31] },
		"of anything":   func(s *sampling.Sampling) { s.Of = "people" },
		"devices over a period": func(s *sampling.Sampling) {
			s.From, s.Until = dawn, dawn.Add(time.Hour)
		},
		"fewer are said": func(s *sampling.Sampling) { s.Total = 999 },
		"more than are":  func(s *sampling.Sampling) { s.Size = 1001 },
		"not drawn":      func(s *sampling.Sampling) { s.Taken = time.Time{} },
	} {
		bad := s
		bad.Population, bad.Drawn = slices.Clone(s.Population), slices.Clone(s.Drawn)
		if lie(&bad); bad.Check() == nil {
			t.Errorf("%s: nothing is wrong", name)
		}
	}
}

func prefixed(p string, ids []string) (out []string) {
	for _, id := range ids {
		out = append(out, p+id)
	}
	return out
}

// TestRefused: what cannot be sampled is not begun, and the ledger hears of
// nothing.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	reads := sampling.RecordsOf("read-session-opened")
	for name, c := range map[string]struct {
		q      sampling.Request
		reason string
	}{
		"people":              {sampling.Request{Of: "people", Size: 1}, "sample-of"},
		"markup":              {sampling.Request{Of: "records/<b>", Size: 1}, "sample-of"},
		"none":                {sampling.Request{Of: sampling.Devices}, "sample-size"},
		"too large":           {sampling.Request{Of: sampling.Devices, Size: sampling.MaxSize + 1}, "sample-size"},
		"devices of a period": {sampling.Request{Of: sampling.Devices, Size: 1, From: dawn}, "sample-period"},
		"records of none":     {sampling.Request{Of: reads, Size: 1}, "sample-period"},
		"backwards":           {sampling.Request{Of: reads, Size: 1, From: dawn, Until: dawn.Add(-time.Hour)}, "sample-period"},
	} {
		if _, err := w.Begin(t.Context(), assessor, c.q); core.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v, want %s", name, err, c.reason)
		}
	}
	w.pool.ids = w.pool.ids[:2]
	if _, err := w.Begin(t.Context(), assessor, sampling.Request{Of: sampling.Devices, Size: 3}); core.ReasonOf(err) != "sample-few" {
		t.Errorf("3 of 2: %v", err)
	}
	if all, err := w.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("kept: %v, %v", all, err)
	}
	for name, text := range map[string]string{"none": "", "short": "0011", "no digits": strings.Repeat("xy", 16), "long": strings.Repeat("a1", 65), "zeros": strings.Repeat("00", 16)} {
		if _, err := sampling.ParseNonce(text); core.ReasonOf(err) != "nonce" {
			t.Errorf("nonce %s: %v", name, err)
		}
	}
	if b, err := sampling.ParseNonce(" 0011-2233 4455 6677 8899 aabb ccdd eeff\n"); err != nil || len(b) != 16 || !bytes.HasPrefix(b, []byte{0, 0x11, 0x22}) {
		t.Errorf("a nonce with spaces: %x, %v", b, err)
	}
}

// TestKept: a sample without a nonce goes after a week, a drawn one after 400
// days, and there is an end to how many are kept.
func TestKept(t *testing.T) {
	w := newWorld(t)
	lost, drawn := w.begin(t, 1), w.begin(t, 1)
	if _, err := w.Draw(t.Context(), assessor, drawn.ID, nonce); err != nil {
		t.Fatal(err)
	}
	ids := func() (out []string) {
		t.Helper()
		all, err := w.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			out = append(out, s.ID)
		}
		return out
	}
	w.now = dawn.Add(8 * 24 * time.Hour)
	if w.begin(t, 1); slices.Contains(ids(), lost.ID) || !slices.Contains(ids(), drawn.ID) {
		t.Errorf("after eight days: %v", ids())
	}
	w.now = dawn.Add(401 * 24 * time.Hour)
	if w.begin(t, 1); slices.Contains(ids(), drawn.ID) {
		t.Error("a drawn one is kept for more than 400 days")
	}
	for range 99 {
		w.begin(t, 1)
	}
	if _, err := w.Begin(t.Context(), founder, sampling.Request{Of: sampling.Devices, Size: 1}); core.KindOf(err) != core.TooMany {
		t.Errorf("one more than are kept: %v", err)
	}
}

// TestUnit: a device has another name in every sampling, and none of them leads
// to another.
func TestUnit(t *testing.T) {
	a, b := core.Subject{1}, core.Subject{2}
	one := sampling.Unit([]byte("seed one"), a)
	if one != sampling.Unit([]byte("seed one"), a) || one == sampling.Unit([]byte("seed two"), a) || one == sampling.Unit([]byte("seed one"), b) || len(one) != 16 {
		t.Errorf("names of units: %s", one)
	}
}

func FuzzParseNonce(f *testing.F) {
	f.Add("00112233445566778899aabbccddeeff")
	f.Add("00-11 22")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := sampling.ParseNonce(text)
		if err == nil && (len(b) < sampling.MinNonceBytes || len(b) > sampling.MaxNonceBytes) {
			t.Errorf("%q is a nonce of %d bytes", text, len(b))
		}
	})
}
