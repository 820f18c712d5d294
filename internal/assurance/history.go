package assurance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/check"
	"github.com/hawser-iot/hawser/internal/core"
)

// line is one observation or proof on its way into a round.
type line struct {
	Observation *check.Observation `json:"o,omitempty"`
	Proof       *check.Proof       `json:"p,omitempty"`
}

func encodeLines(observed []check.Observation, proofs []check.Proof) ([][]byte, error) {
	var out [][]byte
	add := func(l line) error {
		b, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("encode an observation: %w", err)
		}
		out = append(out, b)
		return nil
	}
	for i := range observed {
		if err := add(line{Observation: &observed[i]}); err != nil {
			return nil, err
		}
	}
	for i := range proofs {
		if err := add(line{Proof: &proofs[i]}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func decodeLine(b []byte) (line, error) {
	var l line
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return l, fmt.Errorf("read an observation: %w", err)
	}
	if (l.Observation == nil) == (l.Proof == nil) {
		return l, fmt.Errorf("read an observation: it is neither an observation nor a proof")
	}
	return l, nil
}

// sortLines takes what waited apart, and names the newest of each key.
func sortLines(lines [][]byte, round uint64) (observed []check.Observation, proofs []check.Proof, latest []Latest, err error) {
	newest := map[string]int{}
	for _, b := range lines {
		l, err := decodeLine(b)
		if err != nil {
			return nil, nil, nil, err
		}
		key := ""
		if l.Observation != nil {
			observed = append(observed, *l.Observation)
			key = "o/" + l.Observation.Check
		} else {
			proofs = append(proofs, *l.Proof)
			key = "p/" + l.Proof.Check + "/" + l.Proof.Violation
		}
		if i, ok := newest[key]; ok {
			latest[i].Line = b
			continue
		}
		newest[key] = len(latest)
		latest = append(latest, Latest{Key: key, Round: round, Line: b})
	}
	return observed, proofs, latest, nil
}

// load brings back the newest evidence after a start.
func (s *Service) load(ctx context.Context) error {
	var latest []Latest
	var pending [][]byte
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		if s.last, err = tx.LastRound(ctx); err != nil && core.KindOf(err) != core.Unknown {
			return err
		}
		if latest, err = tx.LatestEvidence(ctx); err != nil {
			return err
		}
		pending, err = tx.Pending(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("load evidence: %w", err)
	}
	if err := s.countWaivers(ctx); err != nil {
		return err
	}
	rounds := map[uint64][]Latest{}
	for _, l := range latest {
		rounds[l.Round] = append(rounds[l.Round], l)
	}
	for number, list := range rounds {
		if err := s.hold(ctx, number, list); err != nil {
			return err
		}
	}
	for _, b := range pending {
		l, err := decodeLine(b)
		if err != nil {
			s.breaks("an observation that waits for its round cannot be read: %v", err)
			continue
		}
		s.pending = append(s.pending, b)
		s.takeLine(l)
	}
	return nil
}

// countWaivers counts the ledger's records of waivers, and holds the number
// against what the last round says: a record that is not found any more could
// be the one that took a waiver back.
func (s *Service) countWaivers(ctx context.Context) error {
	all, err := s.d.Ledger.Waivers(ctx)
	if err != nil {
		s.breaks("the ledger's records of waivers cannot be read: %v", err)
		return nil
	}
	s.waivers = len(all)
	if s.last.Number == 0 {
		return nil
	}
	rec, err := s.d.Ledger.Round(ctx, s.last.Number, s.last.From)
	switch {
	case err != nil: // hold says so
	case rec.Waivers > s.waivers:
		s.breaks("round %d says that the ledger held %d records of waivers, %d are found", s.last.Number, rec.Waivers, s.waivers)
		s.waivers = rec.Waivers
	}
	return nil
}

func (s *Service) takeLine(l line) {
	if l.Observation != nil {
		s.take([]check.Observation{*l.Observation}, nil)
	} else {
		s.take(nil, []check.Proof{*l.Proof})
	}
}

// hold takes what is said to be of a round, if it is, and the round is the one
// that the ledger holds.
func (s *Service) hold(ctx context.Context, number uint64, list []Latest) error {
	var kept []StoredRound
	if err := s.d.View(ctx, func(tx Tx) (err error) { kept, err = tx.Rounds(ctx, number, 1); return err }); err != nil {
		return fmt.Errorf("load round %d: %w", number, err)
	}
	if len(kept) == 0 || kept[0].Number != number {
		s.breaks("round %d, which evidence comes from, is gone", number)
		return nil
	}
	r, why := s.examine(ctx, &kept[0])
	if why != "" {
		s.breaks("%s", why)
		return nil
	}
	lines, err := encodeLines(r.Observations, r.Proofs)
	if err != nil {
		return err
	}
	for _, l := range list {
		if !slices.ContainsFunc(lines, func(b []byte) bool { return bytes.Equal(b, l.Line) }) {
			s.breaks("the newest evidence of %s is not what round %d holds", l.Key[2:], number)
			continue
		}
		x, err := decodeLine(l.Line)
		if err != nil {
			s.breaks("the newest evidence of %s cannot be read: %v", l.Key[2:], err)
			continue
		}
		s.takeLine(x)
	}
	return nil
}

// examine says what is wrong with a stored round, if anything: its bytes, or
// that the ledger holds another.
func (s *Service) examine(ctx context.Context, kept *StoredRound) (*check.Round, string) {
	if check.DigestOf(kept.Encoded) != kept.Digest {
		return nil, fmt.Sprintf("round %d was changed: its digest does not fit", kept.Number)
	}
	r, err := check.ParseRound(kept.Encoded)
	if err != nil {
		return nil, fmt.Sprintf("round %d cannot be read: %v", kept.Number, err)
	}
	if r.Number != kept.Number {
		return nil, fmt.Sprintf("round %d says that it is round %d", kept.Number, r.Number)
	}
	rec, err := s.d.Ledger.Round(ctx, kept.Number, kept.From)
	switch {
	case core.KindOf(err) == core.Unknown && err != nil:
		return nil, fmt.Sprintf("the ledger has no record of round %d", kept.Number)
	case err != nil:
		return nil, fmt.Sprintf("the ledger cannot say what round %d was: %v", kept.Number, err)
	case rec.Digest != kept.Digest:
		return nil, fmt.Sprintf("round %d is not the one that the ledger holds", kept.Number)
	}
	return r, ""
}

// Examine walks the rounds that closed since a time, holds each against the
// one before and against the ledger, and returns how many it saw. While
// anything is wrong, everything is tampered.
func (s *Service) Examine(ctx context.Context, since time.Time) (seen int, wrong []string, err error) {
	const page = 64
	last := s.LastRound() // one that closes while this walks is looked at next time
	var from uint64
	if err := s.d.View(ctx, func(tx Tx) (err error) { from, err = tx.RoundAt(ctx, since); return err }); err != nil {
		return 0, nil, fmt.Errorf("find rounds: %w", err)
	}
	var before *StoredRound
	for from > 0 {
		var kept []StoredRound
		if err := s.d.View(ctx, func(tx Tx) (err error) { kept, err = tx.Rounds(ctx, from, page); return err }); err != nil {
			return seen, wrong, fmt.Errorf("read rounds: %w", err)
		}
		for i := range kept {
			r, why := s.examine(ctx, &kept[i])
			if why == "" && before != nil && (r.Previous != before.Digest || r.Number != before.Number+1) {
				why = fmt.Sprintf("round %d does not follow round %d", r.Number, before.Number)
			}
			if why != "" {
				wrong = append(wrong, why)
			}
			seen++
			before = &kept[i]
		}
		if len(kept) < page {
			break
		}
		from = kept[len(kept)-1].Number + 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before == nil && last.Number > 0 && !last.Closed.Before(since) || before != nil && before.Number < last.Number {
		wrong = append(wrong, fmt.Sprintf("round %d, the newest, is gone", last.Number))
	}
	s.examined = wrong
	return seen, wrong, nil
}

// Rounds are up to limit closed rounds from a number on, as they are kept.
func (s *Service) Rounds(ctx context.Context, from uint64, limit int) (out []StoredRound, err error) {
	err = s.d.View(ctx, func(tx Tx) error { out, err = tx.Rounds(ctx, from, limit); return err })
	return out, err
}

// RoundAt is the number of the first round that closed at or after t; 0: none.
func (s *Service) RoundAt(ctx context.Context, t time.Time) (n uint64, err error) {
	err = s.d.View(ctx, func(tx Tx) error { n, err = tx.RoundAt(ctx, t); return err })
	return n, err
}

// Seen is one observation in the history of a check.
type Seen struct {
	Round       uint64 // 0: waits for its round
	Observation check.Observation
}

// History is what a check saw lately, newest first, out of at most 512 rounds.
func (s *Service) History(ctx context.Context, id string, limit int) ([]Seen, error) {
	const depth, page = 512, 64
	s.mu.Lock()
	last, waiting := s.last.Number, slices.Clone(s.pending)
	s.mu.Unlock()
	var out []Seen
	for _, b := range slices.Backward(waiting) {
		if l, err := decodeLine(b); err == nil && l.Observation != nil && l.Observation.Check == id {
			out = append(out, Seen{0, *l.Observation})
		}
	}
	for end := last; end > 0 && last-end < depth && len(out) < limit; {
		from := uint64(1)
		if end >= page {
			from = end - page + 1
		}
		kept, err := s.Rounds(ctx, from, int(end-from+1))
		if err != nil {
			return nil, fmt.Errorf("read history of %s: %w", id, err)
		}
		for i := range slices.Backward(kept) {
			r, err := check.ParseRound(kept[i].Encoded)
			if err != nil {
				continue // Examine says so
			}
			for j := range slices.Backward(r.Observations) {
				if r.Observations[j].Check == id {
					out = append(out, Seen{r.Number, r.Observations[j]})
				}
			}
		}
		end = from - 1
	}
	return out[:min(limit, len(out))], nil
}
