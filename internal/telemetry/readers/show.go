package readers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Shown is a reader as people see it.
type Shown struct {
	Reader
	Certificates int       // that are good
	Until        time.Time // when the last of them runs out
	Products     []ShownProduct
	Open         []Event   // orders that wait for an answer
	Refusals     []Refusal // the last ones since the start
}

// ShownProduct is what a reader has of one product.
type ShownProduct struct {
	Product  core.ProductID
	Fields   []string // that it may read now
	Purposes []string
	Subjects int       // of whom it has readings
	Seen     time.Time // when it last asked on
	Standing *Standing // nil: it was given nothing
}

// List is the register, by name.
func (s *Service) List(ctx context.Context) ([]Shown, error) {
	s.mu.RLock()
	var names []string
	for n := range s.readers {
		names = append(names, n)
	}
	s.mu.RUnlock()
	slices.Sort(names)
	var out []Shown
	for _, n := range names {
		x, err := s.Find(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// Find is one reader, also one that was revoked.
func (s *Service) Find(ctx context.Context, name string) (Shown, error) {
	now := s.d.Now()
	s.mu.RLock()
	r := s.readers[name]
	if r == nil {
		s.mu.RUnlock()
		_, err := s.good(name)
		return Shown{}, err
	}
	x := Shown{Reader: r.Reader}
	for _, c := range s.certs {
		if c.Reader == name && c.Ended.IsZero() && now.Before(c.NotAfter) {
			x.Certificates++
			if c.NotAfter.After(x.Until) {
				x.Until = c.NotAfter
			}
		}
	}
	s.mu.RUnlock()
	for _, f := range s.Refusals() {
		if f.Who == name {
			x.Refusals = append(x.Refusals, f)
		}
	}
	products, err := s.declaring(ctx, name)
	if err != nil {
		return Shown{}, err
	}
	err = s.d.View(ctx, func(tx Tx) error {
		open, err := tx.OpenReaderEvents(ctx)
		if err != nil {
			return err
		}
		for _, e := range open {
			if e.Reader == name {
				x.Open = append(x.Open, e)
			}
		}
		seen, err := tx.SeenBy(ctx, name)
		if err != nil {
			return err
		}
		at := map[core.ProductID]time.Time{}
		for _, y := range seen {
			at[y.Product] = y.At
			if !slices.Contains(products, y.Product) {
				products = append(products, y.Product)
			}
		}
		for _, p := range products {
			y := ShownProduct{Product: p, Seen: at[p], Fields: []string{}, Purposes: []string{}}
			if y.Subjects, err = tx.CountAliases(ctx, name, p); err != nil {
				return err
			}
			x.Products = append(x.Products, y)
		}
		return nil
	})
	if err != nil {
		return Shown{}, fmt.Errorf("show service %s: %w", name, err)
	}
	for i := range x.Products {
		v, err := s.view(ctx, name, x.Products[i].Product)
		if core.KindOf(err) == core.Denied {
			continue
		}
		if err != nil {
			return Shown{}, err
		}
		x.Products[i].Fields, x.Products[i].Purposes = v.Fields, v.Purposes
	}
	stand, err := s.Standings(ctx)
	if err != nil {
		return Shown{}, err
	}
	for i := range stand {
		for j := range x.Products {
			if stand[i].Reader == name && stand[i].Product == x.Products[j].Product {
				x.Products[j].Standing = &stand[i]
			}
		}
	}
	slices.SortFunc(x.Products, func(a, b ShownProduct) int { return strings.Compare(string(a.Product), string(b.Product)) })
	return x, nil
}
