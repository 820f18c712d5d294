package bundle

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
)

// forgers makes dishonest bundles. Each field of it is something that an
// honest auditor's trust does not cover, or does.
type forger struct {
	t      *testing.T
	w      *world // the honest ledger
	honest files
	trust  Trust
	maker  Key // signs honest bundles
	other  Key // a key that no auditor knows
	rounds []uint64
}

// forge is one way to cheat. It gives the dishonest bundle. Ways that take
// long, because everything is made anew, are gone less often.
type forge struct {
	name  string
	often int
	do    func(*forger, *rand.Rand) files
}

func clone(f files) files {
	out := maps.Clone(f)
	for name, b := range out {
		out[name] = bytes.Clone(b)
	}
	return out
}

func (x *forger) pick(r *rand.Rand, f files) string {
	names := f.names()
	return names[r.IntN(len(names))]
}

// scratch changes some bytes of one file.
func scratch(r *rand.Rand, b []byte) []byte {
	was := bytes.Clone(b)
	for bytes.Equal(was, b) {
		switch n := len(b); {
		case n == 0 || r.IntN(8) == 0:
			i := r.IntN(n + 1)
			b = slices.Insert(bytes.Clone(b), i, byte(r.IntN(256)))
		case r.IntN(8) == 0:
			i := r.IntN(n)
			b = slices.Delete(bytes.Clone(b), i, min(n, i+1+r.IntN(20)))
		case r.IntN(4) == 0: // one digit for another: the forms stay good
			var at []int
			for i, c := range b {
				if c >= '0' && c <= '9' {
					at = append(at, i)
				}
			}
			if len(at) > 0 {
				b = bytes.Clone(b)
				b[at[r.IntN(len(at))]] = byte('0' + r.IntN(10))
			}
		default:
			b = bytes.Clone(b)
			b[r.IntN(n)] ^= byte(1 + r.IntN(255))
		}
	}
	return b
}

// better makes what failed look as if it had passed, in the words of any of the
// files.
func better(b []byte) []byte {
	for _, p := range [][2]string{
		{`"passing":4,"failing":1,"excluded":0,"findings":[{"subject":"<script>alert(1)</script>","text":"has no </table> \"key\""}],`, `"passing":5,"failing":0,"excluded":0,`},
		{`"outcome":"fail"`, `"outcome":"pass"`},
		{`"verdict": "failing"`, `"verdict": "met"`},
		{`["failing","1"]`, `["failing","0"]`},
		{`"not-satisfied"`, `"satisfied"`},
	} {
		b = bytes.ReplaceAll(b, []byte(p[0]), []byte(p[1]))
	}
	return b
}

// redo makes a bundle out of changed given files, with every page and verdict
// worked out anew, as far as it can be.
func (x *forger) redo(f files, s Signer) files {
	given := files{}
	for name, b := range f {
		if !slices.Contains(derived(), name) && name != nameSums && name != nameSig {
			given[name] = b
		}
	}
	var bad faults
	out := given
	if e := open(given, &bad); e != nil && len(bad.list) == 0 {
		if more, err := e.derive(s.Public()); err == nil {
			maps.Copy(out, more)
		}
	}
	for _, name := range derived() {
		if _, ok := out[name]; !ok {
			out[name] = x.honest[name]
		}
	}
	out.seal(s)
	return out
}

// edit changes one observation of one round as an insider would, who has the
// evidence key and works everything out anew, but cannot change the ledger.
func (x *forger) edit(r *rand.Rand, change func(*check.Round, *rand.Rand)) files {
	f := clone(x.honest)
	name := roundName(x.rounds[r.IntN(len(x.rounds))])
	round, err := check.ParseRound(f[name])
	if err != nil {
		x.t.Fatal(err)
	}
	change(round, r)
	b, err := round.Encode()
	if err != nil {
		x.t.Fatal(err)
	}
	f[name] = b
	x.rerecord(f, name, round, b)
	return x.redo(f, x.maker)
}

// rerecord has the ledger's leaf in log/proofs.json say what the changed round
// wants, though the tree does not hold it.
func (x *forger) rerecord(f files, name string, round *check.Round, b []byte) {
	p, err := decode[logProofs](f[nameProofs])
	if err != nil {
		x.t.Fatal(err)
	}
	w := newWorld(0)
	w.record(recordOf(round, b, 0))
	for i := range p.Rounds {
		if rec, err := parseRecord([]byte(p.Rounds[i].Leaf)); err == nil && rec.number == round.Number {
			p.Rounds[i].Leaf = string(w.entries[1].Leaf)
		}
	}
	if f[nameProofs], err = encode(p); err != nil {
		x.t.Fatal(err)
	}
}

// rewritten is the bundle of a server whose ledger was made up anew with the
// right key, in which what the change says is true.
func (x *forger) rewritten(r *rand.Rand, change func(*check.Round, *rand.Rand)) files {
	w := &world{origin: x.w.origin, key: x.w.key, now: x.w.now, checks: x.w.checks, latest: x.w.latest}
	at := r.IntN(3) // what the auditor's checkpoint covers: the rest nobody has seen yet
	n := 0
	for _, e := range x.w.entries {
		if e.Record.Kind != assurance.RecordObserved {
			w.record(e.Record)
			continue
		}
		round, err := check.ParseRound(x.w.rounds[n].Encoded)
		if err != nil {
			x.t.Fatal(err)
		}
		if n == at {
			change(round, r)
		}
		if n > 0 {
			round.Previous = w.rounds[n-1].Digest
		}
		w.put(round)
		n++
	}
	o := x.w.options()
	o.Rounds, o.Log, o.From = w, w, dawn
	if r.IntN(2) == 0 {
		o.Earlier = [][]byte{x.trust.Earlier}
	}
	d, err := Collect(x.t.Context(), o)
	if err != nil {
		return x.redo(x.scrambled(r), x.maker) // the exporter itself refuses: cheat another way
	}
	f, err := d.finish(x.maker)
	if err != nil {
		x.t.Fatal(err)
	}
	return f
}

func (x *forger) scrambled(r *rand.Rand) files {
	f := clone(x.honest)
	name := roundName(x.rounds[r.IntN(len(x.rounds))])
	f[name] = scratch(r, f[name])
	return f
}

func improve(r *check.Round, _ *rand.Rand) {
	for i := range r.Observations {
		if o := &r.Observations[i]; o.Outcome == check.Fail {
			o.Passing, o.Failing, o.Outcome, o.Findings = o.Population, 0, check.Pass, nil
			return
		}
	}
	r.Observations[0].Passing, r.Observations[0].Population = 50, 50
}

func forges() []forge {
	drop := func(r *check.Round, g *rand.Rand) {
		i := g.IntN(len(r.Observations))
		r.Observations = slices.Delete(r.Observations, i, i+1)
	}
	add := func(r *check.Round, g *rand.Rand) {
		o := r.Observations[g.IntN(len(r.Observations))]
		o.Population, o.Passing, o.Failing, o.Outcome, o.Findings = 5, 5, 0, check.Pass, nil
		r.Observations = append(r.Observations, o)
	}
	backDate := func(r *check.Round, g *rand.Rand) {
		o := r.Observations[0]
		back := 4*time.Minute + time.Duration(1+g.IntN(1_000_000))*time.Microsecond
		o.Began, o.Taken, o.Expires = o.Began.Add(-back), o.Taken.Add(-back), o.Expires.Add(-back)
		r.Observations = append(r.Observations, o)
	}
	backDateProof := func(r *check.Round, g *rand.Rand) {
		r.Proofs = append(r.Proofs, check.Proof{
			Check: r.Observations[0].Check, Version: 1, Program: program, Violation: "break-it", Taken: r.Closed.Add(-3 * time.Hour), Expires: r.Closed,
			Before: check.Pass, Red: check.Fail, After: check.Pass, Saw: fmt.Sprint(g.IntN(1000)),
		})
	}
	return []forge{
		{"a file edited", 9, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			name := x.pick(r, f)
			f[name] = scratch(r, f[name])
			return f
		}},
		{"a verdict edited to the better", 9, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			for {
				name := x.pick(r, f)
				if b := better(f[name]); !bytes.Equal(b, f[name]) {
					f[name] = b
					return f
				}
			}
		}},
		{"a file left out", 9, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			delete(f, x.pick(r, f))
			return f
		}},
		{"a file added", 9, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			f[fmt.Sprintf("%s.%d", x.pick(r, f), r.IntN(1000))] = []byte("x")
			if r.IntN(2) == 0 {
				f.seal(x.maker)
			}
			return f
		}},
		{"edited and hashed again", 9, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			for f[nameSums] = x.honest[nameSums]; bytes.Equal(f[nameSums], x.honest[nameSums]); f[nameSums] = f.sums() {
				name := x.pick(r, f)
				if f[name] = scratch(r, f[name]); r.IntN(4) == 0 {
					delete(f, name)
				}
			}
			return f
		}},
		{"signed by another key", 9, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			if r.IntN(2) == 0 {
				name := x.pick(r, f)
				f[name] = better(scratch(r, f[name]))
			}
			f.seal(x.other)
			return f
		}},
		{"made anew and signed by another key", 1, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			if r.IntN(2) == 0 {
				f = x.scrambled(r)
			}
			return x.redo(f, x.other)
		}},
		{"a given file changed, signed by the maker", 6, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			names := append(given(), roundName(x.rounds[r.IntN(len(x.rounds))]))
			name := names[r.IntN(len(names))]
			for {
				b := scratch(r, x.honest[name])
				// Declarations and waivers stand in no ledger record: what the
				// maker says of them he vouches for by his signature.
				if name != nameInput {
					f[name] = b
					return x.redo(f, x.maker)
				}
				if st, err := decode[Statement](b); err != nil || !sameEnough(st, x.honest) {
					f[name] = b
					return x.redo(f, x.maker)
				}
			}
		}},
		{"a page changed, signed by the maker", 1, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			names := derived()
			name := names[r.IntN(len(names))]
			f[name] = scratch(r, f[name])
			f.seal(x.maker)
			return f
		}},
		{"a page painted green, signed by the maker", 3, func(x *forger, _ *rand.Rand) files {
			f := clone(x.honest)
			for name := range f {
				f[name] = better(f[name])
			}
			f.seal(x.maker)
			return f
		}},
		{"an observation improved, signed by the maker", 3, func(x *forger, r *rand.Rand) files { return x.edit(r, improve) }},
		{"an observation omitted, signed by the maker", 3, func(x *forger, r *rand.Rand) files { return x.edit(r, drop) }},
		{"an observation added, signed by the maker", 3, func(x *forger, r *rand.Rand) files { return x.edit(r, add) }},
		{"an observation back-dated, signed by the maker", 3, func(x *forger, r *rand.Rand) files { return x.edit(r, backDate) }},
		{"a round left out, signed by the maker", 3, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			delete(f, roundName(x.rounds[r.IntN(len(x.rounds))]))
			return x.redo(f, x.maker)
		}},
		{"a round left out with its record, signed by the maker", 3, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			n := x.rounds[1+r.IntN(len(x.rounds)-2)]
			delete(f, roundName(n))
			p, err := decode[logProofs](f[nameProofs])
			if err != nil {
				x.t.Fatal(err)
			}
			p.Rounds = slices.DeleteFunc(p.Rounds, func(i inclusion) bool { return strings.Contains(i.Leaf, fmt.Sprintf(`["round","%d"]`, n)) })
			if f[nameProofs], err = encode(p); err != nil {
				x.t.Fatal(err)
			}
			return x.redo(f, x.maker)
		}},
		{"the last rounds left out, dated today", 3, func(x *forger, r *rand.Rand) files {
			f := clone(x.honest)
			p, err := decode[logProofs](f[nameProofs])
			if err != nil {
				x.t.Fatal(err)
			}
			st, err := decode[Statement](f[nameInput])
			if err != nil {
				x.t.Fatal(err)
			}
			for range 1 + r.IntN(len(x.rounds)-1) {
				delete(f, roundName(st.Last))
				st.Last--
				p.Rounds = p.Rounds[:len(p.Rounds)-1]
			}
			if f[nameProofs], err = encode(p); err != nil {
				x.t.Fatal(err)
			}
			if f[nameInput], err = encode(st); err != nil {
				x.t.Fatal(err)
			}
			return x.redo(f, x.maker)
		}},
		{"history rewritten with all keys: improved", 1, func(x *forger, r *rand.Rand) files { return x.rewritten(r, improve) }},
		{"history rewritten with all keys: omitted", 1, func(x *forger, r *rand.Rand) files { return x.rewritten(r, drop) }},
		{"history rewritten with all keys: added", 1, func(x *forger, r *rand.Rand) files { return x.rewritten(r, add) }},
		{"history rewritten with all keys: back-dated", 1, func(x *forger, r *rand.Rand) files { return x.rewritten(r, backDate) }},
		{"history rewritten with all keys: a trial back-dated", 1, func(x *forger, r *rand.Rand) files { return x.rewritten(r, backDateProof) }},
		{"an older log", 1, func(x *forger, r *rand.Rand) files {
			// A bundle that was honest once, under a checkpoint from before the
			// one that the auditor has.
			old := newWorld(len(x.w.checks))
			old.live(1 + r.IntN(2))
			o := old.options()
			o.From = dawn
			return old.sealed(x.t, o, x.maker)
		}},
	}
}

// sameEnough reports whether a changed statement still says the same of all
// that the ledger or the verifying program knows.
func sameEnough(st *Statement, honest files) bool {
	was, err := decode[Statement](honest[nameInput])
	if err != nil {
		return false
	}
	return st.Format == was.Format && st.Origin == was.Origin && st.First == was.First && st.Last == was.Last && st.Catalogue == was.Catalogue &&
		st.Input.At.Equal(was.Input.At) && sameJSON(st.Input.Checks, was.Input.Checks)
}

// newForger has an honest world whose auditor took a checkpoint in the middle.
func newForger(t *testing.T) *forger {
	w := newWorld(9)
	w.live(3)
	earlier := w.signed(len(w.entries))
	w.live(2)
	x := &forger{t: t, w: w, maker: newKey(t), other: newKey(t)}
	o := w.options()
	o.Earlier, o.From = [][]byte{earlier}, dawn.Add(90*time.Second) // round 1, with the trials, is an older one
	x.honest = w.sealed(t, o, x.maker)
	x.trust = w.trust(x.maker, earlier)
	if r := mustVerify(t, x.honest, x.trust); r.Standing != Proved {
		t.Fatalf("the honest bundle is %s: %v %v", r.Standing, r.Because, r.Faults)
	}
	for n := range w.rounds {
		if _, ok := x.honest[roundName(uint64(n)+1)]; ok {
			x.rounds = append(x.rounds, uint64(n)+1)
		}
	}
	return x
}

// TestForgeriesAreRefused generates 10,000 dishonest bundles. None may pass.
func TestForgeriesAreRefused(t *testing.T) {
	cases := 10_000
	if testing.Short() {
		cases = 690
	}
	x := newForger(t)
	var kinds []forge
	for _, k := range forges() {
		for range k.often {
			kinds = append(kinds, k)
		}
	}
	var mu sync.Mutex
	refused, why := map[string]int{}, map[string]map[string]bool{}
	var wg sync.WaitGroup
	const workers = 2
	for n := range workers {
		wg.Go(func() {
			for i := n; i < cases; i += workers {
				k := kinds[i%len(kinds)]
				r := rand.New(rand.NewPCG(uint64(i), 42))
				f := k.do(x, r)
				report, err := Verify(t.Context(), asFS(f), x.trust)
				mu.Lock()
				if err != nil {
					t.Errorf("case %d, %s: %v", i, k.name, err)
				} else if report.OK() || report.Standing != Refuted {
					t.Errorf("case %d, %s: %s is accepted (%v)", i, k.name, report.Standing, report.Because)
				} else {
					refused[k.name]++
					if why[k.name] == nil {
						why[k.name] = map[string]bool{}
					}
					why[k.name][report.Faults[0]] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	total := 0
	for _, k := range forges() {
		total += refused[k.name]
		some := slices.Sorted(maps.Keys(why[k.name]))
		t.Logf("%5d  %s, for %d reasons: %.120q", refused[k.name], k.name, len(some), some[:min(1, len(some))])
	}
	if total != cases {
		t.Errorf("%d of %d dishonest bundles were refused", total, cases)
	}
}
