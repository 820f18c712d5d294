package bundle

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// logProofs is log/proofs.json.
type logProofs struct {
	// Key is the ledger's public key, NAME+ID+KEY, NAME being the origin.
	Key string `json:"key"`
	// Begun is how the ledger began: its entry 0.
	Begun *inclusion `json:"begun"`
	// Rounds are the records of all rounds, without a gap, up to the last of the
	// period. They begin before it: with the round just before, whose end bounds
	// the first one's times, or with the oldest proof that still counts.
	Rounds []inclusion `json:"rounds"`
	// Waivers are all records of waivers that the ledger holds.
	Waivers []inclusion `json:"waivers"`
	// Grown shows that the ledger began with what earlier checkpoints covered.
	Grown []growth `json:"grown"`
}

// inclusion shows that a leaf is an entry of the ledger.
type inclusion struct {
	Index uint64  `json:"index"`
	Leaf  string  `json:"leaf"` // the record itself, in its canonical form
	Path  []proof `json:"path"`
}

type growth struct {
	Size uint64  `json:"size"`
	Path []proof `json:"path"`
}

// proof is a hash of the tree, in base64 as in checkpoints.
type proof core.Hash

func (p proof) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, p[:]), nil
}

func (p *proof) UnmarshalText(b []byte) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(string(b))
	if err != nil || len(raw) != len(p) {
		return fmt.Errorf("%q is no hash", inert(string(b)))
	}
	copy(p[:], raw)
	return nil
}

func proofsOf(hs []core.Hash) []proof {
	out := make([]proof, len(hs))
	for i, h := range hs {
		out[i] = proof(h)
	}
	return out
}

func hashesOf(ps []proof) []verify.Hash {
	out := make([]verify.Hash, len(ps))
	for i, p := range ps {
		out[i] = verify.Hash(p)
	}
	return out
}

// included reports whether the leaf is where it says under a checkpoint.
func (i *inclusion) included(head *verify.Checkpoint) error {
	return verify.Inclusion([]byte(i.Leaf), i.Index, head.Size, hashesOf(i.Path), head.Root)
}

// roundRecord is what the ledger holds of a round.
type roundRecord struct {
	number       uint64
	closed       time.Time
	digest       core.Hash
	previous     core.Hash
	observations int
	proofs       int
	failing      int
	waivers      int // records of waivers before it; -1: of a version that did not count them
}

// parseRecord reads the record of a round: the facts of that kind, in their
// order, and no others.
func parseRecord(leaf []byte) (roundRecord, error) {
	var r roundRecord
	rec, err := ledger.ParseLeaf(leaf)
	if err != nil {
		return r, err
	}
	if rec.Kind != assurance.RecordObserved || rec.Actor.Kind != core.ActorJob {
		return r, fmt.Errorf("it is the record of something else (%s by %s)", inert(string(rec.Kind)), inert(rec.Actor.String()))
	}
	r.closed = rec.Time
	var number uint64
	want := []struct {
		name string
		into any
	}{
		{"round", &number},
		{"digest", &r.digest},
		{"previous", &r.previous},
		{"observations", &r.observations},
		{"proofs", &r.proofs},
		{"failing", &r.failing},
		{"waivers", &r.waivers},
	}
	if len(rec.Facts) == len(want)-1 {
		r.waivers, want = -1, want[:len(want)-1]
	}
	if len(rec.Facts) != len(want) {
		return r, fmt.Errorf("it has %d facts, not %d", len(rec.Facts), len(want))
	}
	for i, w := range want {
		f := rec.Facts[i]
		if f.Name != w.name {
			return r, fmt.Errorf("it has the fact %q where %q belongs", inert(f.Name), w.name)
		}
		switch into := w.into.(type) {
		case *core.Hash:
			*into, err = core.ParseHash(f.Value)
		case *int:
			*into, err = strconv.Atoi(f.Value)
			if err == nil && (*into < 0 || strconv.Itoa(*into) != f.Value) {
				err = fmt.Errorf("%q is no count", inert(f.Value))
			}
		case *uint64:
			*into, err = strconv.ParseUint(f.Value, 10, 63)
		}
		if err != nil {
			return r, fmt.Errorf("its fact %s: %w", f.Name, err)
		}
	}
	r.number = number
	return r, nil
}

// logKey is the public key of a ledger under the name of an origin: every
// origin has its own name for the same key.
func logKey(text, origin string) (string, error) {
	_, rest, _ := strings.Cut(text, "+")
	_, b64, ok := strings.Cut(rest, "+") // base64 has a plus, too
	raw, err := base64.StdEncoding.Strict().DecodeString(b64)
	if !ok || err != nil || len(raw) != 33 || raw[0] != 1 {
		return "", fmt.Errorf("%q is no ledger's key: it must read NAME+ID+KEY", inert(text))
	}
	return ledger.VerifierKey(origin, raw[1:]), nil
}
