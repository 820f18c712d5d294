package gateway

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// Legacy is the door for devices in the field that have no certificate of this
// installation yet (design, section 5, Brownfield): identity.Service. What it
// says holds for MQTT alone; the doors of HTTPS let nobody in by it.
type Legacy interface {
	// TakesTokens reports whether somebody may come without a certificate now.
	// It is asked at every handshake.
	TakesTokens() bool
	// IdentifyToken says whose token it is; core.TooMany when the source has to
	// wait.
	IdentifyToken(ctx context.Context, source netip.Addr, user, token []byte) (identity.Identified, error)
	// RegisteredLeaf reports whether a certificate is one that was registered
	// under an authority of the maker's, and what is wrong with it now.
	RegisteredLeaf(leaf *x509.Certificate) (known bool, err error)
	// IdentifyLeaf says whose such a certificate is, after the handshake.
	IdentifyLeaf(ctx context.Context, leaf *x509.Certificate) (identity.Identified, error)
	// RecheckLegacy is Identity.Recheck for a session that began with either.
	RecheckLegacy(identity.Serial) (identity.Identified, error)
}

const (
	refuseToken     refusal = "wrong-token"         // unknown device, wrong token, or another device's
	refuseGuesses   refusal = "token-throttled"     // too many wrong tokens from the source
	endLegacyClosed refusal = "legacy-door-closed"  // its last day is over, or its certificate's
	endLegacyShut   refusal = "legacy-not-declared" // a declaration without it came into force
)

// takesTokens reports whether a client may show no certificate.
func (g *Gateway) takesTokens() bool { return g.deps.Legacy != nil && g.deps.Legacy.TakesTokens() }

// registered says what is wrong with a certificate that was registered under an
// authority of the maker's; known is false for every other one.
func (g *Gateway) registered(leaf *x509.Certificate) (known bool, err error) {
	if g.deps.Legacy == nil {
		return false, nil
	}
	if known, err = g.deps.Legacy.RegisteredLeaf(leaf); err != nil {
		return known, &certificateError{why: barred(err), err: err}
	}
	return known, nil
}

// leaf is the client's certificate; nil when it showed none.
func (c *conn) leaf() *x509.Certificate {
	if certs := c.tls.ConnectionState().PeerCertificates; len(certs) > 0 {
		return certs[0]
	}
	return nil
}

// recheck asks who the device of a session is by now.
func (c *conn) recheck() (identity.Identified, error) { return c.rechecker()() }

// rechecker is recheck for later: it holds nothing else of the connection.
func (c *conn) rechecker() func() (identity.Identified, error) {
	if serial := c.serial; serial.Credential().Legacy() {
		legacy := c.g.deps.Legacy
		return func() (identity.Identified, error) { return legacy.RecheckLegacy(serial) }
	}
	leaf, ours := c.leaf(), c.g.deps.Identity
	return func() (identity.Identified, error) { return ours.Recheck(leaf) }
}

// byToken finds out who a client is that showed no certificate. Until then the
// connection is a stranger's: nothing of it was taken but CONNECT, and after a
// refusal it is closed. The token is not kept.
func (c *conn) byToken(b *burst) bool {
	g, k := c.g, &b.packet.Connect
	defer clear(k.Password)
	if !k.HasUsername || !k.HasPassword || len(k.Username) == 0 || len(k.Password) == 0 || g.deps.Legacy == nil {
		return c.answer(b, refuseNoCert, mqtt.NotAuthorized)
	}
	id, err := g.deps.Legacy.IdentifyToken(g.ctx, c.from, k.Username, k.Password)
	if err != nil {
		why, code := barred(err), mqtt.NotAuthorized
		switch core.KindOf(err) {
		case core.TooMany:
			why, code = refuseGuesses, mqtt.ConnectionRateExceeded
		case core.Internal, core.Unavail:
			code = mqtt.ServerUnavailable
		default:
			if why == refuseToken {
				code = mqtt.BadUserNameOrPassword
			}
		}
		c.detail = err
		return c.answer(b, why, code)
	}
	if c.tlsVersion < tls13 && !g.DeclaresTLS12(id.Product) {
		return c.answer(b, refuseTLS12, mqtt.NotAuthorized)
	}
	c.id, c.device, c.serial = id, id.Device, id.Serial
	return true
}

// recheckLegacy asks anew about the live sessions of a product that began at
// the legacy door, after its declaration changed.
func (g *Gateway) recheckLegacy(product core.ProductID) {
	if g.deps.Legacy == nil {
		return
	}
	var some []*conn
	g.table.each(func(_ core.DeviceID, d *device) {
		for _, c := range d.live() {
			if c.serial.Credential().Legacy() && c.product.id == product {
				some = append(some, c)
			}
		}
	})
	for _, c := range some {
		c.refresh()
	}
}

// LegacySession is a live session that began at the legacy door.
type LegacySession struct {
	Device     core.DeviceID
	Credential identity.Credential
	Since      time.Time
}

// LegacySessions are all of them now, for checks.
func (g *Gateway) LegacySessions() []LegacySession {
	var out []LegacySession
	g.table.each(func(id core.DeviceID, d *device) {
		for _, c := range d.live() {
			if k := c.serial.Credential(); k.Legacy() {
				out = append(out, LegacySession{Device: id, Credential: k, Since: c.since})
			}
		}
	})
	return out
}
