package link

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/hawser-iot/hawser/internal/command"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gateway"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/seal"
)

// ask asks one question of the keeper.
func (g *Gateway) ask(ctx context.Context, name string, q *question, out any) error {
	link := g.link.Load()
	if link == nil {
		return core.E(core.Unavail, "keeper-unreached", "the server that has the keys is not reached", "it is asked again by itself")
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return g.post(ctx, "/ask/"+name, *link, q, out)
}

func (g *Gateway) who(ctx context.Context, name string, q *question) (w identity.Identified, err error) {
	return w, g.ask(ctx, name, q, &w)
}

// Identify is gateway.Identity's.
func (g *Gateway) Identify(ctx context.Context, leaf *x509.Certificate) (identity.Identified, error) {
	return g.who(ctx, askIdentify, &question{Leaf: leaf.Raw})
}

// Recheck is gateway.Identity's.
func (g *Gateway) Recheck(leaf *x509.Certificate) (identity.Identified, error) {
	return g.who(context.Background(), askRecheck, &question{Leaf: leaf.Raw})
}

// Suspect is gateway.Identity's.
func (g *Gateway) Suspect(ctx context.Context, id core.DeviceID, reason string) error {
	return g.ask(ctx, askSuspect, &question{Device: id, Word: reason}, nil)
}

// TakesTokens is gateway.Legacy's, as the keeper last said.
func (g *Gateway) TakesTokens() bool { return g.token.Load() }

// IdentifyToken is gateway.Legacy's.
func (g *Gateway) IdentifyToken(ctx context.Context, source netip.Addr, user, token []byte) (identity.Identified, error) {
	return g.who(ctx, askToken, &question{Source: source, User: user, Token: token})
}

// RegisteredLeaf is gateway.Legacy's.
func (g *Gateway) RegisteredLeaf(leaf *x509.Certificate) (known bool, err error) {
	var a leafAnswer
	if err := g.ask(context.Background(), askLeaf, &question{Leaf: leaf.Raw}, &a); err != nil {
		return false, err
	}
	return a.Known, a.Problem.err()
}

// IdentifyLeaf is gateway.Legacy's.
func (g *Gateway) IdentifyLeaf(ctx context.Context, leaf *x509.Certificate) (identity.Identified, error) {
	return g.who(ctx, askIdentifyLeaf, &question{Leaf: leaf.Raw})
}

// RecheckLegacy is gateway.Legacy's.
func (g *Gateway) RecheckLegacy(s identity.Serial) (identity.Identified, error) {
	return g.who(context.Background(), askRecheckLegacy, &question{Serial: s})
}

// kinship is a hub and somebody it speaks for.
type kinship struct {
	hub   core.DeviceID
	child core.DeviceID
}

// vouched is what the keeper said of one, and when.
type vouched struct {
	v  *identity.Vouched
	at time.Time
}

const (
	// vouchedFor is how long what was said of a child holds here. A hub that was
	// revoked is gone by Sight, like every device.
	vouchedFor = time.Second
	maxVouched = 1 << 16
)

// Vouched is gateway.Children's: from memory for vouchedFor, and nil when the
// keeper is not reached.
func (g *Gateway) Vouched(hub core.DeviceID, child []byte) *identity.Vouched {
	k := kinship{hub, core.DeviceID(child)}
	g.mu.Lock()
	known, ok := g.vouched[k]
	g.mu.Unlock()
	if now := time.Now(); ok && now.Sub(known.at) < vouchedFor {
		return known.v
	}
	asked := time.Now()
	var v *identity.Vouched
	if !k.child.Valid() || g.ask(context.Background(), askVouched, &question{Device: hub, Child: k.child}, &v) != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.vouched) >= maxVouched {
		clear(g.vouched)
	}
	g.vouched[k] = vouched{v, asked}
	return v
}

func (g *Gateway) forgetChildren() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.vouched)
}

// Propose is gateway.Children's.
func (g *Gateway) Propose(ctx context.Context, hub, child core.DeviceID) error {
	return g.ask(ctx, askPropose, &question{Device: hub, Child: child}, nil)
}

// SpokeForOthers is gateway.Children's.
func (g *Gateway) SpokeForOthers(ctx context.Context, hub core.DeviceID) error {
	return g.ask(ctx, askSpokeFor, &question{Device: hub}, nil)
}

// Waiting is gateway.Downlink's. Only the keeper knows, and is asked by whoever
// fetches what waits.
func (g *Gateway) Waiting(core.DeviceID) bool { return true }

// Next is gateway.Downlink's.
func (g *Gateway) Next(ctx context.Context, id core.DeviceID, subject core.Subject, after uint64, n int) (m []command.Message, err error) {
	return m, g.ask(ctx, askNext, &question{Device: id, Subject: subject, Number: after, Count: n}, &m)
}

// Taken is gateway.Downlink's.
func (g *Gateway) Taken(ctx context.Context, id core.DeviceID, number uint64, refused bool) error {
	return g.ask(ctx, askTaken, &question{Device: id, Number: number, Yes: refused}, nil)
}

// Reply is gateway.Downlink's.
func (g *Gateway) Reply(ctx context.Context, id core.DeviceID, subject core.Subject, name, call string, payload []byte) error {
	return g.ask(ctx, askReply, &question{Device: id, Subject: subject, Word: name, ID: call, Payload: payload}, nil)
}

// SettingsDue is gateway.Downlink's; see Waiting.
func (g *Gateway) SettingsDue(core.DeviceID, uint64) bool { return true }

// Settings is gateway.Downlink's.
func (g *Gateway) Settings(ctx context.Context, id core.DeviceID, subject core.Subject, have uint64) (command.Message, bool, error) {
	var a settingsAnswer
	err := g.ask(ctx, askSettings, &question{Device: id, Subject: subject, Number: have}, &a)
	return a.Message, a.Due, err
}

// SettingsTaken is gateway.Downlink's.
func (g *Gateway) SettingsTaken(ctx context.Context, id core.DeviceID, version uint64) error {
	return g.ask(ctx, askSettingsTaken, &question{Device: id, Number: version}, nil)
}

// Report is gateway.Downlink's.
func (g *Gateway) Report(ctx context.Context, id core.DeviceID, subject core.Subject, payload []byte) error {
	return g.ask(ctx, askReport, &question{Device: id, Subject: subject, Payload: payload}, nil)
}

// Remember is gateway.Memory's.
func (g *Gateway) Remember(ctx context.Context, list []command.Listening) error {
	for len(list) > 0 {
		n := min(len(list), 500)
		if err := g.ask(ctx, askRemember, &question{Sessions: list[:n]}, nil); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// Claim is gateway.Sessions'.
func (g *Gateway) Claim(ctx context.Context, c gateway.Claim) (h gateway.Handed, err error) {
	return h, g.ask(ctx, askClaim, &question{Claim: &c}, &h)
}

// Fought is gateway.Sessions'.
func (g *Gateway) Fought(ctx context.Context, f gateway.Fight) (two bool, err error) {
	return two, g.ask(ctx, askFought, &question{Fight: &f}, &two)
}

// Calm is gateway.Sessions'.
func (g *Gateway) Calm(id core.DeviceID) {
	go func() {
		if err := g.ask(context.Background(), askCalm, &question{Device: id}, nil); err != nil {
			g.d.Log.Debug("the keeper was not told of a connection that died of silence", "err", err)
		}
	}()
}

// Lend is seal.Lender's.
func (g *Gateway) Lend(ctx context.Context, s core.Subject, e core.Epoch) (l seal.Loan, err error) {
	return l, g.ask(ctx, askLend, &question{Subject: s, Epoch: e}, &l)
}

// EnsureEpoch is seal.Lender's.
func (g *Gateway) EnsureEpoch(ctx context.Context, e core.Epoch) error {
	return g.ask(ctx, askEpoch, &question{Epoch: e}, nil)
}
