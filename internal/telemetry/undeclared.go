package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/seal"
)

// RecordUndeclared records, once for each declaration and stream, that devices
// send fields which the declaration does not name (design, section 5, Messages;
// CC 5.9). Devices cannot grow the ledger by it.
const RecordUndeclared core.RecordKind = "undeclared-fields"

// sealContextUndeclared is what a sealed name is.
const sealContextUndeclared = "undeclared-name"

// UndeclaredTx is what findings need of the control database.
type UndeclaredTx interface {
	// NoteUndeclared notes that a stream had undeclared fields; false when
	// that was noted before.
	NoteUndeclared(context.Context, UndeclaredStream) (bool, error)
	// PutUndeclaredName keeps a name; false when the stream has no place left
	// or the subject is being erased.
	PutUndeclaredName(context.Context, UndeclaredName) (bool, error)
	// Undeclared is what was noted of a declaration.
	Undeclared(ctx context.Context, policy core.Hash) ([]UndeclaredStream, []UndeclaredName, error)
	Record(context.Context, core.Record) error
}

// UndeclaredDeps is what Undeclared needs; all of it is required.
type UndeclaredDeps struct {
	Update func(context.Context, func(UndeclaredTx) error) error
	View   func(context.Context, func(UndeclaredTx) error) error
	Keys   seal.ValueKeys
	Intake *Intake
	Now    func() time.Time
}

// Undeclared carries what the intake finds of undeclared fields to the control
// database and the ledger, so that a restart neither forgets nor repeats it.
type Undeclared struct{ d UndeclaredDeps }

// NewUndeclared checks its dependencies.
func NewUndeclared(d UndeclaredDeps) (*Undeclared, error) {
	if d.Update == nil || d.View == nil || d.Keys == nil || d.Intake == nil || d.Now == nil {
		return nil, errors.New("undeclared fields: a dependency is missing")
	}
	return &Undeclared{d}, nil
}

// Load gives a plan what was noted of its declaration before. Call it before
// the plan is put in force. A name whose subject was erased stays unknown.
func (u *Undeclared) Load(ctx context.Context, p *Plan) error {
	var streams []UndeclaredStream
	var names []UndeclaredName
	err := u.d.View(ctx, func(tx UndeclaredTx) (err error) {
		streams, names, err = tx.Undeclared(ctx, p.policy)
		return err
	})
	if err != nil {
		return err
	}
	for _, s := range streams {
		if sp := p.streams[s.Stream]; sp != nil {
			sp.findings.mu.Lock()
			sp.findings.since, sp.findings.noted = s.First, true
			sp.findings.mu.Unlock()
		}
	}
	for _, n := range names {
		sp := p.streams[n.Stream]
		if sp == nil {
			continue
		}
		name, err := n.Name.Open(u.d.Keys, n.Subject, sealContextUndeclared)
		if errors.Is(err, seal.ErrNoKey) {
			continue
		}
		if err != nil {
			return fmt.Errorf("an undeclared name of %s, stream %s: %w", p.product, n.Stream, err)
		}
		sp.findings.mu.Lock()
		sp.findings.add(stray{name: name, subject: n.Subject, first: n.First, kept: true})
		sp.findings.mu.Unlock()
	}
	return nil
}

// Keep is the job that writes down what was found since its last run. Run it
// every minute.
func (u *Undeclared) Keep(ctx context.Context) error {
	var errs []error
	u.d.Intake.plans(func(p *Plan) {
		for _, sp := range p.streams {
			if err := u.keep(ctx, p, sp); err != nil {
				errs = append(errs, fmt.Errorf("undeclared fields of %s, stream %s: %w", p.product, sp.stream.Name, err))
			}
		}
	})
	return errors.Join(errs...)
}

func (u *Undeclared) keep(ctx context.Context, p *Plan, sp *StreamPlan) error {
	f := &sp.findings
	f.mu.Lock()
	since, noted, names := f.since, f.noted, f.names()
	f.mu.Unlock()
	if since.IsZero() {
		return nil
	}
	var rows []UndeclaredName
	done, gone := map[string]bool{}, map[string]bool{}
	for _, s := range names {
		if s.kept {
			continue
		}
		n := UndeclaredName{Policy: p.policy, Stream: sp.stream.Name, Subject: s.subject, First: s.first}
		var err error
		n.Name, err = seal.Seal(u.d.Keys, s.subject, sealContextUndeclared, s.name)
		if errors.Is(err, seal.ErrNoKey) { // erased meanwhile
			gone[s.name] = true
			continue
		}
		if err != nil {
			return err
		}
		done[s.name] = true
		rows = append(rows, n)
	}
	if noted && len(done) == 0 && len(gone) == 0 {
		return nil
	}
	err := u.d.Update(ctx, func(tx UndeclaredTx) error {
		first, err := tx.NoteUndeclared(ctx, UndeclaredStream{Product: p.product, Policy: p.policy, Stream: sp.stream.Name, First: since})
		if err != nil {
			return err
		}
		for _, n := range rows {
			if _, err := tx.PutUndeclaredName(ctx, n); err != nil {
				return err
			}
		}
		if !first {
			return nil
		}
		return tx.Record(ctx, core.Record{
			Time: u.d.Now().UTC(), Kind: RecordUndeclared, Actor: core.Job("undeclared"), Product: p.product, Policy: p.policy,
			Facts: []core.Fact{
				{Name: "stream", Value: sp.stream.Name},
				{Name: "first", Value: factTime(since)},
				{Name: "names", Value: strconv.Itoa(len(names))},
			},
		})
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted = true
	f.change(func(known []stray) []stray {
		out := known[:0]
		for _, s := range known {
			s.kept = s.kept || done[s.name]
			if !gone[s.name] {
				out = append(out, s)
			}
		}
		return out
	})
	return nil
}
