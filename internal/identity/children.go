package identity

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/core"
)

// Vouched is a child as the messages of its hub are taken for it: at present,
// and by this hub's word alone. It is never changed; whoever keeps one compares
// it with the one that Service.Vouched gives for the next message.
type Vouched struct {
	Child      core.DeviceID
	Product    core.ProductID
	Subject    core.Subject
	OwnedSince time.Time
	Series     [16]byte // of the link: what this hub counts for this child is its own
}

// Vouched is the child of this id that a hub may speak for now, nil when there
// is none: unknown, removed, another hub's or only proposed are one answer. It
// is one look into memory and allocates nothing (decision 015).
func (s *Service) Vouched(hub core.DeviceID, child []byte) *Vouched {
	return s.index.vouched(hub, child)
}

func (x *index) vouched(hub core.DeviceID, child []byte) *Vouched {
	x.mu.RLock()
	defer x.mu.RUnlock()
	st := x.hubs[hub][core.DeviceID(child)]
	if h := x.devices[hub]; st == nil || h == nil || h.subject().IsZero() || !h.dev.Revoked.IsZero() {
		return nil
	}
	return st.vouched
}

// link shows a child under its hub. x.mu is held.
func (x *index) link(st *state) {
	if st.link == nil {
		return
	}
	st.vouched = nil
	if subject := st.subject(); !subject.IsZero() {
		st.vouched = &Vouched{Child: st.dev.ID, Product: st.dev.Product, Subject: subject, OwnedSince: st.own.Opened, Series: st.link.Series}
	}
	of := x.hubs[st.link.Hub]
	if of == nil {
		of = map[core.DeviceID]*state{}
		x.hubs[st.link.Hub] = of
	}
	of[st.dev.ID] = st
}

// unlink takes away what link showed. x.mu is held.
func (x *index) unlink(st *state) {
	if st.link == nil {
		return
	}
	of := x.hubs[st.link.Hub]
	if delete(of, st.dev.ID); len(of) == 0 {
		delete(x.hubs, st.link.Hub)
	}
}

// children are those under a hub, whatever stands in their way, by id.
func (x *index) children(hub core.DeviceID) []*state {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := make([]*state, 0, len(x.hubs[hub]))
	for _, st := range x.hubs[hub] {
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b *state) int { return strings.Compare(string(a.dev.ID), string(b.dev.ID)) })
	return out
}

// How a child came to its hub, as the ledger says it in clear.
const (
	linkAdded   = "added"   // registered under it
	linkAdopted = "adopted" // proposed by it, or without a hub before
)

// checkWhy holds that a person says why.
func checkWhy(why string) error {
	if n := utf8.RuneCountInString(strings.TrimSpace(why)); n < 5 || n > 300 || !utf8.ValidString(why) {
		return core.E(core.Invalid, "no-reason", "a reason is required", "give 5 to 300 characters; it is sealed under the key of the child's owner")
	}
	return nil
}

// AddChild registers a child under a hub, with an owner and a key of its own.
// The hub's declaration must name its product, and there must be room
// (decision 015). It is core.Conflict when the id is taken.
func (s *Service) AddChild(ctx context.Context, by core.Actor, hub core.DeviceID, r Registration, why string) (Device, error) {
	if err := checkWhy(why); err != nil {
		return Device{}, err
	}
	if err := r.check(); err != nil {
		return Device{}, err
	}
	if err := s.mayHave(ctx, s.index.device(hub), r.Product, nil); err != nil {
		return Device{}, err
	}
	return s.addChild(ctx, by, hub, r, linkAdded, why)
}

func (s *Service) addChild(ctx context.Context, by core.Actor, hub core.DeviceID, r Registration, how, why string) (Device, error) {
	now := s.d.Now().UTC()
	st := newState(&r, now)
	st.dev.Child = true
	b := r.born(by, now)
	b.Door = DoorHub
	if err := s.d.Update(ctx, func(tx Tx) error { return s.register(ctx, tx, st, by, b) }); err != nil {
		return Device{}, fmt.Errorf("add child: %w", err)
	}
	s.index.apply(st)
	return s.linkTo(ctx, by, hub, r.Device, how, why)
}

// Adopt makes a child of what a hub proposed, or gives a child that has no hub
// to this one. product says what a proposed one is; "" where it is registered.
func (s *Service) Adopt(ctx context.Context, by core.Actor, hub, child core.DeviceID, product core.ProductID, why string) (Device, error) {
	if err := checkWhy(why); err != nil {
		return Device{}, err
	}
	st := s.index.device(child)
	switch {
	case st == nil:
		return s.adoptNew(ctx, by, hub, child, product, why)
	case !st.dev.Child:
		return Device{}, core.E(core.Conflict, "no-child", "a device with a certificate of its own has this id", "it speaks for itself; give the child another id")
	case product != "" && product != st.dev.Product:
		return Device{}, core.E(core.Conflict, "child-product", "the child is registered with the product "+string(st.dev.Product), "leave the product out")
	}
	if err := s.mayHave(ctx, s.index.device(hub), st.dev.Product, st); err != nil {
		return Device{}, err
	}
	return s.linkTo(ctx, by, hub, child, linkAdopted, why)
}

func (s *Service) adoptNew(ctx context.Context, by core.Actor, hub, child core.DeviceID, product core.ProductID, why string) (Device, error) {
	r := Registration{Device: child, Product: product}
	if !product.Valid() {
		return Device{}, core.E(core.Invalid, "child-product", "a child that is new needs its product", "add --product: the `product` of its declaration, one that the hub's declaration names")
	}
	if err := r.check(); err != nil {
		return Device{}, err
	}
	if err := s.mayHave(ctx, s.index.device(hub), product, nil); err != nil {
		return Device{}, err
	}
	all, err := s.Proposals(ctx, hub)
	if err != nil {
		return Device{}, err
	}
	if !slices.ContainsFunc(all, func(p Proposal) bool { return p.Child == child }) {
		return Device{}, core.E(core.Unknown, "no-proposal", "the hub has not proposed this child, and it is not registered", "see `hawser child list HUB`; `hawser child add` registers one without a proposal")
	}
	return s.addChild(ctx, by, hub, r, linkAdopted, why)
}

// Move gives a child to another hub. What the new hub counts is a series of its
// own, so no reading of it passes for one of the hub before.
func (s *Service) Move(ctx context.Context, by core.Actor, child, hub core.DeviceID, why string) (Device, error) {
	if err := checkWhy(why); err != nil {
		return Device{}, err
	}
	st, err := s.child(child)
	if err != nil {
		return Device{}, err
	}
	if st.link == nil {
		return Device{}, core.E(core.Conflict, "no-hub", "no hub speaks for this child", "adopt it: `hawser child adopt HUB CHILD`")
	}
	if st.link.Hub == hub {
		return Device{}, core.E(core.Conflict, "same-hub", "the child is this hub's", "name the hub that it goes to")
	}
	if err := s.mayHave(ctx, s.index.device(hub), st.dev.Product, st); err != nil {
		return Device{}, err
	}
	now, err := s.change(ctx, child, func(tx Tx, st *state) error {
		if st.link == nil || st.link.Hub == hub {
			return core.E(core.Conflict, "link-changed", "somebody else moved or removed the child meanwhile", "look at it again")
		}
		before := st.link.Hub
		if err := tx.DeleteChildLink(ctx, child); err != nil {
			return err
		}
		if err := s.newLink(ctx, tx, st, hub); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(st, RecordMoved, by, sealedPart{Hub: hub, HubBefore: before, Reason: why}))
	})
	if err != nil {
		return Device{}, fmt.Errorf("move child: %w", err)
	}
	return s.device(now), nil
}

// Remove takes a child from its hub: what the hub sends for it counts for
// nothing from then on. The child stays registered, and its readings stay as
// long as they are kept.
func (s *Service) Remove(ctx context.Context, by core.Actor, child core.DeviceID, why string) (Device, error) {
	if err := checkWhy(why); err != nil {
		return Device{}, err
	}
	if _, err := s.child(child); err != nil {
		return Device{}, err
	}
	st, err := s.change(ctx, child, func(tx Tx, st *state) error {
		if st.link == nil {
			return core.E(core.Conflict, "no-hub", "no hub speaks for this child", "there is nothing to remove; `hawser erase` erases its readings")
		}
		return s.unlink(ctx, tx, st, by, "removed", why)
	})
	if err != nil {
		return Device{}, fmt.Errorf("remove child: %w", err)
	}
	return s.device(st), nil
}

func (s *Service) child(id core.DeviceID) (*state, error) {
	st := s.index.device(id)
	switch {
	case st == nil:
		return nil, unknownDevice()
	case !st.dev.Child:
		return nil, core.E(core.Conflict, "no-child", "this is no child: it has a certificate of its own", "see `hawser child list HUB`")
	}
	return st, nil
}

// mayHave says why a hub may not have a child of a product, or this very one.
func (s *Service) mayHave(ctx context.Context, hub *state, product core.ProductID, child *state) error {
	switch {
	case hub == nil:
		return core.E(core.Unknown, "unknown-hub", "no such hub", "see `hawser device list`")
	case child != nil && child.link != nil && child.link.Hub == hub.dev.ID && s.index.vouched(hub.dev.ID, []byte(child.dev.ID)) != nil:
		return core.E(core.Conflict, "same-hub", "the child is this hub's", "there is nothing to do")
	}
	terms, err := s.hubTerms(ctx, hub)
	if err != nil {
		return err
	}
	if !slices.Contains(terms.Children, product) {
		return core.E(core.Conflict, "child-product", fmt.Sprintf("the declaration of %s does not say that it may have children of the product %s", hub.dev.Product, product),
			"publish a version that does: `hub: {children: […], max: …}`")
	}
	if n := len(s.index.children(hub.dev.ID)); n >= terms.MaxChildren {
		return tooManyChildren(terms.MaxChildren)
	}
	if _, err := s.terms(ctx, product); err != nil { // CC 1.1
		return err
	}
	return s.fitToVouch(hub)
}

func tooManyChildren(most int) error {
	return core.E(core.Conflict, "hub-full", fmt.Sprintf("the hub has as many children as its declaration allows, %d", most), "remove one, or publish a version that allows more")
}

// hubTerms are what the declaration says of a hub; core.Conflict for a device
// that is none.
func (s *Service) hubTerms(ctx context.Context, hub *state) (Terms, error) {
	terms, err := s.terms(ctx, hub.dev.Product)
	if err != nil {
		return terms, err
	}
	if terms.MaxChildren == 0 || hub.dev.Child {
		return terms, core.E(core.Conflict, "no-hub", "this device is no hub: the declaration of "+string(hub.dev.Product)+" lets it speak for nobody", "publish a version with `hub: {children: […], max: …}`")
	}
	return terms, nil
}

// fitToVouch says why a hub's word counts for nothing at present.
func (s *Service) fitToVouch(hub *state) error {
	switch {
	case !hub.dev.Revoked.IsZero():
		return core.E(core.Conflict, "revoked", "the hub is revoked", "choose another one")
	case !hub.dev.Suspect.IsZero():
		return core.E(core.Conflict, "quarantined", "the hub is in quarantine: two machines seem to use its certificate", "find out which is the hub, and release it first")
	case hub.subject().IsZero():
		return core.E(core.Conflict, "unowned", "the hub belongs to nobody", "it must enrol first, or after an erasure be opened again: `hawser device reopen HUB`")
	}
	return nil
}

// linkTo gives a child that has no hub to one. A child that never had an owner
// gets one, with a key of its own; one whose owner was erased stays nobody's
// until it is opened again.
func (s *Service) linkTo(ctx context.Context, by core.Actor, hub, child core.DeviceID, how, why string) (Device, error) {
	st := s.index.device(child)
	if st.own == nil && st.dev.Ownerships == 0 || st.own != nil && !st.own.Done {
		if _, err := s.open(ctx, child, by); err != nil {
			return Device{}, fmt.Errorf("link child: %w", err)
		}
	}
	st, err := s.change(ctx, child, func(tx Tx, st *state) error {
		if st.subject().IsZero() {
			return core.E(core.Conflict, "unowned", "the child belongs to nobody: its owner was erased", "begin a new ownership first: `hawser device reopen CHILD`")
		}
		if st.link != nil {
			if s.index.vouched(st.link.Hub, []byte(child)) != nil {
				return core.E(core.Conflict, "other-hub", "another hub speaks for this child", "move it: `hawser child move CHILD HUB`")
			}
			// Its hub's owner was erased, by an erasure that a restore from
			// backup has forgotten.
			if err := tx.DeleteChildLink(ctx, child); err != nil {
				return err
			}
		}
		if err := s.newLink(ctx, tx, st, hub); err != nil {
			return err
		}
		return tx.Record(ctx, s.record(st, RecordLinked, by, sealedPart{Hub: hub, Reason: why}, core.Fact{Name: "how", Value: how}))
	})
	if err != nil {
		return Device{}, fmt.Errorf("link child: %w", err)
	}
	return s.device(st), nil
}

// newLink writes who speaks for a child from now on, after a look at the hub as
// it is in this transaction.
func (s *Service) newLink(ctx context.Context, tx Tx, st *state, hub core.DeviceID) error {
	h, err := read(ctx, tx, hub)
	if err != nil {
		return err
	}
	h.lost = h.own != nil && h.own.Done && !s.d.Keys.Has(h.own.Subject)
	if err := s.fitToVouch(h); err != nil {
		return err
	}
	terms, err := s.hubTerms(ctx, h)
	if err != nil {
		return err
	}
	have, err := tx.ChildLinksOf(ctx, hub)
	if err != nil {
		return err
	}
	if len(have) >= terms.MaxChildren {
		return tooManyChildren(terms.MaxChildren)
	}
	l := LinkRow{Child: st.dev.ID, Hub: hub, Since: s.d.Now().UTC()}
	_, _ = rand.Read(l.Series[:]) // crypto/rand.Read never fails
	if err := tx.InsertChildLink(ctx, l); err != nil {
		return err
	}
	st.link = &l
	return tx.DeleteChildProposal(ctx, hub, st.dev.ID)
}

// unlink ends a child's link, if it has one; why is a word of ours, text what a
// person said.
func (s *Service) unlink(ctx context.Context, tx Tx, st *state, by core.Actor, why, text string) error {
	if st.link == nil {
		return nil
	}
	hub := st.link.Hub
	if err := tx.DeleteChildLink(ctx, st.dev.ID); err != nil {
		return err
	}
	st.link = nil
	return tx.Record(ctx, s.record(st, RecordUnlinked, by, sealedPart{Hub: hub, Reason: text}, core.Fact{Name: "why", Value: why}))
}

// leaveHub ends the links of a hub whose ownership ends: it may stand in
// another home tomorrow, and what its children then measure is about other
// people than their owners. They rest until somebody adopts them again.
func (s *Service) leaveHub(ctx context.Context, tx Tx, hub core.DeviceID) ([]*state, error) {
	links, err := tx.ChildLinksOf(ctx, hub)
	if err != nil {
		return nil, err
	}
	var out []*state
	for _, l := range links {
		st, err := s.changeIn(ctx, tx, l.Child, func(tx Tx, st *state) error {
			return s.unlink(ctx, tx, st, core.Job("erasure"), "hub-ended", "")
		})
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, tx.DeleteChildProposals(ctx, hub)
}

// EndLinks is what a restore does of EndOwnership for a device whose owner was
// erased after the backup was taken: no hub speaks for it any more, and it for
// nobody.
func EndLinks(ctx context.Context, tx Tx, id core.DeviceID, now time.Time) error {
	links, err := tx.ChildLinksOf(ctx, id)
	if err != nil {
		return err
	}
	mine, err := tx.ChildLink(ctx, id)
	if err != nil {
		return err
	}
	why := "hub-ended"
	if mine != nil {
		links, why = append(links, *mine), "owner-ended"
	}
	for _, l := range links {
		st, err := read(ctx, tx, l.Child)
		if err != nil {
			return err
		}
		if err := tx.DeleteChildLink(ctx, l.Child); err != nil {
			return err
		}
		st.dev.Revision++
		if err := tx.UpdateDevice(ctx, st.dev); err != nil {
			return err
		}
		r := core.Record{Time: now.UTC(), Kind: RecordUnlinked, Actor: core.Job("restore"), Product: st.dev.Product, Facts: []core.Fact{{Name: "why", Value: why}}}
		if st.own != nil {
			r.Subject = st.own.Subject
		} else {
			r.Facts = append(r.Facts, core.Fact{Name: "unit", Value: core.Subject(st.dev.Unit).String()})
		}
		if err := tx.Record(ctx, r); err != nil {
			return err
		}
	}
	return tx.DeleteChildProposals(ctx, id)
}

// LinkRecord is what a ledger record of kind RecordLinked, RecordMoved or
// RecordUnlinked says under the child's key.
type LinkRecord struct {
	Child     core.DeviceID
	Hub       core.DeviceID // that speaks for it from then on, or did until then
	HubBefore core.DeviceID // of a move
}

// OpenLink opens such a record; open is the keyring's OpenValue.
func OpenLink(open func(core.Subject, string, []byte) ([]byte, error), r *core.Record) (LinkRecord, error) {
	plain, err := open(r.Subject, sealContext, r.Sealed)
	if err != nil {
		return LinkRecord{}, err
	}
	var p sealedPart
	if err := json.Unmarshal(plain, &p); err != nil {
		return LinkRecord{}, fmt.Errorf("read who speaks for a child: %w", err)
	}
	return LinkRecord{Child: p.Device, Hub: p.Hub, HubBefore: p.HubBefore}, nil
}
