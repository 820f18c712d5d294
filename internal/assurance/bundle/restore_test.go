package bundle

import (
	"strings"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestAfterARestore: the ledger began anew under another name. The bundle holds
// together, but an earlier checkpoint of the old ledger proves it only as far as
// the new one's word goes; a stranger's does not at all.
func TestAfterARestore(t *testing.T) {
	old, k := newWorld(5), newKey(t)
	old.live(4)
	earlier := old.signed(len(old.entries))

	anew := func(kept ...core.Fact) *world {
		w := newWorld(5)
		w.origin, w.entries, w.hashes, w.now = "maker.example/ledger/2", nil, nil, old.now
		w.record(core.Record{Time: w.now, Kind: recordBegun, Actor: core.Job("ledger"), Facts: append([]core.Fact{
			{Name: factOrigin, Value: w.origin}, {Name: factKey, Value: w.VerifierKey()},
		}, kept...)})
		w.rounds = append(w.rounds, old.rounds...)
		w.live(3)
		return w
	}
	w := anew(core.Fact{Name: factKept, Value: old.origin}, core.Fact{Name: factPreviousNote, Value: string(earlier)})
	f := w.sealed(t, w.options(), k)
	r := mustVerify(t, f, w.trust(k, earlier))
	if r.Standing != SelfConsistent || r.First != 7 || !strings.Contains(strings.Join(r.Because, ""), "began anew after a restore") {
		t.Errorf("after a restore: %s, from round %d, because %v, %v", r.Standing, r.First, r.Because, r.Faults)
	}
	o := w.options()
	o.From = dawn
	if r := mustVerify(t, w.sealed(t, o, k), w.trust(k, w.signed(len(w.entries)))); r.Standing != Proved || r.First != 5 {
		t.Errorf("all that the new ledger has: %s, from round %d, %v", r.Standing, r.First, r.Faults)
	}

	// A ledger that does not say that it continues another must begin with
	// round 1, and knows nothing of the old one.
	w = anew()
	o = w.options()
	o.From = dawn
	if _, err := Collect(t.Context(), o); core.ReasonOf(err) != "evidence-altered" {
		t.Errorf("a ledger that begins in the middle: %v", err)
	}
	if r := mustVerify(t, f, w.trust(k, otherLog().signed(1))); r.OK() {
		t.Error("a stranger's checkpoint proves something")
	}
	stranger := newWorld(1)
	stranger.origin = "maker.example/other" // under the same key
	if r := mustVerify(t, f, w.trust(k, stranger.signed(1))); r.OK() || !strings.Contains(r.Faults[0], "does not continue it") {
		t.Errorf("a checkpoint of another ledger of the same key: %s, %v", r.Standing, r.Faults)
	}
}
