package bundle

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/sampling"
	"github.com/hawser-iot/hawser/internal/witness"
)

// drawn is a sampling of a thousand units, in the ledger of a world.
func (w *world) drawn(id string, nonce []byte) sampling.Sampling {
	s := sampling.Sampling{
		ID: id, Of: sampling.Devices, Begun: w.now, By: core.Actor{Kind: core.ActorStaff, ID: "pfounder"}, Seed: bytes.Repeat([]byte{3}, 32), Size: 25, Total: 1000,
		Taken: w.now.Add(time.Second), Assessor: core.Actor{Kind: core.ActorStaff, ID: "pauditor"}, Nonce: nonce,
	}
	for i := range 1000 {
		s.Population = append(s.Population, fmt.Sprintf("unit-%04d", i))
	}
	s.Drawn = sampling.Sample(s.Seed, s.Nonce, s.Population, s.Size)
	return s
}

// TestSampling: an assessor finds in the bundle what he drew, and sees when it
// was changed, left out, drawn again, or from a population that the ledger did
// not hold before the nonce.
func TestSampling(t *testing.T) {
	nonce := bytes.Repeat([]byte{7, 1}, 8)
	k := newKey(t)
	var began core.Hash
	honest := func() (*world, sampling.Sampling) {
		w := newWorld(5)
		w.live(1)
		s := w.drawn("sone", nonce)
		began = s.Digest()
		w.record(s.BegunRecord())
		w.record(s.DrawnRecord())
		w.live(2)
		return w, s
	}
	bundled := func(w *world, all ...sampling.Sampling) (Report, error) {
		o := w.options()
		o.Samplings = all
		d, err := Collect(t.Context(), o)
		if err != nil {
			return Report{}, err
		}
		f, err := d.finish(k)
		if err != nil {
			t.Fatal(err)
		}
		trust := w.trust(k, nil)
		trust.Drawings = []Drawing{{Nonce: nonce}}
		if len(all) > 0 {
			trust.Drawings[0].Digest = began
		}
		return mustVerify(t, f, trust), nil
	}
	w, s := honest()
	if r, err := bundled(w, s); err != nil || !r.OK() || r.Samplings != 1 {
		t.Errorf("an honest sampling: %v, %v", err, r.Faults)
	}
	if r, err := bundled(w); err != nil || len(r.Faults) != 1 || !strings.Contains(r.Faults[0], "left out") {
		t.Errorf("a sampling that is left out: %v, %v", err, r.Faults)
	}
	o := w.options()
	o.Samplings = []sampling.Sampling{s}
	trust := w.trust(k, nil)
	trust.Drawings = []Drawing{{Nonce: bytes.Repeat([]byte{9, 1}, 8)}}
	if r := mustVerify(t, w.sealed(t, o, k), trust); r.OK() || len(r.Faults) != 1 || !slices.Contains(r.Notes, "1 of the samples are not yours") {
		t.Errorf("a sampling with another nonce: %v, %v", r.Faults, r.Notes)
	}
	trust.Drawings = []Drawing{{Nonce: nonce}}
	if r := mustVerify(t, w.sealed(t, o, k), trust); !r.OK() || r.Own != 1 || !strings.Contains(strings.Join(r.Notes, "\n"), began.String()) {
		t.Errorf("its digest was not taken down: %v, %v", r.Faults, r.Notes)
	}
	// The maker heard the nonce, began another sample until one suited, and
	// shows that one alone.
	lw := newWorld(5)
	lw.live(1)
	suits := lw.drawn("stwo", nonce)
	suits.Seed = bytes.Repeat([]byte{6}, 32)
	suits.Drawn = sampling.Sample(suits.Seed, nonce, suits.Population, suits.Size)
	lw.record(suits.BegunRecord())
	lw.record(suits.DrawnRecord())
	lw.live(2)
	o = lw.options()
	o.Samplings = []sampling.Sampling{suits}
	trust = lw.trust(k, nil)
	trust.Drawings = []Drawing{{Nonce: nonce, Digest: began}}
	if r := mustVerify(t, lw.sealed(t, o, k), trust); r.OK() || len(r.Faults) != 1 || !strings.Contains(r.Faults[0], "another sample") {
		t.Errorf("a sample that was begun after the nonce was known: %v", r.Faults)
	}

	fewer := s
	fewer.Population = slices.DeleteFunc(slices.Clone(s.Population), func(id string) bool { return id == s.Drawn[0] })
	fewer.Total = 999
	fewer.Drawn = sampling.Sample(s.Seed, nonce, fewer.Population, s.Size)
	other := s
	other.Drawn = slices.Clone(s.Drawn)
	other.Drawn[3] = s.Population[slices.IndexFunc(s.Population, func(id string) bool { return !slices.Contains(s.Drawn, id) })]
	slices.Sort(other.Drawn)
	seed := s
	seed.Seed = bytes.Repeat([]byte{4}, 32)
	seed.Drawn = sampling.Sample(seed.Seed, nonce, seed.Population, seed.Size)
	undrawn := s
	undrawn.Taken, undrawn.Assessor, undrawn.Nonce, undrawn.Drawn = time.Time{}, core.Actor{}, nil, nil
	by := s
	by.Assessor.ID = "pfounder"
	for name, lie := range map[string]sampling.Sampling{
		"a unit is swapped": other, "a unit was taken away once the nonce was known": fewer, "another seed": seed, "nobody drew it": undrawn, "somebody else drew it": by,
	} {
		if _, err := bundled(w, lie); core.ReasonOf(err) != "evidence-altered" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bundled(w, s, s); core.ReasonOf(err) != "evidence-altered" {
		t.Errorf("the same twice: %v", err)
	}

	w = newWorld(5)
	w.live(1)
	s = w.drawn("sone", nonce)
	w.record(s.DrawnRecord()) // the maker heard the nonce first
	w.record(s.BegunRecord())
	w.live(2)
	if _, err := bundled(w, s); core.ReasonOf(err) != "evidence-altered" {
		t.Errorf("a population from after the nonce: %v", err)
	}
	w = newWorld(5)
	w.live(1)
	w.record(other.BegunRecord())
	w.record(other.DrawnRecord()) // and the ledger was told the lie, too
	w.live(2)
	if _, err := bundled(w, other); core.ReasonOf(err) != "evidence-altered" {
		t.Errorf("the maker's choice for a draw: %v", err)
	}
	w, s = honest()
	again := w.drawn("stwo", nonce)
	w.record(again.BegunRecord())
	w.record(again.DrawnRecord())
	w.live(1)
	if _, err := bundled(w, s, again); core.ReasonOf(err) != "evidence-altered" {
		t.Errorf("a second sampling with the same nonce: %v", err)
	}
	w, s = honest()
	late := w.drawn("slate", bytes.Repeat([]byte{8, 1}, 8))
	w.record(late.BegunRecord())
	if r, err := bundled(w, s, late); err != nil || !r.OK() || r.Samplings != 1 {
		t.Errorf("one whose nonce the ledger does not hold: %v, %v", err, r.Faults)
	}
}

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
