package identity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Bounds of what a factory may bring.
const (
	MaxFactoryUnits = 1_000_000                // of one line or authority
	maxFactorySpan  = 3 * 366 * 24 * time.Hour // how far away its end may be
	bornAtOnce      = 500                      // registered in one transaction
)

// The kinds of records about factories.
const (
	RecordLineAdded core.RecordKind = "factory-line-added"
	RecordLineEnded core.RecordKind = "factory-line-ended"
	RecordListTaken core.RecordKind = "factory-list-taken"
	RecordCAAdded   core.RecordKind = "factory-ca-added"
	RecordCAEnded   core.RecordKind = "factory-ca-ended"
)

// bounded says what is wrong with the name, the end and the number that a line
// or an authority is added with.
func (s *Service) bounded(name string, until time.Time, units int) error {
	now := s.d.Now()
	switch {
	case name == "" || !ValidBirthWord(name):
		return core.E(core.Invalid, "factory-name", "the name is no word of 64 characters", "use up to 64 letters, digits, '.', '_', '/', '+' and '-'; it stands in the ledger for ever, so it names no person")
	case !until.After(now) || until.After(now.Add(maxFactorySpan)):
		return core.E(core.Invalid, "factory-until", "the last day is not within the next three years", "give --until DATE: a key in a factory is not trusted for ever")
	case units < 1 || units > MaxFactoryUnits:
		return core.E(core.Invalid, "factory-units", "the number of units is not between 1 and 1,000,000", "give --max-units: how many are made at most, so that a stolen key brings no more")
	}
	return nil
}

// AddLine registers a production line, whose lists of one declared product are
// taken from now on.
func (s *Service) AddLine(ctx context.Context, by core.Actor, l Line) error {
	if err := s.bounded(l.Name, l.Until, l.MaxUnits); err != nil {
		return err
	}
	if !l.Product.Valid() {
		return core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	}
	terms, err := s.terms(ctx, l.Product)
	if err != nil {
		return err
	}
	now := s.d.Now().UTC()
	l.Operator, l.Added, l.Until, l.Ended = by.ID, now, l.Until.UTC(), time.Time{}
	return s.d.Update(ctx, func(tx Tx) error {
		if err := tx.InsertFactoryLine(ctx, l); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordLineAdded, Actor: by, Product: l.Product, Policy: terms.Policy, Facts: []core.Fact{
			{Name: "line", Value: l.Name},
			{Name: "key", Value: l.KeyHash().String()},
			{Name: "until", Value: l.Until.Format(time.RFC3339)},
			{Name: "max_units", Value: strconv.Itoa(l.MaxUnits)},
		}})
	})
}

// EndLine ends a line: no list of it is taken any more, and units of its lists
// that have not enrolled never will with their listed key. Those that have are
// not touched.
func (s *Service) EndLine(ctx context.Context, by core.Actor, name string, cause Cause) error {
	if _, err := (Why{Cause: cause}).checked(); err != nil {
		return err
	}
	now := s.d.Now().UTC()
	return s.d.Update(ctx, func(tx Tx) error {
		l, err := tx.FactoryLine(ctx, name)
		switch {
		case err != nil:
			return err
		case l == nil:
			return core.E(core.Unknown, "unknown-line", "there is no such line", "`hawser factory show` lists them")
		case !l.Ended.IsZero():
			return core.E(core.Conflict, "line-ended", "the line ended before", "")
		}
		if err := tx.EndFactoryLine(ctx, name, now); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordLineEnded, Actor: by, Product: l.Product, Facts: []core.Fact{
			{Name: "line", Value: name}, {Name: "cause", Value: string(cause)},
		}})
	})
}

// Factory is all that is known of factories.
type Factory struct {
	Lines []Line
	Lists []ListRow
	CAs   []FactoryCA
	Units map[core.Hash]int // how many each list and authority brought
}

// Factory lists lines, lists and authorities.
func (s *Service) Factory(ctx context.Context) (Factory, error) {
	f := Factory{Units: map[core.Hash]int{}}
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		if f.Lines, err = tx.FactoryLines(ctx); err != nil {
			return err
		}
		if f.Lists, err = tx.FactoryLists(ctx); err != nil {
			return err
		}
		if f.CAs, err = tx.FactoryCAs(ctx); err != nil {
			return err
		}
		for _, c := range f.CAs {
			if f.Units[c.ID], err = tx.BornUnits(ctx, c.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return f, fmt.Errorf("read factories: %w", err)
	}
	return f, nil
}

// Taken is what became of a list.
type Taken struct {
	List   FactoryList
	Digest core.Hash
	By     string // staff id of who imported it
	When   time.Time
	Before bool // it was taken whole before; nothing was changed
	Fresh  int  // units that this call registered
}

// TakeList registers the units of a line's signed list. Nothing is registered
// when anything about the list is wrong. A list that was taken is taken again
// without effect; one that a crash left in the middle is finished.
func (s *Service) TakeList(ctx context.Context, by core.Actor, file, sig []byte) (Taken, error) {
	s.taking.Lock() // not what devices wait for: one list after the other
	defer s.taking.Unlock()
	list, err := ParseFactoryList(file)
	if err != nil {
		return Taken{}, err
	}
	t := Taken{List: *list, Digest: sha256.Sum256(file)}
	terms, row, err := s.mayTake(ctx, &t, file, sig)
	if err != nil {
		return Taken{}, err
	}
	if row != nil && row.Done {
		t.Before, t.By, t.When = true, row.Operator, row.Taken
		return t, nil
	}
	now := s.d.Now().UTC()
	if row == nil {
		row = &ListRow{Digest: t.Digest, Line: list.Line, Name: list.Name, Units: len(list.Units), Operator: by.ID, Taken: now}
		if err := s.d.Update(ctx, func(tx Tx) error { return tx.InsertFactoryList(ctx, *row) }); err != nil {
			return Taken{}, err
		}
	}
	t.By, t.When = row.Operator, row.Taken
	for some := range slices.Chunk(list.Units, bornAtOnce) {
		n, err := s.takeUnits(ctx, by, &t, some)
		if t.Fresh += n; err != nil {
			return Taken{}, err
		}
	}
	err = s.d.Update(ctx, func(tx Tx) error {
		if err := tx.FinishFactoryList(ctx, t.Digest); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: s.d.Now().UTC(), Kind: RecordListTaken, Actor: by, Product: list.Product, Policy: terms.Policy, Facts: []core.Fact{
			{Name: "line", Value: list.Line}, {Name: "list", Value: list.Name}, {Name: "digest", Value: t.Digest.String()}, {Name: "units", Value: strconv.Itoa(len(list.Units))},
		}})
	})
	if err != nil {
		return Taken{}, fmt.Errorf("take factory list: %w", err)
	}
	return t, nil
}

// mayTake says whether a list may be taken; row is of one that was begun.
func (s *Service) mayTake(ctx context.Context, t *Taken, file, sig []byte) (terms Terms, row *ListRow, err error) {
	list := &t.List
	var line *Line
	promised := 0 // units of the line's lists, this one not counted
	err = s.d.View(ctx, func(tx Tx) error {
		if line, err = tx.FactoryLine(ctx, list.Line); err != nil {
			return err
		}
		all, err := tx.FactoryLists(ctx)
		for i := range all {
			switch {
			case all[i].Digest == t.Digest:
				row = &all[i]
			case all[i].Line == list.Line:
				promised += all[i].Units
			}
		}
		return err
	})
	if err != nil {
		return terms, nil, fmt.Errorf("read line: %w", err)
	}
	if line == nil {
		return terms, nil, core.E(core.Denied, "unknown-line", fmt.Sprintf("the list is of the line %q, which is not registered", list.Line), "`hawser factory line add` registers a line with the key that signs its lists")
	}
	// Nothing more is said of a list before it is known to be its line's.
	if err := signedList(line.Public, file, sig); err != nil {
		return terms, nil, err
	}
	switch now := s.d.Now(); {
	case !line.Ended.IsZero():
		return terms, nil, core.E(core.Denied, "line-ended", "the line was ended", "a line that goes on is registered anew, with a new key and another name")
	case row != nil && row.Done:
		return terms, row, nil
	case !now.Before(line.Until):
		return terms, nil, core.E(core.Denied, "line-over", "the line's lists were taken until "+line.Until.Format(time.DateOnly), "register a line with a new key and another name")
	case list.Product != line.Product:
		return terms, nil, core.E(core.Denied, "list-product", fmt.Sprintf("the list is of the product %s, and its line makes %s", list.Product, line.Product), "a line makes one product; register another line for another one")
	case promised+len(list.Units) > line.MaxUnits:
		return terms, nil, core.E(core.Denied, "line-full", fmt.Sprintf("with this list the line would bring %d units, more than its %d", promised+len(list.Units), line.MaxUnits), "if the line has really made as many, register another one with a new key")
	}
	if terms, err = s.terms(ctx, list.Product); err != nil {
		return terms, nil, err
	}
	return terms, row, s.unheard(ctx, t)
}

// unheard refuses a list with a unit or a key that is known, unless this very
// list brought it.
func (s *Service) unheard(ctx context.Context, t *Taken) error {
	return s.d.View(ctx, func(tx Tx) error {
		for _, u := range t.List.Units {
			born, err := tx.BornUnit(ctx, u.Key)
			if err != nil {
				return err
			}
			switch {
			case born != nil && born.Device == u.Device && born.Source == t.Digest:
				continue // a crash left the list in the middle
			case born != nil:
				return core.E(core.Conflict, "list-key-known", fmt.Sprintf("the key of %s is another unit's", u.Device), "no two units may have one key: find out how the line makes keys")
			case s.index.device(u.Device) != nil:
				return core.E(core.Conflict, "list-serial-known", fmt.Sprintf("%s is registered already, and not by this list", u.Device), "list only units that are new")
			}
			tied, err := tx.KeyTied(ctx, u.Key)
			if err != nil {
				return err
			}
			if tied {
				return core.E(core.Conflict, "list-key-known", fmt.Sprintf("the key of %s was certified before", u.Device), "no two units may have one key: find out how the line makes keys")
			}
		}
		return nil
	})
}

// takeUnits registers some units of a list, those that it has not yet.
func (s *Service) takeUnits(ctx context.Context, by core.Actor, t *Taken, some []ListedUnit) (int, error) {
	var fresh []*state
	err := s.d.Update(ctx, func(tx Tx) error {
		fresh = fresh[:0]
		for _, u := range some {
			if born, err := tx.BornUnit(ctx, u.Key); err != nil {
				return err
			} else if born != nil && born.Device == u.Device && born.Source == t.Digest {
				continue
			}
			r := Registration{Device: u.Device, Product: t.List.Product, Station: t.List.Line, Hardware: t.List.Hardware, Batch: t.List.Batch}
			st, err := s.registerBorn(ctx, tx, &r, by, DoorList, BornUnit{Key: u.Key, Device: u.Device, Source: t.Digest})
			if err != nil {
				return err
			}
			fresh = append(fresh, st)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("take units of a factory list: %w", err)
	}
	for _, st := range fresh {
		s.index.apply(st)
	}
	return len(fresh), nil
}

// registerBorn writes a unit that came with a key of its own.
func (s *Service) registerBorn(ctx context.Context, tx Tx, r *Registration, by core.Actor, door Door, born BornUnit) (*state, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	now := s.d.Now().UTC()
	st := newState(r, now)
	b := r.born(by, now)
	b.Door, b.Source = door, born.Source
	if err := s.register(ctx, tx, st, by, b); err != nil {
		return nil, err
	}
	return st, tx.InsertBornUnit(ctx, born)
}
