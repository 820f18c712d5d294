package bundle

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
)

// TestEachFault makes evidence by somebody who holds every key and lies in one
// place only, so that one rule alone can see it; and holds that it does.
func TestEachFault(t *testing.T) {
	// again closes the rounds of w anew, in a ledger of its own, with what a
	// change makes of the n-th.
	again := func(w *world, n int, change func(*check.Round)) {
		rounds := w.rounds
		w.rounds, w.entries, w.hashes = nil, w.entries[:1], w.hashes[:1]
		for i, kept := range rounds {
			r, err := check.ParseRound(kept.Encoded)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				r.Previous = w.rounds[i-1].Digest
			}
			if i == n {
				change(r)
			}
			w.put(r)
		}
	}
	// restate changes input.json, reprove log/proofs.json.
	restate := func(f files, change func(*Statement)) {
		st, err := decode[Statement](f[nameInput])
		if err != nil {
			t.Fatal(err)
		}
		change(st)
		if f[nameInput], err = encode(st); err != nil {
			t.Fatal(err)
		}
	}
	reprove := func(f files, change func(*logProofs)) {
		p, err := decode[logProofs](f[nameProofs])
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		if f[nameProofs], err = encode(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		want string
		lie  func(*world) // before it is collected
		edit func(files)  // afterwards
	}{
		{"is not entry 0", nil, func(f files) {
			// It begins a second time, and that is proven.
			w := newWorld(9)
			w.live(4)
			w.record(core.Record{Time: w.now, Kind: recordBegun, Actor: core.Job("ledger"), Facts: w.entries[0].Record.Facts})
			o := w.options()
			o.From = dawn.Add(90 * time.Second)
			again, err := collect(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for name, b := range again {
				f[name] = b
			}
			last := w.entries[len(w.entries)-1]
			path, err := ledger.NewProver(uint64(len(w.entries)), func(r ledger.TileRef) ([]byte, error) { return w.Tile(t.Context(), r) }).Inclusion(last.Index)
			if err != nil {
				t.Fatal(err)
			}
			reprove(f, func(p *logProofs) { p.Begun = &inclusion{last.Index, string(last.Leaf), proofsOf(path)} })
		}},
		{"does not say how the ledger began", nil, func(f files) { reprove(f, func(p *logProofs) { p.Begun = nil }) }},
		{"does not begin it", func(w *world) {
			w.entries, w.hashes = nil, nil
			w.record(core.Record{Time: w.now, Kind: recordBegun, Actor: core.Job("ledger"), Facts: []core.Fact{{Name: factOrigin, Value: w.origin}, {Name: factKey, Value: otherLog().VerifierKey()}}})
			w.entries = append(w.entries, w.entries[0]) // again cuts it off
			w.entries = w.entries[:1]
			again(w, -1, nil)
		}, nil},
		{"the record of round 4 follows that of round 2", nil, func(f files) {
			reprove(f, func(p *logProofs) { p.Rounds = slices.Delete(p.Rounds, 2, 3) })
		}},
		{"round 3 does not follow the round 2 that the ledger holds", func(w *world) { again(w, 2, func(r *check.Round) { r.Previous[0] ^= 1 }) }, nil},
		{"round 1 follows another", func(w *world) { again(w, 0, func(r *check.Round) { r.Previous[0] ^= 1 }) }, nil},
		{"round 3 closed before round 2", func(w *world) {
			again(w, 2, func(r *check.Round) { r.Closed, r.Observations, r.Proofs = r.Closed.Add(-time.Hour), nil, nil })
		}, nil},
		{"the ledger holds round 3 before round 2", func(w *world) {
			entries := w.entries
			w.entries, w.hashes = nil, nil
			at := map[string]int{}
			for i, e := range entries {
				at[factOf(&e.Record, "round")] = i
			}
			i, j := at["2"], at["3"]
			entries = slices.Clone(entries)
			entries[i], entries[j] = entries[j], entries[i]
			for _, e := range entries {
				w.record(e.Record)
			}
		}, nil},
		{"round 3 is not what its record in the ledger says of it", func(w *world) {
			rounds := w.rounds
			again(w, -1, nil)
			w.rounds, w.entries, w.hashes = nil, w.entries[:1], w.hashes[:1]
			for i, kept := range rounds {
				r, err := check.ParseRound(kept.Encoded)
				if err != nil {
					t.Fatal(err)
				}
				rec := recordOf(r, kept.Encoded, 0)
				if i == 2 {
					rec.Facts[5].Value = "0" // failing
				}
				w.rounds = append(w.rounds, kept)
				w.record(rec)
			}
		}, nil},
		{"round 4 is not what its record in the ledger says of it", func(w *world) {
			last := &w.rounds[3]
			r, err := check.ParseRound(last.Encoded)
			if err != nil {
				t.Fatal(err)
			}
			r.Number = 7 // its record says 4
			if last.Encoded, err = r.Encode(); err != nil {
				t.Fatal(err)
			}
			last.Digest = check.DigestOf(last.Encoded)
			entries := w.entries
			w.entries, w.hashes = nil, nil
			for _, e := range entries {
				if factOf(&e.Record, "round") == "4" {
					e.Record = recordOf(r, last.Encoded, 0)
					e.Record.Facts[0].Value = "4"
				}
				w.record(e.Record)
			}
		}, nil},
		{"it is the record of something else", nil, func(f files) {
			reprove(f, func(p *logProofs) { p.Rounds[1].Leaf = p.Begun.Leaf })
		}},
		{"the proof of check.n000 by break-it is dated", func(w *world) {
			again(w, 2, func(r *check.Round) {
				w.now = w.now.Add(-3 * time.Hour)
				r.Proofs = append(r.Proofs, w.prove(0))
				w.now = w.now.Add(3 * time.Hour)
			})
		}, nil},
		{"the observation of check.n000 is dated", func(w *world) {
			again(w, 2, func(r *check.Round) { r.Observations[0].Taken = r.Observations[0].Taken.Add(-4 * time.Minute) })
		}, nil},
		{"the observation of check.n000 passes, and its counts do not", func(w *world) {
			again(w, 2, func(r *check.Round) { r.Observations[0].Population++ })
		}, nil},
		{"the checkpoint is of", nil, func(f files) { restate(f, func(s *Statement) { s.Origin = "elsewhere" }) }},
		{"are stated, records of rounds", nil, func(f files) { restate(f, func(s *Statement) { s.Last-- }) }},
		{"the last round closed at", nil, func(f files) { restate(f, func(s *Statement) { s.Input.At = s.Input.At.Add(time.Second) }) }},
		{"is of form 2", nil, func(f files) { restate(f, func(s *Statement) { s.Format = 2 }) }},
		{"round 1, just before the period, is left out", nil, func(f files) {
			reprove(f, func(p *logProofs) { p.Rounds = p.Rounds[1:] })
			delete(f, olderName(1))
		}},
		{"round 1 is missing: it holds proofs", nil, func(f files) { delete(f, olderName(1)) }},
		{"round 3 is missing", nil, func(f files) { delete(f, roundName(3)) }},
		{"1 rounds that are not of the period", nil, func(f files) { f[roundName(99)] = f[roundName(3)] }},
		{"1 rounds that are not of the period", nil, func(f files) { f[olderName(3)] = f[roundName(3)] }},
		{"wrong signature", nil, func(f files) {
			f[nameCheckpoint] = []byte(strings.Replace(string(f[nameCheckpoint]), "\n10\n", "\n11\n", 1))
		}},
	} {
		w := newWorld(9)
		w.live(4)
		if c.lie != nil {
			c.lie(w)
		}
		o := w.options()
		o.From = dawn.Add(90 * time.Second)
		f, err := collect(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", c.want, err)
			continue
		}
		if c.edit != nil {
			c.edit(f)
		}
		var bad faults
		open(f, &bad)
		if !slices.ContainsFunc(bad.list, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: it says %q", c.want, bad.list)
		}
	}
}

// TestSealIsNotSkipped: what only the sums hold is held by them.
func TestSealIsNotSkipped(t *testing.T) {
	w, k := newWorld(3), newKey(t)
	w.live(2)
	honest := w.sealed(t, w.options(), k)
	trust := w.trust(k, nil)
	trust.Program = "v2" // so that pages are not compared
	for name, c := range map[string]struct {
		want   string
		change func(files)
	}{
		"an input edited":            {"input.json was changed", func(f files) { f[nameInput] = append(f[nameInput], ' ') }},
		"an input spelled otherwise": {"not in the form in which it is written", func(f files) { f[nameInput] = append(f[nameInput], ' '); f.seal(k) }},
		"sums in another order": {"not in the form", func(f files) {
			lines := bytes.SplitAfter(f[nameSums], []byte("\n"))
			lines[0], lines[1] = lines[1], lines[0]
			f[nameSums] = bytes.Join(lines, nil)
		}},
		"a file twice in them":   {"a line that is none", func(f files) { f[nameSums] = append(f[nameSums], f[nameSums]...) }},
		"verdicts of our own":    {"verdicts.json is not what follows", func(f files) { f[nameVerdicts] = better(append(f[nameVerdicts], ' ')); f.seal(k) }},
		"claims of our own":      {"claims.json is not what follows", func(f files) { f[nameClaims] = append(f[nameClaims], ' '); f.seal(k) }},
		"a signer of our choice": {"names another signer", func(f files) { f[nameSigners] = []byte(newKey(t).Public().AllowedSigner() + "\n"); f.seal(k) }},
		"a foreign file":         {"is no file of a bundle", func(f files) { f["rounds/x.jsonl"] = nil; f.seal(k) }},
		"a path out of it":       {"is no file of a bundle", func(f files) { f["rounds/0000000a.jsonl"] = nil; f.seal(k) }},
		"a page of our own":      {"", func(f files) { f[namePage] = append(f[namePage], ' '); f.seal(k) }},
	} {
		f := clone(honest)
		c.change(f)
		r := mustVerify(t, f, trust)
		if c.want == "" {
			// A page of another version may look different: said, not refused.
			if !r.OK() || len(r.Notes) == 0 {
				t.Errorf("%s: %s, notes %v, faults %v", name, r.Standing, r.Notes, r.Faults)
			}
			continue
		}
		if r.OK() || !slices.ContainsFunc(r.Faults, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: %s %q, want %q", name, r.Standing, r.Faults, c.want)
		}
	}
	trust = w.trust(k, nil)
	trust.Checks = append(slices.Clone(trust.Checks), trust.Checks[0])
	trust.Checks[len(trust.Checks)-1].ID = "a.new"
	if r := mustVerify(t, honest, trust); r.OK() || !strings.Contains(r.Faults[0], "a.new is left out") {
		t.Errorf("a check left out: %v", r.Faults)
	}
	trust = w.trust(k, w.signed(len(w.entries)))
	old := newWorld(3)
	old.live(1)
	if r := mustVerify(t, old.sealed(t, old.options(), k), trust); r.OK() || !strings.Contains(r.Faults[0], "it is older, or was cut") {
		t.Errorf("an older ledger: %v", r.Faults)
	}
}
