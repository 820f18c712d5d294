package bundle

import (
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// The facts of the record that begins a ledger (package ledger).
const (
	recordBegun = ledger.KindOriginBegun

	factOrigin       = "origin"
	factKey          = "key"
	factKept         = "kept_origin"
	factPreviousNote = "previous_checkpoint"
)

func (v *verifier) checkLogTrust() error {
	for _, k := range v.t.LogKeys {
		if _, err := logKey(k, "x"); err != nil {
			return core.E(core.Invalid, "bad-log-key", err.Error(), "give the ledger's public key as `hawser ledger key` prints it")
		}
	}
	if v.t.Earlier != nil {
		if _, err := ledger.ParseCheckpoint(v.t.Earlier); err != nil {
			return core.E(core.Invalid, "bad-checkpoint", "the earlier checkpoint cannot be read: "+err.Error(), "give a checkpoint as the server's /checkpoint or a witness shows it")
		}
		if _, err := verify.Cosignatures(v.t.Earlier, v.t.Witnesses); err != nil {
			return core.E(core.Invalid, "bad-witness", err.Error(), "give witnesses' public keys as NAME+ID+KEY, and their checkpoint unchanged")
		}
	}
	return nil
}

// log holds the ledger of the bundle against what is known from elsewhere.
func (v *verifier) log(e *evidence) {
	if len(v.t.LogKeys) > 0 && !slices.ContainsFunc(v.t.LogKeys, func(k string) bool {
		named, err := logKey(k, e.head.Origin)
		return err == nil && named == e.log.Key
	}) {
		v.bad.add("the ledger's key is not one that you trust")
	}
	v.witnessed(e, e.note, 0, e.head.Size)
	if v.t.Earlier == nil {
		v.r.Because = append(v.r.Because, "no earlier checkpoint of the ledger is known from elsewhere")
		return
	}
	parsed, err := ledger.ParseCheckpoint(v.t.Earlier)
	if err != nil {
		v.bad.add("the earlier checkpoint: %v", err)
		return
	}
	key, err := logKey(e.log.Key, parsed.Origin)
	if err != nil {
		v.bad.add("%v", err)
		return
	}
	earlier, err := verify.Signed(v.t.Earlier, key)
	if err != nil {
		v.bad.add("the earlier checkpoint is not by the key of this ledger: %v", err)
		return
	}
	if earlier.Origin != e.head.Origin {
		v.otherOrigin(e, &earlier)
		return
	}
	v.growth(e, &earlier)
	v.witnessed(e, v.t.Earlier, earlier.Size, earlier.Size)
}

// growth proves that the ledger begins with what the earlier checkpoint covers.
func (v *verifier) growth(e *evidence, earlier *verify.Checkpoint) {
	if earlier.Size > e.head.Size {
		v.bad.add("its ledger has %d entries, the earlier checkpoint covers %d: it is older, or was cut", e.head.Size, earlier.Size)
		return
	}
	var path []verify.Hash
	i := slices.IndexFunc(e.log.Grown, func(g growth) bool { return g.Size == earlier.Size })
	switch {
	case earlier.Size == e.head.Size:
	case i < 0:
		// Whoever rewrote history would leave it out.
		v.bad.add("it has no proof that its ledger begins with the %d entries of the earlier checkpoint: have it exported with that checkpoint", earlier.Size)
		return
	default:
		path = hashesOf(e.log.Grown[i].Path)
	}
	if err := verify.Consistency(earlier.Size, earlier.Root, e.head.Size, e.head.Root, path); err != nil {
		v.bad.add("its ledger does not begin with the %d entries of the earlier checkpoint: history was rewritten (%v)", earlier.Size, err)
		return
	}
	v.grown = earlier.Size > 0
}

// otherOrigin judges an earlier checkpoint of another ledger: good only when
// this one says that it continues that one after a restore, and then not proof
// of what lies between.
func (v *verifier) otherOrigin(e *evidence, earlier *verify.Checkpoint) {
	begun, err := ledger.ParseLeaf([]byte(e.log.Begun.Leaf))
	if err == nil && factOf(&begun, factKept) == earlier.Origin {
		v.r.Because = append(v.r.Because, "the ledger began anew after a restore; it says that it continues "+inert(earlier.Origin))
		return
	}
	if prev, err := ledger.ParseCheckpoint([]byte(factOf(&begun, factPreviousNote))); err == nil && prev.Origin == earlier.Origin && prev.Size >= earlier.Size {
		v.r.Because = append(v.r.Because, "the ledger began anew after a restore; it says that it continues "+inert(earlier.Origin))
		return
	}
	v.bad.add("the earlier checkpoint is of %s, the bundle of %s, which does not continue it", inert(earlier.Origin), inert(e.head.Origin))
}

// witnessed notes who cosigned a checkpoint, and holds the rounds against the
// times at which they did: what a witness saw is not later than that, and what
// it had not seen is not earlier.
func (v *verifier) witnessed(e *evidence, note []byte, from, to uint64) {
	seen, err := verify.Cosignatures(note, v.t.Witnesses)
	if err != nil {
		v.bad.add("%v", err)
		return
	}
	for _, c := range seen {
		if !slices.Contains(v.r.Witnesses, c.Witness) {
			v.r.Witnesses = append(v.r.Witnesses, c.Witness)
		}
		at := time.Unix(int64(min(c.Time, 1<<40)), 0)
		for i := range e.records {
			index, r := e.log.Rounds[i].Index, &e.records[i]
			if index < to && r.closed.After(at.Add(clockSlack)) {
				v.bad.add("round %d says that it closed at %s, %s saw it in the ledger before that", r.number, stamp(r.closed), inert(c.Witness))
			}
			if from > 0 && index >= from && r.closed.Before(at.Add(-clockSlack)) {
				v.bad.add("round %d says that it closed at %s, but was not yet in the ledger when %s looked after that: it was back-dated", r.number, stamp(r.closed), inert(c.Witness))
			}
		}
	}
}

func factOf(r *core.Record, name string) string {
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// began checks the record that begins the ledger; continued reports whether it
// says that it continues another.
func (e *evidence) checkBegun(bad *faults) (continued bool) {
	b := e.log.Begun
	if b == nil {
		bad.add("it does not say how the ledger began")
		return false
	}
	if err := b.included(&e.head); err != nil || b.Index != 0 {
		bad.add("what it says of how the ledger began is not entry 0 of it")
		return false
	}
	r, err := ledger.ParseLeaf([]byte(b.Leaf))
	if err != nil || r.Kind != recordBegun || factOf(&r, factOrigin) != e.head.Origin || factOf(&r, factKey) != e.log.Key {
		bad.add("entry 0 of the ledger does not begin it")
		return false
	}
	return factOf(&r, factKept) != ""
}
