package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// newTLS makes the two TLS configurations: one of 1.3 alone, and one that also
// offers 1.2 while a live product declares it.
//
// Session tickets are off: a resumed session would carry on an identity that
// was checked before, so every connection makes a full handshake and every
// revocation holds from the next connection on. Key exchange is left at Go's
// default, which prefers the hybrid X25519MLKEM768.
//
// A client must show a certificate, unless some product's declaration lets its
// devices come with a token for a while: then tokens makes that a question.
func (g *Gateway) newTLS() (only13, with12 *tls.Config) {
	only13 = &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         g.deps.Certificate,
		ClientAuth:             tls.RequireAnyClientCert, // verify checks the chain, more exactly than TLS would
		VerifyConnection:       g.verify,
		SessionTicketsDisabled: true,
		Time:                   g.deps.Now,
	}
	return only13, WithTLS12(only13)
}

// WithTLS12 is a configuration that also speaks TLS 1.2, for devices whose
// product declares it: ephemeral keys and authenticated encryption only
// (RFC 9325 §4.2).
func WithTLS12(only13 *tls.Config) *tls.Config {
	c := only13.Clone()
	c.MinVersion = tls.VersionTLS12
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) && strings.HasPrefix(s.Name, "TLS_ECDHE_") &&
			(strings.Contains(s.Name, "_GCM_") || strings.Contains(s.Name, "_CHACHA20_")) {
			c.CipherSuites = append(c.CipherSuites, s.ID)
		}
	}
	return c
}

// asking is a configuration whose clients may show no certificate: what they
// are is asked in CONNECT.
func asking(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.ClientAuth = tls.RequestClientCert
	return c
}

// config is the TLS configuration for a connection that begins now.
func (g *Gateway) config() *tls.Config {
	tokens := g.takesTokens()
	switch {
	case g.OffersTLS12() && tokens:
		return g.ask12
	case g.OffersTLS12():
		return g.tls12
	case tokens:
		return g.ask13
	default:
		return g.tls13
	}
}

const tls13 = tls.VersionTLS13

// certificateError is a refusal of the client's certificate.
type certificateError struct {
	why refusal
	err error
}

func (e *certificateError) Error() string {
	if e.err != nil {
		return string(e.why) + ": " + e.err.Error()
	}
	return string(e.why)
}

func (e *certificateError) Unwrap() error { return e.err }

// verify is asked in every handshake whether the client's certificate is one
// that this installation's authority signed for a device (CC 3.1, 3.2). TLS
// asks before the client has proved that it holds the key, so nothing is
// looked up or noted about the device here: see identify.
func (g *Gateway) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		if g.takesTokens() {
			return nil // byToken asks
		}
		return &certificateError{why: refuseNoCert}
	}
	leaf := cs.PeerCertificates[0]
	if known, err := g.registered(leaf); known {
		return err
	}
	return g.checkChain(leaf)
}

// identify asks who holds the certificate, once the handshake has proved that
// the client does. why is empty for a device that is welcome.
func (g *Gateway) identify(t *tls.Conn) (id identity.Identified, why refusal, err error) {
	state := t.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return identity.Identified{}, "", nil // nobody yet: see byToken
	}
	leaf := state.PeerCertificates[0]
	if known, bad := g.registered(leaf); known && bad == nil {
		id, err = g.deps.Legacy.IdentifyLeaf(g.ctx, leaf)
	} else if known {
		return identity.Identified{}, handshakeReason(bad), bad
	} else {
		id, err = g.deps.Identity.Identify(g.ctx, leaf)
	}
	if err == nil && state.Version < tls13 && !g.DeclaresTLS12(id.Product) {
		return id, refuseTLS12, nil
	}
	return id, barred(err), err
}

// barred names why identity does not welcome a device.
func barred(err error) refusal {
	if err == nil {
		return ""
	}
	if k := core.KindOf(err); k == core.Internal || k == core.Unavail {
		return refuseIdentity
	}
	return refusal(core.ReasonOf(err))
}

// checkChain holds the certificate against the operational authorities
// themselves, not the root above them: what another of our authorities signed
// does not pass, and what else the client sends as a chain does not matter.
func (g *Gateway) checkChain(leaf *x509.Certificate) error {
	// Exactly client authentication: a certificate that is also good for
	// something else was not made for a device (RFC 5280 §4.2.1.12).
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(leaf.UnknownExtKeyUsage) != 0 || leaf.IsCA {
		return &certificateError{why: refuseUsage}
	}
	roots := g.deps.DeviceCAs()
	if roots == nil { // x509 would take the system's authorities instead
		return &certificateError{why: refuseAuthority}
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: g.noCerts, CurrentTime: g.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		return nil
	}
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &certificateError{why: refuseExpired, err: err}
	case errors.As(err, &unknown) && g.elsewhere(leaf):
		return &certificateError{why: refuseElsewhere, err: err}
	case errors.As(err, &unknown):
		return &certificateError{why: refuseAuthority, err: err}
	default:
		return &certificateError{why: refuseChain, err: err}
	}
}

// elsewhere reports whether a certificate of unknown origin calls itself one
// of the other environment (CC 3.11). It only names the refusal better.
func (g *Gateway) elsewhere(leaf *x509.Certificate) bool {
	for _, u := range leaf.URIs {
		rest, ours := strings.CutPrefix(u.String(), "urn:hawser:")
		name, _, _ := strings.Cut(rest, ":")
		if e := core.Environment(name); ours && e.Valid() && e != g.deps.Environment {
			return true
		}
	}
	return false
}

// handshakeReason names why a handshake failed.
func handshakeReason(err error) refusal {
	var cert *certificateError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &cert):
		return cert.why
	case errors.Is(err, errNoSlot):
		return refuseNoSlot
	case errors.Is(err, errHandshakeSize):
		return refuseSize
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuseSlow
	case errors.As(err, &record):
		return refuseNotTLS
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), isReset(err):
		return refuseGone
	}
	// crypto/tls has no types for these; a test holds their texts.
	text := err.Error()
	switch {
	case strings.Contains(text, "remote error:"):
		return refuseByClient
	case strings.Contains(text, "unsupported versions"), strings.Contains(text, "protocol version"):
		return refuseVersion
	case strings.Contains(text, "didn't provide a certificate"):
		return refuseNoCert
	case strings.Contains(text, "no cipher suite supported"), strings.Contains(text, "key exchange"), strings.Contains(text, "no supported curve"):
		return refuseCipher
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		return refuseNotTLS
	}
	return refuseHandshake
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// plain is err without addresses: the log keeps no client's address in full.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
