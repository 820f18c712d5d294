package sampling

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// How long samplings are kept, and how many: a drawn one as long as an
// assessor's period lasts at most, one without a nonce until it is plain that
// none comes.
const (
	keepDrawn = 400 * 24 * time.Hour
	keepBegun = 7 * 24 * time.Hour
	maxKept   = 100
)

// Tx is what sampling needs from storage.
type Tx interface {
	// PutSampling keeps a sampling, new or drawn.
	PutSampling(ctx context.Context, s Sampling) error
	// Samplings are all, by when they were begun, without their populations.
	Samplings(ctx context.Context) ([]Sampling, error)
	// Sampling is one as a whole; core.Unknown when there is none.
	Sampling(ctx context.Context, id string) (Sampling, error)
	DeleteSampling(ctx context.Context, id string) error
	// Record hands evidence to the ledger in the same transaction.
	Record(ctx context.Context, r core.Record) error
}

// Populations is what can be sampled.
type Populations interface {
	// Population is what a request asks to sample, in any order, each once.
	Population(ctx context.Context, q Request, seed []byte) ([]string, error)
	// Items says what was drawn, in the order of Sampling.Drawn.
	Items(ctx context.Context, s Sampling) ([]Item, error)
}

// Item is one that was drawn: what an assessor asks to be shown. Devices have a
// Device, a Unit and a Product, records a Position, an Index, a Time and an
// Actor.
type Item struct {
	ID   string `json:"id"`             // as in the population
	Gone bool   `json:"gone,omitempty"` // it is not there any more: erased, or from an earlier ledger

	Device  core.DeviceID  `json:"device,omitempty"`
	Unit    string         `json:"unit,omitempty"` // its name in the ledger: Unit of the seed and this is ID
	Product core.ProductID `json:"product,omitempty"`

	Position uint64     `json:"position,omitempty"` // among all entries
	Index    string     `json:"index,omitempty"`    // in this ledger
	Time     time.Time  `json:"time,omitzero"`
	Actor    core.Actor `json:"actor,omitzero"`
}

// Deps is what a Service stands on. All of it is required.
type Deps struct {
	Update      func(context.Context, func(Tx) error) error
	View        func(context.Context, func(Tx) error) error
	Populations Populations
	Now         func() time.Time
}

// Service begins and draws samplings. It is safe for concurrent use.
type Service struct {
	d  Deps
	mu sync.Mutex // one changes at a time
}

// New opens the service.
func New(d Deps) (*Service, error) {
	if d.Update == nil || d.View == nil || d.Populations == nil || d.Now == nil {
		return nil, errors.New("sampling: Update, View, Populations and Now are required")
	}
	return &Service{d: d}, nil
}

// Request says what is to be sampled.
type Request struct {
	Of    string    // Devices, or RecordsOf a kind
	From  time.Time // of records
	Until time.Time // of records: the first moment after the period
	Size  int
}

func (s *Service) now() time.Time { return s.d.Now().UTC().Truncate(time.Microsecond) }

// Begin puts what can be drawn into the ledger. What is drawn from it the
// nonce decides, which nobody has told yet.
func (s *Service) Begin(ctx context.Context, by core.Actor, q Request) (Sampling, error) {
	if !validOf.MatchString(q.Of) {
		return Sampling{}, core.E(core.Invalid, "sample-of", fmt.Sprintf("%.80q cannot be sampled", q.Of), "sample devices, or records/KIND as in records/read-session-opened")
	}
	if q.Size < 1 || q.Size > MaxSize {
		return Sampling{}, core.E(core.Invalid, "sample-size", fmt.Sprintf("a sample of %d", q.Size), fmt.Sprintf("draw 1 to %d", MaxSize))
	}
	x := Sampling{Of: q.Of, Begun: s.now(), By: by, Size: q.Size, Seed: make([]byte, seedBytes)}
	if _, records := KindOf(q.Of); records {
		x.From, x.Until = q.From.UTC().Truncate(time.Second), q.Until.UTC().Truncate(time.Second)
		if !x.From.Before(x.Until) || x.From.IsZero() {
			return Sampling{}, core.E(core.Invalid, "sample-period", "the period has no beginning or no end after it", "say from when until when")
		}
	} else if !q.From.IsZero() || !q.Until.IsZero() {
		return Sampling{}, core.E(core.Invalid, "sample-period", "devices are sampled as they are now, not over a period", "leave the period out")
	}
	id := make([]byte, 10)
	_, _ = rand.Read(id) // never fails
	_, _ = rand.Read(x.Seed)
	x.ID = "s" + strings.ToLower(base32.StdEncoding.EncodeToString(id))
	q.From, q.Until = x.From, x.Until
	all, err := s.d.Populations.Population(ctx, q, x.Seed)
	if err != nil {
		return Sampling{}, err
	}
	if len(all) < q.Size {
		return Sampling{}, core.E(core.Conflict, "sample-few", fmt.Sprintf("there are only %d of %s", len(all), q.Of), "draw fewer, or over a longer period")
	}
	if len(all) > MaxPopulation {
		return Sampling{}, core.E(core.Conflict, "sample-many", fmt.Sprintf("there are more than %d of %s", MaxPopulation, q.Of), "draw from a shorter period")
	}
	x.Population, x.Total = slices.Sorted(slices.Values(all)), len(all)
	if err := x.Check(); err != nil {
		return Sampling{}, fmt.Errorf("begin a sample: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.d.Update(ctx, func(tx Tx) error {
		if err := s.trim(ctx, tx, x.Begun); err != nil {
			return err
		}
		if err := tx.PutSampling(ctx, x); err != nil {
			return err
		}
		return tx.Record(ctx, x.BegunRecord())
	})
	if err != nil {
		return Sampling{}, fmt.Errorf("begin a sample: %w", err)
	}
	return x, nil
}

// trim drops what is kept no longer, and refuses when there are too many.
func (s *Service) trim(ctx context.Context, tx Tx, now time.Time) error {
	all, err := tx.Samplings(ctx)
	if err != nil {
		return err
	}
	kept := 0
	for i := range all {
		old := now.Sub(all[i].Begun)
		if old <= keepBegun || all[i].IsDrawn() && old <= keepDrawn {
			kept++
			continue
		}
		if err := tx.DeleteSampling(ctx, all[i].ID); err != nil {
			return err
		}
	}
	if kept >= maxKept {
		return core.E(core.TooMany, "samples", fmt.Sprintf("%d samples are kept already", kept), "those without a nonce go after seven days, the others after 400")
	}
	return nil
}

// ParseNonce reads a nonce as it is typed: hexadecimal digits, with spaces or
// dashes between them as anybody likes.
func ParseNonce(text string) ([]byte, error) {
	text = strings.NewReplacer(" ", "", "-", "").Replace(strings.TrimSpace(text))
	b, err := hex.DecodeString(text)
	if err != nil || len(b) < MinNonceBytes || len(b) > MaxNonceBytes {
		return nil, core.E(core.Invalid, "nonce", "this is no nonce", fmt.Sprintf("make one yourself, of %d to %d bytes in hexadecimal digits, for example with: openssl rand -hex 16", MinNonceBytes, MaxNonceBytes))
	}
	same := true
	for _, x := range b {
		same = same && x == b[0]
	}
	if same {
		return nil, core.E(core.Invalid, "nonce", "this nonce is one byte again and again", "make one that nobody could have guessed: openssl rand -hex 16")
	}
	return b, nil
}

// Draw draws a sample that was begun, with the assessor's nonce. It is done
// once: what was drawn stays.
func (s *Service) Draw(ctx context.Context, by core.Actor, id string, nonce []byte) (Sampling, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var x Sampling
	err := s.d.Update(ctx, func(tx Tx) error {
		all, err := tx.Samplings(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(o Sampling) bool { return o.IsDrawn() && slices.Equal(o.Nonce, nonce) }) {
			return core.E(core.Conflict, "nonce-used", "this nonce was used before", "make a new one for each sample: who knows it could choose the population")
		}
		if x, err = tx.Sampling(ctx, id); err != nil {
			return err
		}
		if x.IsDrawn() {
			return core.E(core.Conflict, "sample-drawn", "this sample is drawn already, by "+x.Assessor.String(), "begin a new one")
		}
		x.Taken, x.Assessor, x.Nonce = s.now(), by, nonce
		x.Drawn = Sample(x.Seed, x.Nonce, x.Population, x.Size)
		if err := x.Check(); err != nil {
			return core.E(core.Conflict, "sample-altered", "this sample cannot be drawn: "+err.Error(), "begin a new one; was a clock set back, or control.db changed?")
		}
		if err := tx.PutSampling(ctx, x); err != nil {
			return err
		}
		return tx.Record(ctx, x.DrawnRecord())
	})
	if err != nil {
		return Sampling{}, fmt.Errorf("draw a sample: %w", err)
	}
	return x, nil
}

// List is all samplings, newest first, without their populations.
func (s *Service) List(ctx context.Context) (out []Sampling, err error) {
	if err = s.d.View(ctx, func(tx Tx) error { out, err = tx.Samplings(ctx); return err }); err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	slices.Reverse(out)
	return out, nil
}

// Find is one sampling as a whole.
func (s *Service) Find(ctx context.Context, id string) (out Sampling, err error) {
	if err = s.d.View(ctx, func(tx Tx) error { out, err = tx.Sampling(ctx, id); return err }); err != nil {
		return Sampling{}, fmt.Errorf("read a sample: %w", err)
	}
	return out, nil
}

// Look is one sampling as a whole, and what was drawn.
func (s *Service) Look(ctx context.Context, id string) (Sampling, []Item, error) {
	x, err := s.Find(ctx, id)
	if err != nil || !x.IsDrawn() {
		return x, nil, err
	}
	items, err := s.d.Populations.Items(ctx, x)
	if err != nil {
		return x, nil, fmt.Errorf("look up what was drawn: %w", err)
	}
	return x, items, nil
}

// Drawn are those that were drawn, oldest first, as a whole: what a bundle
// takes along.
func (s *Service) Drawn(ctx context.Context) (out []Sampling, err error) {
	err = s.d.View(ctx, func(tx Tx) error {
		all, err := tx.Samplings(ctx)
		if err != nil {
			return err
		}
		for i := range all {
			if !all[i].IsDrawn() {
				continue
			}
			x, err := tx.Sampling(ctx, all[i].ID)
			if err != nil {
				return err
			}
			out = append(out, x)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	return out, nil
}

// After is the place behind a record among all entries.
func (i Item) After() uint64 { return i.Position + 1 }
