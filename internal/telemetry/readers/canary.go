package readers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// RecordCanary records how a canary ended.
const RecordCanary core.RecordKind = "service-canary-ended"

// Times of canaries.
const (
	CanaryEvery  = 24 * time.Hour      // after one has ended the next is planted
	CanaryRest   = 10 * time.Minute    // between its steps: a service needs time to store, and to erase
	CanaryCounts = 8 * 24 * time.Hour  // how long one that came back proves something
	canaryAge    = 30 * 24 * time.Hour // one of which nothing came is given up
)

// canaryReadings are planted together, a minute apart.
const canaryReadings = 3

// Canaries is the job that keeps one canary going in each stream that is read:
// readings of a subject that never was are planted, the service is asked for it
// and has it, is ordered to erase it, and is asked again (CC 4.8). What is
// planted looks like a device's. Each question is asked of somebody real as
// well, so that being asked says nothing.
func (s *Service) Canaries(ctx context.Context) error {
	var streams []Seen
	var all []Canary
	s.mu.RLock()
	var names []string
	for n, r := range s.readers {
		if r.Revoked.IsZero() {
			names = append(names, n)
		}
	}
	s.mu.RUnlock()
	slices.Sort(names)
	err := s.d.View(ctx, func(tx Tx) (err error) {
		for _, n := range names {
			seen, err := tx.SeenBy(ctx, n)
			if err != nil {
				return err
			}
			streams = append(streams, seen...)
		}
		all, err = tx.ReaderCanaries(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("canaries: %w", err)
	}
	now := micro(s.d.Now())
	for _, x := range streams {
		var last *Canary
		open := false
		for i := range all {
			c := &all[i]
			if c.Reader != x.Reader || c.Product != x.Product {
				continue
			}
			if !c.State.Ended() {
				open = true
				if err := s.further(ctx, c, &x, now); err != nil {
					return fmt.Errorf("canary of %s: %w", x.Reader, err)
				}
				continue
			}
			last = c
		}
		if open || now.Sub(x.At) > CanaryEvery || last != nil && now.Sub(last.Changed) < CanaryEvery {
			continue
		}
		if err := s.plant(ctx, &x, now); err != nil {
			return fmt.Errorf("plant a canary with %s: %w", x.Reader, err)
		}
	}
	return nil
}

// plant puts readings of nobody into a stream.
func (s *Service) plant(ctx context.Context, x *Seen, now time.Time) error {
	v, err := s.view(ctx, x.Reader, x.Product)
	if core.KindOf(err) == core.Denied {
		return nil // it reads nothing there any more
	}
	if err != nil {
		return err
	}
	in, err := s.d.Current(ctx)
	if err != nil {
		return err
	}
	var p *declaration.Policy
	for _, q := range in {
		if q.Product == x.Product {
			p = q
		}
	}
	if p == nil || p.Hash != v.Current {
		return nil // another one came in force just now
	}
	c := Canary{Reader: x.Reader, Product: x.Product, State: Planted, Changed: now}
	_, _ = rand.Read(c.Alias[:]) // crypto/rand.Read never fails
	lines, err := madeUp(p, v.Fields, c.Alias, now)
	if err != nil || len(lines) == 0 {
		return err
	}
	err = s.d.Update(ctx, func(tx Tx) error {
		for _, l := range lines {
			e := Event{Reader: x.Reader, Product: x.Product, ID: newID(), Kind: Made, Alias: c.Alias, Body: l, At: now}
			if err := tx.AddReaderEvent(ctx, &e); err != nil {
				return err
			}
			c.Event = e.Number
		}
		return tx.PutReaderCanary(ctx, c)
	})
	if err == nil {
		s.wakeAll()
	}
	return err
}

// further takes a canary one step on, if its time has come.
func (s *Service) further(ctx context.Context, c *Canary, x *Seen, now time.Time) error {
	s.mu.RLock()
	r := s.readers[c.Reader]
	s.mu.RUnlock()
	woken := false
	err := s.d.Update(ctx, func(tx Tx) error {
		e, found, err := tx.ReaderEventAt(ctx, c.Reader, c.Event)
		if err != nil {
			return err
		}
		rested := now.Sub(c.Changed) >= CanaryRest
		order := func(kind EventKind, next CanaryState) error {
			e := Event{Reader: c.Reader, Product: c.Product, Kind: kind, Alias: c.Alias}
			if err := s.order(ctx, tx, &e); err != nil {
				return err
			}
			c.State, c.Event, c.Changed, woken = next, e.Number, now, true
			if kind == Tell {
				if err := s.decoy(ctx, tx, c); err != nil {
					return err
				}
			}
			return tx.PutReaderCanary(ctx, *c)
		}
		end := func(state CanaryState) error {
			c.State, c.Changed = state, now
			if err := tx.PutReaderCanary(ctx, *c); err != nil {
				return err
			}
			return tx.Record(ctx, core.Record{Time: now, Kind: RecordCanary, Actor: core.Job("readers"), Product: c.Product, Facts: []core.Fact{
				{Name: "service", Value: c.Reader}, {Name: "ended", Value: string(state)},
			}})
		}
		switch {
		case !found:
			return end(Unanswered)
		case c.State == Planted:
			at, err := openCursor(r.Key, c.Product, x.Cursor)
			if err != nil || at.event < c.Event {
				if now.Sub(c.Changed) > canaryAge {
					return end(Unanswered)
				}
				return nil // it has not come so far yet
			}
			if !rested {
				return nil
			}
			return order(Tell, Asked)
		case e.Answered.IsZero():
			if now.After(e.Due) {
				return end(Unanswered)
			}
			return nil
		case c.State == Asked && e.Held == HoldsNothing:
			return end(NotKept)
		case c.State == Asked:
			return order(Erase, Erasing)
		case c.State == Erasing && now.Sub(e.Answered) >= CanaryRest:
			return order(Tell, AskedAgain)
		case c.State == AskedAgain && e.Held == Holds:
			return end(StillHeld)
		case c.State == AskedAgain:
			return end(Proved)
		}
		return nil
	})
	if err == nil && woken {
		s.wakeAll()
	}
	return err
}

// decoy asks the same question of somebody real, if the service knows anybody.
func (s *Service) decoy(ctx context.Context, tx Tx, c *Canary) error {
	var from core.Subject
	_, _ = rand.Read(from[:]) // crypto/rand.Read never fails
	a, some, err := tx.AnAlias(ctx, c.Reader, c.Product, from)
	if err != nil || !some {
		return err
	}
	return s.order(ctx, tx, &Event{Reader: c.Reader, Product: c.Product, Kind: Tell, Alias: a})
}

// madeUp are lines of a subject that never was: of one stream, as its devices
// send it.
func madeUp(p *declaration.Policy, fields []string, alias core.Subject, now time.Time) ([][]byte, error) {
	// Which part of which stream: the one of the first field that may be read.
	var first *declaration.Field
	for i := range p.Fields {
		if f := &p.Fields[i]; first == nil && slices.Contains(fields, f.Name) {
			first = f
		}
	}
	if first == nil {
		return nil, nil
	}
	var out [][]byte
	for i := range canaryReadings {
		values := []byte{'{'}
		for j := range p.Fields {
			f := &p.Fields[j]
			if f.Stream != first.Stream || f.Group != first.Group || !slices.Contains(fields, f.Name) {
				continue
			}
			if len(values) > 1 {
				values = append(values, ',')
			}
			values = fmt.Appendf(values, "%q:", f.Name)
			values = append(values, madeUpValue(f)...)
		}
		values = append(values, '}')
		t := now.Add(-time.Duration(canaryReadings-1-i)*time.Minute - time.Duration(below(1000))*time.Millisecond)
		e := core.EpochAt(first.Keep, declaration.EpochLength(first.Keep), t)
		var mark [16]byte
		_, _ = rand.Read(mark[:]) // crypto/rand.Read never fails
		b, err := json.Marshal(Line{
			Type: "reading", Subject: alias.String(), Reading: readingID(alias, mark), Stream: first.Stream, T: t.UTC().Format("2006-01-02T15:04:05.000Z"),
			Values: values, Policy: p.Hash.String(), Epoch: e.String(), Until: e.Due().Format(time.RFC3339),
		})
		if err != nil {
			return nil, fmt.Errorf("make up a reading: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}

// below is a random number below n.
func below(n int64) int64 {
	v, err := rand.Int(rand.Reader, big.NewInt(max(n, 1)))
	if err != nil {
		return 0 // crypto/rand never fails
	}
	return v.Int64()
}

// madeUpValue is a value that a device could have sent.
func madeUpValue(f *declaration.Field) []byte {
	switch f.Type {
	case declaration.Boolean:
		return strconv.AppendBool(nil, below(2) == 1)
	case declaration.Integer:
		lo, hi := math.Ceil(f.Min), math.Floor(f.Max)
		v := lo + math.Floor(float64(below(1<<30))/(1<<30)*(hi-lo+1))
		return strconv.AppendFloat(nil, min(v, hi), 'f', 0, 64)
	case declaration.Number:
		step := f.Precision
		if step == 0 {
			step = 0.01
		}
		// In the middle half of its range, as most devices are.
		v := f.Min + (0.25+0.5*float64(below(1<<30))/(1<<30))*(f.Max-f.Min)
		v = math.Round(math.Round(v/step)*step*1e6) / 1e6
		return strconv.AppendFloat(nil, max(f.Min, min(v, f.Max)), 'f', -1, 64)
	case declaration.Enum:
		b, err := json.Marshal(f.Values[below(int64(len(f.Values)))])
		if err == nil {
			return b
		}
	case declaration.String:
		n := f.MinLength + int(below(int64(min(f.MaxLength, f.MinLength+16)-f.MinLength+1)))
		text := make([]byte, n)
		for i := range text {
			text[i] = byte('a' + below(26))
		}
		b, err := json.Marshal(string(text))
		if err == nil {
			return b
		}
	}
	return []byte("null")
}

// Standing is how far a service has proved that it erases, for one product.
type Standing struct {
	Reader  string
	Product core.ProductID
	Proved  bool
	Bad     bool   // it was seen not to erase, or does not answer
	Why     string // when it is not proved
}

// Standings are those of all services that were given readings, also of those
// that were revoked since: what they have they may still have.
func (s *Service) Standings(ctx context.Context) ([]Standing, error) {
	var out []Standing
	now := s.d.Now()
	err := s.d.View(ctx, func(tx Tx) error {
		all, err := tx.Readers(ctx)
		if err != nil {
			return err
		}
		canaries, err := tx.ReaderCanaries(ctx)
		if err != nil {
			return err
		}
		open, err := tx.OpenReaderEvents(ctx)
		if err != nil {
			return err
		}
		for _, r := range all {
			products, err := tx.ReaderProducts(ctx, r.Name)
			if err != nil {
				return err
			}
			for _, p := range products {
				x := Standing{Reader: r.Name, Product: p, Why: "no canary of its stream has come back erased yet"}
				for _, c := range canaries {
					if c.Reader != r.Name || c.Product != p || !c.State.Ended() {
						continue
					}
					x.Proved, x.Bad = false, false
					switch {
					case c.State == Proved && now.Sub(c.Changed) <= CanaryCounts:
						x.Proved, x.Why = true, ""
					case c.State == Proved:
						x.Why = "the last canary came back erased too long ago"
					case c.State == StillHeld:
						x.Bad, x.Why = true, "it still has a canary that it was ordered to erase, and whose erasure it signed"
					case c.State == NotKept:
						x.Why = "it says that it keeps nothing of a canary that it was given: that it erases is not seen"
					default:
						x.Bad, x.Why = true, "it did not answer what it was asked of a canary in time"
					}
				}
				late := 0
				for _, e := range open {
					if e.Reader == r.Name && e.Product == p && !now.Before(e.Due) {
						late++
					}
				}
				if late > 0 {
					x.Proved, x.Bad, x.Why = false, true, fmt.Sprintf("%d orders were not answered in time", late)
				}
				out = append(out, x)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read how services stand: %w", err)
	}
	return out, nil
}
