package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"

	"github.com/hawser-iot/hawser/internal/core"
)

// notBorn is the answer to a key that no factory spoke for.
func notBorn(reason string) *core.Error {
	return core.E(core.Denied, reason, "no factory has listed this key, and no factory's authority has signed for it",
		"show an enrolment code, or the key or certificate that the unit was made with")
}

// EnrolBorn gives a device its first certificate for the key that it was born
// with (CC 1.7): one that a production line listed, or one that a factory's
// authority certified. shown is what the TLS client showed, its own certificate
// first: the handshake proved that it holds the key. When it is empty, the
// request's own key must be the listed one, and its signature is the proof.
//
// A listed key is spent by the first handshake with the certificate that is got
// with it, like an enrolment code. A birth certificate is the lasting fallback:
// with it the unit gets a new certificate whenever it has none that is good,
// and the one before ends with the first use of the new one; whoever then shows
// that one has the same birth certificate, and both are held.
func (s *Service) EnrolBorn(ctx context.Context, _ netip.Addr, shown []*x509.Certificate, csrDER []byte) ([][]byte, error) {
	chain, err := s.enrolBorn(ctx, shown, csrDER)
	return chain, s.refused(err)
}

func (s *Service) enrolBorn(ctx context.Context, shown []*x509.Certificate, csrDER []byte) ([][]byte, error) {
	if len(shown) > 0 {
		if st, err := s.registeredLeaf(shown[0]); err != nil {
			return nil, err
		} else if st != nil {
			return s.enrolLegacy(ctx, st, csrDER)
		}
	}
	key, err := bornKey(shown, csrDER)
	if err != nil {
		return nil, err
	}
	var born *BornUnit
	err = s.d.View(ctx, func(tx Tx) error {
		var err error
		born, err = tx.BornUnit(ctx, key)
		return err
	})
	if err != nil {
		return nil, unavailable(fmt.Errorf("look up the key a unit was born with: %w", err))
	}
	if len(shown) > 0 {
		ca, err := s.factoryCA(ctx, shown)
		if err != nil {
			return nil, err
		}
		if ca != nil {
			return s.enrolByCA(ctx, ca, shown[0], key, born, csrDER)
		}
	}
	if born == nil {
		return nil, notBorn("unknown-birth-key")
	}
	return s.enrolListed(ctx, born, csrDER)
}

// bornKey is the key that the other end has proved to hold.
func bornKey(shown []*x509.Certificate, csrDER []byte) (core.Hash, error) {
	if len(shown) > 0 {
		return spkiHash(shown[0].RawSubjectPublicKeyInfo), nil
	}
	if len(csrDER) == 0 || len(csrDER) > MaxCSRBytes {
		return core.Hash{}, core.E(core.TooLarge, "csr-size", "the certificate request is empty or larger than 8 KB", "send a PKCS#10 request in DER, base64")
	}
	c, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return core.Hash{}, unparsable(err)
	}
	if _, err := p256Key(c); err != nil { // before its signature is computed
		return core.Hash{}, err
	}
	if err := c.CheckSignature(); err != nil {
		return core.Hash{}, &core.Error{Kind: core.Invalid, Reason: "csr-signature", Message: "the request is not signed by the key in it", Hint: "sign it with the device's own key", Err: err}
	}
	return spkiHash(c.RawSubjectPublicKeyInfo), nil
}

// enrolListed is the first enrolment of a unit that a production line listed.
func (s *Service) enrolListed(ctx context.Context, born *BornUnit, csrDER []byte) ([][]byte, error) {
	st := s.index.device(born.Device)
	if st == nil {
		return nil, notBorn("unknown-birth-key") // its list is being taken
	}
	if !born.Spent.IsZero() {
		// Whoever has the key a unit was born with is the unit, once more from
		// the start, or a copy of it. It is no authority any more.
		if err := s.finding(ctx, born.Device, "birth-key-used-again"); err != nil {
			return nil, unavailable(err)
		}
		return nil, core.E(core.Denied, "birth-key-spent", "this key was spent with the unit's first enrolment", "renew with the unit's certificate, or ask the maker for a code")
	}
	if err := s.listStands(ctx, born.Source); err != nil {
		return nil, err
	}
	return s.issueBorn(ctx, st, csrDER, DoorList, born.Key)
}

// listStands says whether units of a list may still enrol.
func (s *Service) listStands(ctx context.Context, list core.Hash) error {
	var line *Line
	err := s.d.View(ctx, func(tx Tx) error {
		l, err := tx.FactoryList(ctx, list)
		if err != nil || l == nil {
			return err
		}
		line, err = tx.FactoryLine(ctx, l.Line)
		return err
	})
	switch {
	case err != nil:
		return unavailable(fmt.Errorf("look up a factory list: %w", err))
	case line == nil:
		return notBorn("unknown-birth-key")
	case !line.Ended.IsZero():
		return core.E(core.Denied, "line-ended", "the production line that listed this unit was ended", "ask the maker for an enrolment code")
	}
	return nil
}

// issueBorn is what all first enrolments without a code have in common.
func (s *Service) issueBorn(ctx context.Context, st *state, csrDER []byte, door Door, key core.Hash) ([][]byte, error) {
	if !st.dev.Revoked.IsZero() {
		return nil, refusedCert("revoked")
	}
	terms, err := s.terms(ctx, st.dev.Product)
	if err != nil {
		return nil, err
	}
	req, err := parseCSR(csrDER, s.env, st.dev.Product, st.dev.ID, s.weak)
	if err != nil {
		return nil, s.noteHostile(ctx, st.dev.ID, err)
	}
	if door == DoorCA && req.hash == key {
		return nil, badCSR("key-reused", "the request is for the key of the birth certificate", "make a new key for every request; the birth certificate's is kept for the day on which all others are lost")
	}
	if st, err = s.owned(ctx, st); err != nil {
		return nil, err
	}
	return s.issue(ctx, st, req, terms, door, key)
}

// owned opens the first ownership of a device that has none yet: until owners
// can claim, enrolment does. After an erasure a device stays nobody's (design,
// section 5, Subjects).
func (s *Service) owned(ctx context.Context, st *state) (*state, error) {
	first, half := st.own == nil && st.dev.Ownerships == 0, st.own != nil && !st.own.Done
	if !first && !half {
		return st, nil
	}
	next, err := s.open(ctx, st.dev.ID, core.Actor{Kind: core.ActorDevice})
	if err != nil {
		return nil, unavailable(err)
	}
	return next, nil
}
