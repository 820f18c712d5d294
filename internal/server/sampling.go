package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/ledger"
	"github.com/hawser-iot/hawser/internal/sampling"
)

// populations is what assessors can sample here.
type populations struct{ s *server }

// entryName is how an entry of the ledger stands in a population: by its place
// in this ledger, in digits that sort.
func entryName(index uint64) string { return fmt.Sprintf("%012d", index) }

// Population lists registered units, or the records of a kind that the ledger
// holds of a period.
func (p populations) Population(ctx context.Context, q sampling.Request, seed []byte) (out []string, err error) {
	if kind, ok := sampling.KindOf(q.Of); ok {
		err = p.records(ctx, kind, func(e *ledger.Entry) {
			if !e.Record.Time.Before(q.From) && e.Record.Time.Before(q.Until) {
				out = append(out, entryName(e.Index))
			}
		}, func() bool { return len(out) > sampling.MaxPopulation })
		return out, err
	}
	p.s.devices.EachUnit(func(u identity.Unit) { out = append(out, sampling.Unit(seed, u.Name)) })
	return out, nil
}

// records walks the records of a kind in the ledger that goes on now.
func (p populations) records(ctx context.Context, kind core.RecordKind, each func(*ledger.Entry), enough func() bool) error {
	if err := p.s.sequenced(ctx); err != nil {
		return err
	}
	origin := p.s.ledger.Status().Origin
	var from uint64
	for {
		found, next, err := p.s.ledger.List(ctx, ledger.Filter{Kind: kind}, from, 0)
		if err != nil {
			return err
		}
		for i := range found {
			if found[i].Origin == origin {
				each(&found[i])
			}
		}
		if next == 0 || enough() {
			return nil
		}
		from = next
	}
}

// Items says what was drawn.
func (p populations) Items(ctx context.Context, x sampling.Sampling) ([]sampling.Item, error) {
	out := make([]sampling.Item, len(x.Drawn))
	for i, id := range x.Drawn {
		out[i] = sampling.Item{ID: id, Gone: true}
	}
	at := func(id string) *sampling.Item {
		i, found := slices.BinarySearch(x.Drawn, id)
		if !found {
			return nil
		}
		out[i].Gone = false
		return &out[i]
	}
	if kind, ok := sampling.KindOf(x.Of); ok {
		err := p.records(ctx, kind, func(e *ledger.Entry) {
			if it := at(entryName(e.Index)); it != nil {
				it.Position, it.Index, it.Time, it.Actor = e.Position, strconv.FormatUint(e.Index, 10), e.Record.Time, e.Record.Actor
			}
		}, func() bool { return false })
		return out, err
	}
	p.s.devices.EachUnit(func(u identity.Unit) {
		if it := at(sampling.Unit(x.Seed, u.Name)); it != nil {
			it.Device, it.Unit, it.Product = u.Device, u.Name.String(), u.Product
		}
	})
	return out, nil
}
