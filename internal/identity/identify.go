package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Identified is who is at the other end of a connection.
type Identified struct {
	Device      core.DeviceID
	Product     core.ProductID
	Subject     core.Subject // zero: nobody's
	OwnedSince  time.Time    // zero: nobody's
	Credential  Credential   // what it proved that with
	Serial      Serial       // of the certificate, or the number of the legacy credential
	NotAfter    time.Time    // of the certificate, and when the legacy door closes
	Quarantined bool         // updates and diagnostics only
}

// refusedCert is the one answer to every certificate that is not admitted.
func refusedCert(reason string) *core.Error {
	return core.E(core.Denied, reason, "this certificate is not accepted here", "enrol anew, or ask the maker")
}

// VerifyLeaf checks that a client's certificate was issued by the operational
// intermediate, for TLS clients, and is in its time: what a handshake with
// ClientPool checks. It is for edges that cannot leave that to the handshake.
func (s *Service) VerifyLeaf(leaf *x509.Certificate) error {
	return s.issuedAndGood(leaf, s.d.Now())
}

// VerifyForRenewal is VerifyLeaf for who renews: a certificate that ran out is
// held to the last moment that it was good. Whether it may still be renewed
// says Renew.
func (s *Service) VerifyForRenewal(leaf *x509.Certificate) error {
	at := s.d.Now()
	if !at.Before(leaf.NotAfter) {
		at = leaf.NotAfter.Add(-time.Second)
	}
	return s.issuedAndGood(leaf, at)
}

func (s *Service) issuedAndGood(leaf *x509.Certificate, at time.Time) error {
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.d.CA.ClientPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		reason := "untrusted"
		if inv, ok := errors.AsType[x509.CertificateInvalidError](err); ok && inv.Reason == x509.Expired {
			reason = "expired"
		}
		e := refusedCert(reason)
		e.Err = err
		return s.refused(e)
	}
	return nil
}

// Identify says which device a certificate is, and whose. The chain was
// verified by TLS, and the handshake is complete: the caller has proof that
// the other end holds the key. It reads memory only, except for the first
// handshake with a certificate, which is durable before Identify returns: from
// then on the enrolment code is spent and the certificate before it is not
// good any more.
//
// A superseded certificate means that two hold one device's identity. Which of
// them is the device cannot be seen, so both are quarantined, not cut (CC 3.2;
// design, section 5, Identity).
//
// The caller must be ready for Notify before it calls Identify, or a
// revocation in between is missed.
func (s *Service) Identify(ctx context.Context, leaf *x509.Certificate) (Identified, error) {
	who, err := s.identify(ctx, leaf)
	return who, s.refused(err)
}

func (s *Service) identify(ctx context.Context, leaf *x509.Certificate) (Identified, error) {
	st, serial, err := s.lookup(leaf)
	if err != nil {
		return Identified{}, err
	}
	c := st.cert(serial)
	if c.State == Issued {
		if st, err = s.confirm(ctx, st.dev.ID, serial); err != nil {
			return Identified{}, err
		}
		if c = st.cert(serial); c == nil {
			return Identified{}, refusedCert("unknown-certificate")
		}
	}
	switch c.State {
	case Confirmed:
	case Superseded:
		if st, err = s.quarantine(ctx, st.dev.ID, "superseded-certificate-used", core.Job("identity")); err != nil {
			return Identified{}, err
		}
	default:
		return Identified{}, refusedCert("revoked")
	}
	return identified(st, serial, leaf.NotAfter), nil
}

// Recheck says who the holder of a live session is by now, after a Change. No
// handshake took place, so a certificate that was superseded meanwhile is
// refused and tells nothing about a copy. In quarantine it is held like the
// one after it: either of the two may be the device (CC 3.2).
func (s *Service) Recheck(leaf *x509.Certificate) (Identified, error) {
	st, serial, err := s.lookup(leaf)
	if err != nil {
		return Identified{}, err
	}
	switch st.cert(serial).State {
	case Issued, Confirmed:
		return identified(st, serial, leaf.NotAfter), nil
	case Superseded:
		if !st.dev.Suspect.IsZero() {
			return identified(st, serial, leaf.NotAfter), nil
		}
		return Identified{}, refusedCert("superseded")
	default:
		return Identified{}, refusedCert("revoked")
	}
}

func identified(st *state, serial Serial, notAfter time.Time) Identified {
	who := Identified{
		Device: st.dev.ID, Product: st.dev.Product, Subject: st.subject(), Credential: serial.Credential(), Serial: serial,
		NotAfter: notAfter, Quarantined: !st.dev.Suspect.IsZero(),
	}
	if !who.Subject.IsZero() {
		who.OwnedSince = st.own.Opened
	}
	return who
}

// lookup finds a certificate among those we issued and may still admit.
func (s *Service) lookup(leaf *x509.Certificate) (*state, Serial, error) {
	if !s.d.Now().Before(leaf.NotAfter) {
		serial, _ := serialOf(leaf.SerialNumber)
		return nil, serial, refusedCert("expired")
	}
	return s.known(leaf)
}

// known finds a certificate among those we issued, also one that ran out.
func (s *Service) known(leaf *x509.Certificate) (*state, Serial, error) {
	serial, ok := serialOf(leaf.SerialNumber)
	if !ok || leaf.IsCA || len(leaf.URIs) != 1 {
		return nil, serial, refusedCert("not-a-device")
	}
	env, product, device, ok := parseURN(leaf.URIs[0].String())
	switch {
	case !ok:
		return nil, serial, refusedCert("not-a-device")
	case env != s.env: // CC 3.11: a test identity is nothing in live
		return nil, serial, refusedCert("foreign-environment")
	}
	if s.d.Now().Before(leaf.NotBefore) {
		return nil, serial, refusedCert("not-yet")
	}
	st := s.index.serial(serial)
	if st == nil {
		return nil, serial, refusedCert("unknown-certificate")
	}
	c := st.cert(serial)
	if c.Fingerprint != Fingerprint(leaf) || st.dev.ID != device || st.dev.Product != product {
		return nil, serial, refusedCert("not-issued-here") // signed with our key, but not by us
	}
	return st, serial, nil
}

// quarantine keeps a device to updates and diagnostics until Release.
func (s *Service) quarantine(ctx context.Context, id core.DeviceID, reason string, by core.Actor) (*state, error) {
	if st := s.index.device(id); st != nil && !st.dev.Suspect.IsZero() {
		return st, nil
	}
	fresh := false
	st, err := s.change(ctx, id, func(tx Tx, st *state) error {
		if !st.dev.Suspect.IsZero() {
			return errNoChange
		}
		fresh = true
		st.dev.Suspect, st.dev.Suspicion = s.d.Now().UTC(), reason
		return tx.Record(ctx, s.record(st, RecordQuarantined, by, sealedPart{}, core.Fact{Name: "finding", Value: reason}))
	})
	if err != nil {
		return nil, unavailable(fmt.Errorf("quarantine: %w", err))
	}
	if fresh {
		s.d.Notify(Change{Device: id, Kind: ChangeQuarantined})
	}
	return st, nil
}

// Suspect quarantines a device for what an edge saw: two sessions of one
// certificate that keep taking over from each other, for one. reason is a
// word: it stands in clear in the ledger.
func (s *Service) Suspect(ctx context.Context, id core.DeviceID, reason string) error {
	if !isWord(reason) {
		return fmt.Errorf("quarantine: %q is no word", reason)
	}
	_, err := s.quarantine(ctx, id, reason, core.Job("gateway"))
	return err
}
