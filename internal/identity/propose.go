package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// MaxProposals is how many children one hub may propose at a time; an older
// proposal makes room for a newer one.
const MaxProposals = 32

// Proposal is a child that a hub would have, as staff see it.
type Proposal struct {
	Child       core.DeviceID
	First, Last time.Time
	Taken       string // what has this id already: "", or a sentence; told to staff alone
}

// Propose notes that a hub would have a child of this id. It does the same
// whatever the id is, also for one that is taken elsewhere: a hub cannot find
// out by it which units there are (decision 015).
func (s *Service) Propose(ctx context.Context, hub, child core.DeviceID) error {
	now := s.d.Now().UTC()
	err := s.d.Update(ctx, func(tx Tx) error {
		return tx.PutChildProposal(ctx, ProposalRow{Hub: hub, Child: child, First: now, Last: now}, MaxProposals)
	})
	if err != nil {
		return unavailable(fmt.Errorf("note a proposal: %w", err))
	}
	return nil
}

// Proposals are those of a hub that are not its children yet, newest first.
func (s *Service) Proposals(ctx context.Context, hub core.DeviceID) ([]Proposal, error) {
	if s.index.device(hub) == nil {
		return nil, unknownDevice()
	}
	var rows []ProposalRow
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		rows, err = tx.ChildProposals(ctx, hub)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read proposals: %w", err)
	}
	var out []Proposal
	for _, r := range rows {
		p := Proposal{Child: r.Child, First: r.First, Last: r.Last}
		switch st := s.index.device(r.Child); {
		case st == nil:
		case !st.dev.Child:
			p.Taken = "a device with a certificate of its own has this id"
		case st.link == nil:
			p.Taken = "registered, product " + string(st.dev.Product) + "; no hub speaks for it"
		case st.link.Hub == hub:
			continue // adopted since
		default:
			p.Taken = "the hub " + string(st.link.Hub) + " speaks for it"
		}
		out = append(out, p)
	}
	return out, nil
}

// Children are those that a hub speaks for, by id.
func (s *Service) Children(hub core.DeviceID) ([]Device, error) {
	if s.index.device(hub) == nil {
		return nil, unknownDevice()
	}
	out := []Device{}
	for _, st := range s.index.children(hub) {
		if d := s.device(st); d.Hub == hub {
			out = append(out, d)
		}
	}
	return out, nil
}

// SpokeForOthers records that a hub spoke for a child that it does not have: one
// record for each hub and minute, and none of the ids that it made up.
func (s *Service) SpokeForOthers(ctx context.Context, hub core.DeviceID) error {
	return s.finding(ctx, hub, "child-not-its-own")
}

// Holder is whose a certificate is or was, by its serial number; "" when it is
// not kept any more.
func (s *Service) Holder(ctx context.Context, serial Serial) (id core.DeviceID, err error) {
	if st := s.index.serial(serial); st != nil {
		return st.dev.ID, nil
	}
	err = s.d.View(ctx, func(tx Tx) error {
		id, err = tx.CertificateDevice(ctx, serial)
		return err
	})
	return id, err
}
