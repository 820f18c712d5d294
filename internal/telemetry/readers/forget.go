package readers

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The records of orders. What a service answered stands in the second one.
const (
	RecordOrdered  core.RecordKind = "service-ordered"
	RecordAnswered core.RecordKind = "service-answered"
)

// newID names an order: 26 characters nobody guesses.
func newID() string { return "o" + strings.ToLower(rand.Text()) }

// order adds an order to a reader's stream, with its record. It waits for
// nobody.
func (s *Service) order(ctx context.Context, tx Tx, e *Event) error {
	s.mu.RLock()
	r := s.readers[e.Reader]
	s.mu.RUnlock()
	within := DefaultAnswer
	if r != nil {
		within = r.AnswerIn
	}
	now := micro(s.d.Now())
	e.ID, e.At, e.Due = newID(), now, now.Add(within)
	if err := tx.AddReaderEvent(ctx, e); err != nil {
		return err
	}
	rec := core.Record{Time: now, Kind: RecordOrdered, Actor: core.Job("readers"), Product: e.Product, Facts: []core.Fact{
		{Name: "service", Value: e.Reader}, {Name: "order", Value: e.ID}, {Name: "do", Value: string(e.Kind)}, {Name: "by", Value: e.Due.Format(time.RFC3339)},
	}}
	if e.Kind == Expire {
		rec.Facts = append(rec.Facts, core.Fact{Name: "epoch", Value: e.Epoch.String()})
	}
	return tx.Record(ctx, rec)
}

// Forget is the eraser of what services know a subject by: each that has
// readings of it is ordered to erase them, and what links the two goes. It
// waits for no answer, and may be called again.
func (s *Service) Forget(ctx context.Context, subject core.Subject) error {
	some := false
	err := s.d.Update(ctx, func(tx Tx) error {
		all, err := tx.AliasesOf(ctx, subject)
		if err != nil {
			return err
		}
		var names []string
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			a := all[name]
			if err := s.order(ctx, tx, &Event{Reader: name, Product: a.Product, Kind: Erase, Alias: a.Alias}); err != nil {
				return err
			}
			some = true
		}
		return tx.ForgetAliases(ctx, subject)
	})
	if err != nil {
		return fmt.Errorf("order services to erase a subject: %w", err)
	}
	if some {
		s.wakeAll()
	}
	return nil
}

// keepEvents is how long answered orders are kept.
const keepEvents = 400 * 24 * time.Hour

// OrderExpiry is the job that orders readers to forget epochs that have ended.
func (s *Service) OrderExpiry(ctx context.Context) error {
	some := false
	err := s.d.Update(ctx, func(tx Tx) error {
		ended, err := tx.EndedReaderEpochs(ctx)
		if err != nil {
			return err
		}
		for _, x := range ended {
			if err := s.order(ctx, tx, &Event{Reader: x.Reader, Product: x.Product, Kind: Expire, Epoch: x.Epoch}); err != nil {
				return err
			}
			if err := tx.DropReaderEpoch(ctx, x); err != nil {
				return err
			}
			some = true
		}
		return tx.DropReaderEvents(ctx, s.d.Now().Add(-keepEvents))
	})
	if err != nil {
		return fmt.Errorf("order services to forget epochs: %w", err)
	}
	if some {
		s.wakeAll()
	}
	return nil
}

// wakeAll tells streams that wait that there is an event.
func (s *Service) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.wake)
	s.wake = make(chan struct{})
}

// lineOf is how an event stands in a stream.
func lineOf(e *Event) Line {
	l := Line{Type: "order", Order: e.ID, Do: string(e.Kind), By: e.Due.Format(time.RFC3339)}
	if !e.Alias.IsZero() {
		l.Subject = e.Alias.String()
	}
	if e.Kind == Expire {
		l.Epoch = e.Epoch.String()
	}
	return l
}

// Overdue are the orders that were not answered in time, oldest first.
func (s *Service) Overdue(ctx context.Context) ([]Event, error) {
	var open []Event
	err := s.d.View(ctx, func(tx Tx) (err error) { open, err = tx.OpenReaderEvents(ctx); return err })
	if err != nil {
		return nil, err
	}
	now := s.d.Now()
	return slices.DeleteFunc(open, func(e Event) bool { return now.Before(e.Due) }), nil
}
