package server

import (
	"context"

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
	t := identity.Terms{Life: pol.Identity.Life, MaySleep: pol.Identity.MaySleep, Policy: pol.Hash}
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

// ApproveReview puts in force what a second person said yes to.
func (d declarations) ApproveReview(ctx context.Context, by core.Actor, id string) error {
	d.s.publish.Lock()
	defer d.s.publish.Unlock()
	p, err := d.s.decl.ApproveReview(ctx, by, id)
	if err != nil {
		return err
	}
	if err := d.s.enforce(ctx, p); err != nil {
		return err
	}
	return d.s.intake.Prepare(ctx)
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
