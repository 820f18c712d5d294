package bundle

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/assurance"
	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/ledger/verify"
)

// How far times may stray. An observation is kept within moments of being
// taken; a proof is kept when all trials of a selftest are through; clocks of
// witnesses and of servers differ.
const (
	observationSlack = 2 * time.Minute
	proofSlack       = time.Hour
	clockSlack       = 5 * time.Minute
)

const maxFaults = 100

// faults gathers what is wrong.
type faults struct{ list []string }

func (f *faults) add(format string, args ...any) {
	if len(f.list) < maxFaults {
		f.list = append(f.list, fmt.Sprintf(format, args...))
	}
}

// evidence is what the given files of a bundle say, read and held against each
// other.
type evidence struct {
	Statement
	log       logProofs
	head      verify.Checkpoint
	note      []byte
	records   []roundRecord // of log.Rounds
	fold      *fold
	samplings []sample
	continued bool // the ledger says that it continues another
	rounds    int  // in the bundle, older ones too
	last      core.Hash
	state     assurance.State
	claims    []assurance.ClaimState
}

// open reads the given files and checks all that can be checked without
// knowing anything from elsewhere. It is nil where there is nothing to go on
// with; what is wrong is added to bad.
func open(f files, bad *faults) *evidence {
	e := &evidence{fold: newFold()}
	st, err := decode[Statement](f[nameInput])
	if err != nil {
		bad.add("%s cannot be read: %v", nameInput, err)
		return nil
	}
	e.Statement = *st
	log, err := decode[logProofs](f[nameProofs])
	if err != nil {
		bad.add("%s cannot be read: %v", nameProofs, err)
		return nil
	}
	e.log, e.note = *log, f[nameCheckpoint]
	if e.head, err = verify.Signed(e.note, log.Key); err != nil {
		bad.add("%s: %v", nameCheckpoint, err)
		return nil
	}
	if e.head.Origin != e.Origin {
		bad.add("the checkpoint is of %s, the statement of %s", inert(e.head.Origin), inert(e.Origin))
	}
	if e.Format != format {
		bad.add("the bundle is of form %d, this program reads %d", e.Format, format)
		return nil
	}
	if !e.readRecords(bad) {
		return nil
	}
	e.readWaivers(bad)
	e.readRounds(f, bad)
	if e.samplings, err = openSamplings(f, &e.head); err != nil {
		bad.add("%s: %v", nameSampling, err)
	}
	if len(bad.list) == 0 { // verdicts that rest on faults are worth nothing
		e.state = e.judge(e.fold)
		e.claims = e.judged(&e.state)
	}
	return e
}

// readRecords checks that the record of every round is in the ledger, and that
// they follow one another. It is false where rounds cannot be told apart.
func (e *evidence) readRecords(bad *faults) bool {
	continued := e.checkBegun(bad)
	e.continued = continued
	for i := range e.log.Rounds {
		x := &e.log.Rounds[i]
		r, err := parseRecord([]byte(x.Leaf))
		if err != nil {
			bad.add("record %d of a round: %v", i, err)
			return false
		}
		if err := x.included(&e.head); err != nil {
			bad.add("the record of round %d is not in the ledger: %v", r.number, err)
		}
		if i > 0 {
			prev := &e.records[i-1]
			switch {
			case r.number != prev.number+1:
				bad.add("the record of round %d follows that of round %d", r.number, prev.number)
				return false
			case r.previous != prev.digest:
				bad.add("round %d does not follow the round %d that the ledger holds", r.number, prev.number)
			case r.closed.Before(prev.closed):
				bad.add("round %d closed before round %d: a clock was set back, or it was back-dated", r.number, prev.number)
			case x.Index <= e.log.Rounds[i-1].Index:
				bad.add("the ledger holds round %d before round %d", r.number, prev.number)
			}
		} else if r.number == 1 && !r.previous.IsZero() {
			bad.add("round 1 follows another")
		}
		e.records = append(e.records, r)
	}
	n := len(e.records)
	switch {
	case n == 0:
		bad.add("it holds no round")
		return false
	case e.First < e.records[0].number || e.First > e.Last || e.records[n-1].number != e.Last:
		bad.add("rounds %d to %d are stated, records of rounds %d to %d are there", e.First, e.Last, e.records[0].number, e.records[n-1].number)
		return false
	case e.First == e.records[0].number && e.First != 1 && !continued:
		// Only a ledger that continues another does not hold it.
		bad.add("the record of round %d, just before the period, is left out", e.First-1)
	}
	if closed := e.records[n-1].closed; !e.Input.At.Equal(closed) {
		bad.add("the verdicts are of %s, the last round closed at %s", e.Input.At, closed)
	}
	return true
}

// readWaivers checks that the records of waivers are in the ledger, that none
// is left out, and that every waiver in force is what they say of it.
func (e *evidence) readWaivers(bad *faults) {
	for i := range e.log.Waivers {
		x := &e.log.Waivers[i]
		if i > 0 && x.Index <= e.log.Waivers[i-1].Index {
			bad.add("record %d of a waiver stands twice, or before the one before it", i)
			return
		}
		rec, err := ledger.ParseLeaf([]byte(x.Leaf))
		if err != nil {
			bad.add("record %d of a waiver cannot be read: %v", i, err)
			continue
		}
		w, err := assurance.ParseWaiverRecord(&rec)
		if err != nil {
			bad.add("record %d of a waiver: %v", i, err)
			continue
		}
		if err := x.included(&e.head); err != nil {
			bad.add("record %d of waiver %s is not in the ledger: %v", i, inert(w.Waiver), err)
			continue
		}
		e.Input.Recorded = append(e.Input.Recorded, w)
	}
	// Those of before a restore are counted and cannot be shown: how many there
	// were is the same for all rounds, and none where nothing was before.
	earlier, known := 0, !e.continued
	for i := range e.records {
		says := e.records[i].waivers
		if says < 0 {
			continue
		}
		before, _ := slices.BinarySearchFunc(e.log.Waivers, e.log.Rounds[i].Index, func(x inclusion, at uint64) int { return cmp.Compare(x.Index, at) })
		if !known && says >= before {
			earlier, known = says-before, true
		}
		if says != earlier+before {
			bad.add("round %d says that the ledger held %d records of waivers, %d are shown", e.records[i].number, says, earlier+before)
		}
	}
	for i := range e.Input.Waivers {
		if why := e.Input.Waivers[i].Altered(e.Input.Recorded, e.Input.At); why != "" {
			bad.add("waiver %s: %s", inert(e.Input.Waivers[i].ID), why)
		}
	}
}

// readRounds checks that each round is the one that its record names, that
// none is missing, and that nothing in it lies about when it was seen.
func (e *evidence) readRounds(f files, bad *faults) {
	have := 0
	for i := range e.records {
		rec := &e.records[i]
		name := roundName(rec.number)
		before := rec.number < e.First
		if before {
			name = olderName(rec.number)
		}
		b, there := f[name]
		switch {
		case there:
			have++
		case !before:
			bad.add("round %d is missing", rec.number)
			continue
		case rec.proofs > 0:
			bad.add("round %d is missing: it holds proofs", rec.number)
			continue
		default:
			continue
		}
		if check.DigestOf(b) != rec.digest {
			bad.add("round %d is not the one that the ledger holds", rec.number)
			continue
		}
		r, err := check.ParseRound(b)
		if err != nil {
			bad.add("%v", err)
			continue
		}
		e.heldAgainst(r, rec, i, bad)
		e.rounds++
		e.last = rec.digest
		if before {
			e.fold.older(r)
		} else {
			e.fold.round(r)
		}
	}
	for name := range f {
		if isRound(name) {
			have--
		}
	}
	if have < 0 {
		bad.add("it has %d rounds that are not of the period, or twice", -have)
	}
}

// heldAgainst compares a round with its record.
func (e *evidence) heldAgainst(r *check.Round, rec *roundRecord, i int, bad *faults) {
	failing := 0
	for j := range r.Observations {
		if r.Observations[j].Outcome == check.Fail {
			failing++
		}
	}
	if r.Number != rec.number || !r.Closed.Equal(rec.closed) || r.Previous != rec.previous ||
		len(r.Observations) != rec.observations || len(r.Proofs) != rec.proofs || failing != rec.failing {
		bad.add("round %d is not what its record in the ledger says of it", rec.number)
	}
	var opened time.Time // when the round before closed; zero: not known, or there was none
	if i > 0 {
		opened = e.records[i-1].closed
	}
	within := func(t time.Time, slack time.Duration) bool {
		return (opened.IsZero() || !t.Before(opened.Add(-slack))) && !t.After(rec.closed.Add(observationSlack))
	}
	for j := range r.Observations {
		o := &r.Observations[j]
		if !within(o.Taken, observationSlack) || o.Began.After(o.Taken) {
			bad.add("round %d: the observation of %s is dated %s, not between the end of the round before and of its own", r.Number, inert(o.Check), o.Taken)
		}
		if why := incoherent(o); why != "" {
			bad.add("round %d: the observation of %s %s", r.Number, inert(o.Check), why)
		}
	}
	for j := range r.Proofs {
		if p := &r.Proofs[j]; !within(p.Taken, proofSlack) {
			bad.add("round %d: the proof of %s by %s is dated %s, not between the end of the round before and of its own", r.Number, inert(p.Check), inert(p.Violation), p.Taken)
		}
	}
}

// incoherent says why the counts of an observation do not allow its outcome:
// check.Take never makes such a one.
func incoherent(o *check.Observation) string {
	if o.Population < 0 || o.Passing < 0 || o.Failing < 0 || o.Excluded < 0 {
		return "counts less than nothing"
	}
	switch o.Outcome {
	case check.Pass:
		if o.Failing > 0 || o.Passing == 0 || o.Passing+o.Excluded != o.Population || len(o.Touched) == 0 || o.Error != "" {
			return "passes, and its counts do not"
		}
	case check.Fail:
		if o.Failing == 0 {
			return "fails, and nothing of it does"
		}
	case check.Empty:
		if o.Passing > 0 || o.Failing > 0 {
			return "says that there was nothing, and counts something"
		}
	case check.Error:
		if o.Error == "" {
			return "could not look and does not say why"
		}
	default:
		return "has an outcome that there is not"
	}
	return ""
}
