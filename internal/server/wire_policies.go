package server

import (
	"context"
	"fmt"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
)

// policies tells identity what a declaration says about its devices.
type policies struct{ decl *declaration.Service }

// Terms names what is missing before the first device may enrol (CC 1.1): a
// declaration is there, so at most its parts are.
func (p policies) Terms(ctx context.Context, product core.ProductID) (identity.Terms, error) {
	pol, err := p.decl.Current(ctx, product)
	if err != nil {
		return identity.Terms{}, err
	}
	t := identity.Terms{Life: pol.Identity.Life, MaySleep: pol.Identity.MaySleep, Supported: pol.SupportUntil, Policy: pol.Hash}
	if pol.Hub != nil {
		t.Children, t.MaxChildren = pol.Hub.Children, pol.Hub.Max
	}
	if len(pol.Fields) == 0 {
		t.Missing = append(t.Missing, "data inventory (`data`)")
	}
	if len(pol.Interfaces) == 0 {
		t.Missing = append(t.Missing, "interface list (`interfaces`)")
	}
	return t, nil
}

// declarations publishes at the local door and puts what was published in
// force at the devices' doors before it answers.
type declarations struct{ s *server }

func (d declarations) Publish(ctx context.Context, by core.Actor, p *declaration.Policy) error {
	d.s.publish.Lock()
	defer d.s.publish.Unlock()
	if err := d.s.decl.Publish(ctx, by, p); err != nil {
		return err
	}
	if err := d.s.enforce(ctx, p); err != nil {
		return err
	}
	// The first reading of the new declaration must not wait for the disk of
	// the keyring.
	return d.s.intake.Prepare(ctx)
}

// VouchForReview makes a person answer for what was asked for on the machine.
func (d declarations) VouchForReview(ctx context.Context, by core.Actor, id string) error {
	d.s.publish.Lock()
	defer d.s.publish.Unlock()
	return d.s.decl.VouchForReview(ctx, by, id)
}

// ApproveReview puts in force what a second person said yes to.
func (d declarations) ApproveReview(ctx context.Context, by core.Actor, id string) error {
	d.s.publish.Lock()
	defer d.s.publish.Unlock()
	if err := d.asRecorded(ctx, id); err != nil {
		return err
	}
	p, err := d.s.decl.ApproveReview(ctx, by, id)
	if err != nil {
		return err
	}
	if err := d.s.enforce(ctx, p); err != nil {
		return err
	}
	return d.s.intake.Prepare(ctx)
}

// asRecorded fails when the ledger knows another requester, or another version,
// than the review that is to be approved.
func (d declarations) asRecorded(ctx context.Context, id string) error {
	all, err := d.s.decl.Reviews(ctx)
	if err != nil {
		return err
	}
	records, err := d.s.recordsOfReviews(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].ID != id {
			continue
		}
		if why := all[i].AskedAs(records); why != "" {
			return core.E(core.Conflict, "review-altered", "this review is not what was asked for: "+why, "reject it, find out who writes to control.db, and publish the version again")
		}
	}
	return nil // one that is not there is refused by who approves
}

// recordsOfReviews are the ledger's records of how reviews came to be, oldest
// first, those of this moment too.
func (s *server) recordsOfReviews(ctx context.Context) ([]core.Record, error) {
	if err := s.sequenced(ctx); err != nil {
		return nil, err
	}
	var out []core.Record
	for _, kind := range []core.RecordKind{declaration.RecordReviewOpened, declaration.RecordReviewVouched} {
		found, err := s.recordsOf(ctx, kind, 0, 1<<62)
		if err != nil {
			return nil, fmt.Errorf("read what the ledger holds of reviews: %w", err)
		}
		for i := range found {
			out = append(out, found[i].Record)
		}
	}
	return out, nil
}

// Reviews are the versions that wait or waited for a second person.
func (d declarations) Reviews(ctx context.Context) ([]declaration.ReviewState, error) {
	return d.s.decl.Reviews(ctx)
}

// RejectReview leaves what is in force.
func (d declarations) RejectReview(ctx context.Context, by core.Actor, id string) error {
	return d.s.decl.RejectReview(ctx, by, id)
}

func (d declarations) Current(ctx context.Context, id core.ProductID) (*declaration.Policy, error) {
	return d.s.decl.Current(ctx, id)
}

func (d declarations) All(ctx context.Context) ([]*declaration.Policy, error) {
	return d.s.decl.All(ctx)
}
