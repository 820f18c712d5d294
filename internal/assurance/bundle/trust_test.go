package bundle

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/witness"
)

// TestSampling: whoever has seed and nonce draws the same; an assessor sees
// when what he drew was changed, left out or drawn again.
func TestSampling(t *testing.T) {
	var population []string
	for i := range 1000 {
		population = append(population, "d"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+time.Duration(i).String())
	}
	nonce := bytes.Repeat([]byte{7}, 16)
	s, err := Draw("devices", core.Actor{Kind: core.ActorStaff, ID: "pauditor"}, dawn, []byte("root of a checkpoint"), nonce, population, 25)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(population)
	again, err := Draw("devices", s.Assessor, dawn, s.Seed, nonce, population, 25)
	if err != nil || !slices.Equal(s.Drawn, again.Drawn) || len(s.Drawn) != 25 {
		t.Errorf("drawn again: %d and %d, %v", len(s.Drawn), len(again.Drawn), err)
	}
	for name, other := range map[string][]string{
		"another nonce":            Sample(s.Seed, bytes.Repeat([]byte{8}, 16), s.Population, 25),
		"another seed":             Sample([]byte("other"), nonce, s.Population, 25),
		"seed and id run together": Sample([]byte("root of a checkpointd"), nonce, s.Population, 25),
	} {
		if slices.Equal(s.Drawn, other) {
			t.Errorf("%s draws the same", name)
		}
	}
	for name, err := range map[string]error{
		"a short nonce":  second(Draw("x", s.Assessor, dawn, s.Seed, nonce[:15], population, 1)),
		"an id twice":    second(Draw("x", s.Assessor, dawn, s.Seed, nonce, []string{"a", "a"}, 1)),
		"more than are":  second(Draw("x", s.Assessor, dawn, s.Seed, nonce, []string{"a"}, 2)),
		"none":           second(Draw("x", s.Assessor, dawn, s.Seed, nonce, population, 0)),
		"nobody's":       second(Draw("x", core.Actor{}, dawn, s.Seed, nonce, population, 1)),
		"without a seed": second(Draw("x", s.Assessor, dawn, nil, nonce, population, 1)),
	} {
		if core.KindOf(err) != core.Invalid {
			t.Errorf("%s is drawn: %v", name, err)
		}
	}

	w, k := newWorld(5), newKey(t)
	w.live(2)
	o := w.options()
	o.Samplings = []Sampling{s}
	f := w.sealed(t, o, k)
	trust := w.trust(k, nil)
	trust.Nonces = [][]byte{nonce}
	if r := mustVerify(t, f, trust); !r.OK() || r.Samplings != 1 {
		t.Errorf("an honest sampling: %v", r.Faults)
	}
	trust.Nonces = [][]byte{bytes.Repeat([]byte{9}, 16)}
	if r := mustVerify(t, f, trust); r.OK() || len(r.Faults) != 2 {
		t.Errorf("a sampling with another nonce: %v", r.Faults)
	}
	lie := s
	lie.Drawn = slices.Clone(s.Drawn)
	lie.Drawn[3] = s.Population[slices.IndexFunc(s.Population, func(id string) bool { return !slices.Contains(s.Drawn, id) })]
	slices.Sort(lie.Drawn)
	o.Samplings = []Sampling{lie}
	if _, err := Collect(t.Context(), o); core.ReasonOf(err) != "evidence-altered" {
		t.Errorf("a sample that was not drawn is exported: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// cosigned is a checkpoint of the world that a real witness looked at, at a
// time.
func cosigned(t *testing.T, w *world, size int, at time.Time) (note []byte, verifier string) {
	t.Helper()
	k, err := witness.CreateKey(filepath.Join(t.TempDir(), "k"), "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	x, err := witness.New(witness.Options{Dir: t.TempDir(), Key: k, Logs: []string{w.VerifierKey()}, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.Look(t.Context(), shown{w, w.signed(size)})
	if err != nil {
		t.Fatal(err)
	}
	return got.Note, k.Verifier()
}

type shown struct {
	*world
	note []byte
}

func (s shown) Checkpoint(context.Context) ([]byte, error) { return s.note, nil }

// TestWitnessBoundsTime: rounds that somebody with all keys adds to the ledger
// later, dated before, contradict the time at which a witness looked.
func TestWitnessBoundsTime(t *testing.T) {
	w, k := newWorld(9), newKey(t)
	w.live(2)
	honest := *w
	seen, verifier := cosigned(t, w, len(w.entries), w.now.Add(time.Second))

	w.now = w.now.Add(time.Hour)
	w.live(2)
	o := w.options()
	o.Earlier = [][]byte{seen}
	trust := w.trust(k, seen)
	trust.Witnesses = []string{verifier}
	f := w.sealed(t, o, k)
	if r := mustVerify(t, f, trust); r.Standing != Proved || r.Witnessed() != "witnessed by witness.example/w1" {
		t.Errorf("honest: %s, %s, %v", r.Standing, r.Witnessed(), r.Faults)
	}

	// The same rounds, as if the witness had looked only when all was over.
	late, other := cosigned(t, w, len(w.entries)-7, w.now.Add(24*time.Hour))
	o.Earlier, trust.Earlier, trust.Witnesses = [][]byte{late}, late, []string{other}
	if r := mustVerify(t, w.sealed(t, o, k), trust); r.OK() || !strings.Contains(strings.Join(r.Faults, "\n"), "back-dated") {
		t.Errorf("rounds added to the ledger a day after their date: %s, %v", r.Standing, r.Faults)
	}

	// A bundle whose own checkpoint a witness saw before its rounds say that
	// they were made.
	w = &honest
	early, verifier := cosigned(t, w, len(w.entries), dawn.Add(-time.Hour))
	o = w.options()
	o.Checkpoint = early
	trust = w.trust(k, nil)
	trust.Witnesses = []string{verifier}
	if r := mustVerify(t, w.sealed(t, o, k), trust); r.OK() {
		t.Errorf("rounds from the future of a witness: %s", r.Standing)
	}
}

// TestExport: whole or not at all.
func TestExport(t *testing.T) {
	w, k := newWorld(5), newKey(t)
	if _, err := Collect(t.Context(), w.options()); core.KindOf(err) != core.Unready {
		t.Errorf("nothing observed yet: %v", err)
	}
	w.live(3)
	dir := filepath.Join(t.TempDir(), "b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Export(ctx, dir, w.options(), k); err == nil {
		t.Error("an export that was given up is no error")
	}
	if left, err := filepath.Glob(dir + "*"); err != nil || len(left) != 0 {
		t.Errorf("an export that was given up leaves %v, %v", left, err)
	}
	if err := Export(t.Context(), dir, w.options(), k); err != nil {
		t.Fatal(err)
	}
	if r, err := VerifyDir(t.Context(), dir, w.trust(k, w.signed(len(w.entries)))); err != nil || r.Standing != Proved {
		t.Errorf("on disk: %v, %s, %v", err, r.Standing, r.Faults)
	}
	if err := Export(t.Context(), dir, w.options(), k); core.ReasonOf(err) != "bundle-exists" {
		t.Errorf("over another bundle: %v", err)
	}
	if err := os.Mkdir(dir+"2.part", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Export(t.Context(), dir+"2", w.options(), k); core.ReasonOf(err) != "bundle-part" {
		t.Errorf("over a part: %v", err)
	}

	// What is no plain file is refused: it may read differently tomorrow.
	if err := os.Remove(filepath.Join(dir, nameClaims)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(nameInput, filepath.Join(dir, nameClaims)); err != nil {
		t.Fatal(err)
	}
	if r, err := VerifyDir(t.Context(), dir, Trust{}); err != nil || r.OK() || !strings.Contains(r.Faults[0], "plain file") {
		t.Errorf("with a symbolic link: %v, %v", err, r.Faults)
	}
	if _, err := VerifyDir(t.Context(), dir+"x", Trust{}); core.ReasonOf(err) != "no-bundle" {
		t.Errorf("no folder: %v", err)
	}
}

// TestCollectSeesDamage: what a database behind the program's back was changed
// to does not become evidence.
func TestCollectSeesDamage(t *testing.T) {
	for name, harm := range map[string]func(*world){
		"a round changed": func(w *world) {
			w.rounds[2].Encoded = bytes.Replace(w.rounds[2].Encoded, []byte(`"passing":5`), []byte(`"passing":6`), 1)
		},
		"a round unreadable": func(w *world) { w.rounds[2].Encoded = []byte("{}\n") },
		"a round gone":       func(w *world) { w.rounds = slices.Delete(w.rounds, 1, 2) },
		"an observation of yesterday": func(w *world) {
			o := w.observe(0)
			o.Began, o.Taken = o.Began.Add(-24*time.Hour), o.Taken.Add(-24*time.Hour)
			w.now = w.now.Add(time.Minute)
			w.close([]check.Observation{o}, nil)
		},
		"a pass that counts nothing": func(w *world) {
			o := w.observe(0)
			o.Passing, o.Population = 0, 0
			w.close([]check.Observation{o}, nil)
		},
		"a clock set back": func(w *world) { w.now = w.now.Add(-time.Hour); w.close([]check.Observation{w.observe(0)}, nil) },
	} {
		w := newWorld(5)
		w.live(3)
		harm(w)
		o := w.options()
		o.From = dawn
		if _, err := Collect(t.Context(), o); core.ReasonOf(err) != "evidence-altered" {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// TestDraftTravels: a draft that was sent to where the key is gives the same
// bundle; what is no draft is refused.
func TestDraftTravels(t *testing.T) {
	w, k := newWorld(5), newKey(t)
	w.live(3)
	d, err := Collect(t.Context(), w.options())
	if err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	if err := d.Encode(&sent); err != nil {
		t.Fatal(err)
	}
	got, err := ReadDraft(bytes.NewReader(sent.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.finish(k)
	b, err2 := got.finish(k)
	if err != nil || err2 != nil || !slices.Equal(a.names(), b.names()) || !bytes.Equal(a[nameSums], b[nameSums]) || !bytes.Equal(a[nameSig], b[nameSig]) {
		t.Errorf("what arrives is another: %v, %v", err, err2)
	}
	if err := (&Draft{files{}}).Write(t.Context(), filepath.Join(t.TempDir(), "x"), k); core.ReasonOf(err) != "bad-draft" {
		t.Errorf("an empty draft is signed: %v", err)
	}
	other := &Draft{files{"index.html": []byte("x")}}
	sent.Reset()
	if err := other.Encode(&sent); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDraft(&sent); err == nil {
		t.Error("a draft that brings its own page is read")
	}
}

// TestPeriodReachesBack: a check that was looked at last before the period
// stands in the bundle with that look; trials older than it do too.
func TestPeriodReachesBack(t *testing.T) {
	w, k := newWorld(6), newKey(t)
	w.live(2) // round 1 holds all trials
	for range 20 {
		w.now = w.now.Add(time.Minute)
		w.close([]check.Observation{w.observe(0)}, nil) // the others rest
	}
	o := w.options()
	o.From = w.now.Add(-5 * time.Minute)
	f := w.sealed(t, o, k)
	r := mustVerify(t, f, w.trust(k, nil))
	if r.First != 2 || r.Last != 22 || r.Rounds != 22 || r.Trials != 6 {
		t.Errorf("rounds %d to %d, %d in all, %d trials", r.First, r.Last, r.Rounds, r.Trials)
	}
	if c := r.State.Row(w.checks[1].Rows[0]).Checks[0]; c.Observation == nil || c.Verdict != assurance.Met {
		t.Errorf("%s is %s: %s", c.ID, c.Verdict, c.Why)
	}
}
