package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
	"github.com/hawser-iot/hawser/internal/telemetry"
	"github.com/hawser-iot/hawser/internal/wire"
)

// Children says for whom a hub may speak: identity.Service.
type Children interface {
	// Vouched is asked for every message and answers from memory: nil for every
	// child that the hub does not have, whatever it is instead.
	Vouched(hub core.DeviceID, child []byte) *identity.Vouched
	// Propose notes that a hub would have a child, on disk.
	Propose(ctx context.Context, hub, child core.DeviceID) error
	// SpokeForOthers records that a hub named a child that it does not have.
	SpokeForOthers(ctx context.Context, hub core.DeviceID) error
}

// kid is what a session keeps of one child: what it needs to take the next
// message, and no permission. It is made for children that the register has,
// so that invented ids cost no memory.
type kid struct {
	v       *identity.Vouched
	src     *telemetry.Source
	dev     *device // its rates, wherever its messages come from
	product *product
}

// proposalRate bounds how often one hub may propose children.
func proposalRate() rate { return rate{every: int64(10 * time.Second), burst: identity.MaxProposals} }

// mayHave reports whether the declaration in force lets devices of this product
// speak for a product.
func (p *product) mayHave(child core.ProductID) bool {
	of := p.children.Load()
	if of == nil {
		return false
	}
	for _, id := range *of {
		if id == child {
			return true
		}
	}
	return false
}

// maxPacket is the Maximum Packet Size that a session is told: a hub also sends
// what its children's declarations allow.
func (c *conn) maxPacket() int {
	n := c.product.maxPacket()
	if of := c.product.children.Load(); of != nil {
		for _, id := range *of {
			n = max(n, c.g.product(id).maxPacket())
		}
	}
	return n
}

// kid is the child that a message of this hub is for, as the link stands now;
// nil when the hub has none of this id (decision 015).
func (c *conn) kid(b *burst, id []byte) *kid {
	g := c.g
	// Only a certificate of this installation vouches: what the maker gave a
	// device before it came here, others may have.
	if g.deps.Children == nil || c.serial.Credential().Legacy() {
		return nil
	}
	v := g.deps.Children.Vouched(c.device, id)
	if v == nil || !c.product.mayHave(v.Product) {
		return nil
	}
	k := c.kids[v.Child]
	if k != nil && (k.v == v || *k.v == *v) {
		return k
	}
	if k != nil {
		c.dropKid(k, b.now)
	} else if len(c.kids) >= declaration.MaxChildren {
		c.dropStrangers(b.now)
	}
	if c.kids == nil {
		c.kids = map[core.DeviceID]*kid{}
	}
	k = &kid{v: v, dev: g.table.get(v.Child, b.now), product: g.product(v.Product)}
	k.src = g.deps.Intake.NewSource(telemetry.SourceInfo{
		Device: v.Child, Product: v.Product, Subject: v.Subject, OwnedSince: v.OwnedSince, Sender: [16]byte(c.serial), Series: v.Series,
	})
	k.dev.enterChild(k, b.now)
	c.kids[v.Child] = k
	return k
}

// dropStrangers forgets those that are this hub's no longer.
func (c *conn) dropStrangers(now time.Time) {
	for id, k := range c.kids {
		if c.g.deps.Children.Vouched(c.device, []byte(id)) == nil {
			c.dropKid(k, now)
		}
	}
}

func (c *conn) dropKid(k *kid, now time.Time) {
	k.dev.leaveChild(c.id.Quarantined, now)
	k.src.Close()
	delete(c.kids, k.v.Child)
}

// notMine is the one answer for every child that a hub does not have: unknown,
// another hub's, removed, proposed, or of a product that it may not have.
func (c *conn) notMine(b *burst, token uint32) bool {
	g := c.g
	if minute := b.now.Unix() / 60; minute != c.strange && g.deps.Children != nil {
		c.strange = minute
		hub := c.device
		g.later(func() {
			ctx, cancel := g.noting()
			defer cancel()
			if err := g.deps.Children.SpokeForOthers(ctx, hub); err != nil {
				g.deps.Log.LogAttrs(g.ctx, slog.LevelWarn, "that a hub spoke for others could not be recorded", slog.Any("err", plain(err)))
			}
		})
	}
	return c.refused(b, token, nil, telemetry.ReasonNoChild, pointsWrongPlace)
}

// proposal takes the id of a child that a hub would have. The payload is not
// read: what a child is, a person says.
func (c *conn) proposal(b *burst, token uint32, t wire.Topic) bool {
	g := c.g
	if of := c.product.children.Load(); of == nil || g.deps.Children == nil || c.serial.Credential().Legacy() || c.id.Subject.IsZero() {
		return c.notMine(b, token)
	}
	if !c.dev.takeProposal(b.now) {
		return c.refused(b, token, nil, telemetry.ReasonRate, pointsOverRate)
	}
	ctx, cancel := g.noting()
	defer cancel()
	if err := g.deps.Children.Propose(ctx, c.device, core.DeviceID(t.Child)); err != nil {
		c.trouble(err)
		return false
	}
	g.count.proposals.Add(1)
	c.decide(token, mqtt.Success, 0)
	return true
}

// takeProposal pays for one proposal.
func (d *device) takeProposal(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proposals == nil {
		full := fullBucket(proposalRate(), now)
		d.proposals = &full
	}
	return d.proposals.take(proposalRate(), now.UnixNano())
}

// enterChild gives a child what it may make up for: what its hub kept for it
// while the hub was away. What it has spent under another hub stays spent.
func (d *device) enterChild(k *kid, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := k.product.rates.Load(); r != nil {
		d.back(r, identity.Identified{Subject: k.v.Subject, OwnedSince: k.v.OwnedSince}, now)
	}
	d.touched, d.left = now.UnixNano(), now.UnixNano()
}

// leaveChild ends the time that counts as being there, as leave does.
func (d *device) leaveChild(quarantined bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = now.UnixNano()
	if !quarantined {
		for i := range d.buckets {
			d.buckets[i].fill(d.rates.by[i], d.left)
		}
	}
}
