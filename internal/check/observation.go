package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Outcome is what one run of a check came to.
type Outcome string

// The outcomes.
const (
	Pass  Outcome = "pass"
	Fail  Outcome = "fail"
	Error Outcome = "error" // it could not look, or did not look at all there is
	Empty Outcome = "empty" // there was nothing to look at: proves nothing
)

// Observation is what one run of a check saw. Observations are only ever
// added, never changed.
type Observation struct {
	Check   string    `json:"check"`
	Version int       `json:"version"`
	Kind    Kind      `json:"kind"`
	Program string    `json:"program"` // version of the program that looked
	Began   time.Time `json:"began"`
	Taken   time.Time `json:"taken"`
	Expires time.Time `json:"expires"` // Began and the check's MaxAge
	// Source is where Population comes from; never what was looked at.
	Source     string    `json:"source,omitempty"`
	Population int       `json:"population"`
	Passing    int       `json:"passing"`
	Failing    int       `json:"failing"`
	Excluded   int       `json:"excluded"`
	Findings   []Finding `json:"findings,omitempty"` // of the failing, at most MaxFindings
	Left       []Finding `json:"left,omitempty"`     // of the excluded, at most MaxFindings
	Touched    []Touch   `json:"touched,omitempty"`
	Outcome    Outcome   `json:"outcome"`
	Error      string    `json:"error,omitempty"`
}

// Proof says that a check was seen to turn red by one of its violations, on a
// twin, and to be green before and after.
type Proof struct {
	Check     string    `json:"check"`
	Version   int       `json:"version"`
	Program   string    `json:"program"`
	Violation string    `json:"violation"`
	Taken     time.Time `json:"taken"`
	Expires   time.Time `json:"expires"`
	Before    Outcome   `json:"before"`
	Red       Outcome   `json:"red"`
	After     Outcome   `json:"after"`
	Saw       string    `json:"saw"` // what the check said while it was red
	Touched   []Touch   `json:"touched,omitempty"`
	Error     string    `json:"error,omitempty"` // what went wrong with the trial itself
}

// ProofAge is how long a proof counts. Trials are repeated weekly and with
// every new version of the program.
const ProofAge = 8 * 24 * time.Hour

// OK reports whether the proof proves: green, red, green.
func (p *Proof) OK() bool {
	return p.Error == "" && p.Before == Pass && p.Red == Fail && p.After == Pass
}

// Round is everything that was observed since the round before. Its digest
// stands in the ledger, so that an observation can neither be changed, nor
// left out, nor added later.
type Round struct {
	Number       uint64        `json:"round"`
	Closed       time.Time     `json:"closed"`
	Previous     core.Hash     `json:"-"` // digest of the round before; zero in the first
	Observations []Observation `json:"-"`
	Proofs       []Proof       `json:"-"`
}

// MaxRoundBytes bounds an encoded round, ours or a stranger's.
const MaxRoundBytes = 8 << 20

type roundHead struct {
	Round        uint64    `json:"round"`
	Closed       time.Time `json:"closed"`
	Previous     string    `json:"previous"`
	Observations int       `json:"observations"`
	Proofs       int       `json:"proofs"`
}

// Encode is the round as lines of JSON: a head, the observations, the proofs.
// Equal rounds have equal bytes.
func (r *Round) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	line := func(v any) error {
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("encode round %d: %w", r.Number, err)
		}
		return nil
	}
	head := roundHead{Round: r.Number, Closed: r.Closed, Previous: r.Previous.String(), Observations: len(r.Observations), Proofs: len(r.Proofs)}
	if err := line(head); err != nil {
		return nil, err
	}
	for i := range r.Observations {
		if err := line(&r.Observations[i]); err != nil {
			return nil, err
		}
	}
	for i := range r.Proofs {
		if err := line(&r.Proofs[i]); err != nil {
			return nil, err
		}
	}
	if b.Len() > MaxRoundBytes {
		return nil, fmt.Errorf("encode round %d: %d bytes, more than %d", r.Number, b.Len(), MaxRoundBytes)
	}
	return b.Bytes(), nil
}

// DigestOf is the digest of an encoded round, as the ledger holds it.
func DigestOf(encoded []byte) core.Hash { return sha256.Sum256(encoded) }

// ParseRound reads an encoded round. It takes exactly what Encode writes and
// nothing that merely means the same.
func ParseRound(b []byte) (*Round, error) {
	if len(b) > MaxRoundBytes {
		return nil, fmt.Errorf("read round: %d bytes, more than %d", len(b), MaxRoundBytes)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	if n := len(lines); n < 2 || len(lines[n-1]) != 0 {
		return nil, fmt.Errorf("read round: the last line has no end")
	}
	lines = lines[:len(lines)-1]
	var h roundHead
	if err := strict(lines[0], &h); err != nil {
		return nil, fmt.Errorf("read head of round: %w", err)
	}
	prev, err := core.ParseHash(h.Previous)
	if err != nil {
		return nil, fmt.Errorf("read head of round: %w", err)
	}
	if h.Observations < 0 || h.Proofs < 0 || h.Observations > len(lines) || len(lines)-1 != h.Observations+h.Proofs {
		return nil, fmt.Errorf("read round %d: it has %d lines, its head says %d and %d", h.Round, len(lines)-1, h.Observations, h.Proofs)
	}
	r := &Round{Number: h.Round, Closed: h.Closed, Previous: prev}
	for i, l := range lines[1:] {
		if i < h.Observations {
			var o Observation
			if err := strict(l, &o); err != nil {
				return nil, fmt.Errorf("read observation %d of round %d: %w", i, h.Round, err)
			}
			r.Observations = append(r.Observations, o)
			continue
		}
		var p Proof
		if err := strict(l, &p); err != nil {
			return nil, fmt.Errorf("read proof %d of round %d: %w", i-h.Observations, h.Round, err)
		}
		r.Proofs = append(r.Proofs, p)
	}
	again, err := r.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("read round %d: it is not in the form in which rounds are written", h.Round)
	}
	return r, nil
}

func strict(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
