package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Bounds of certificates from a factory.
const (
	MaxFactoryCABytes = 64 << 10
	maxShownCerts     = 4 // of a client's chain that are looked at
)

// ParseFactoryCA reads the certificate of a factory's authority: one PEM block.
func ParseFactoryCA(b []byte) (*x509.Certificate, error) {
	bad := func(err error, message string) error {
		return &core.Error{Kind: core.Invalid, Reason: "factory-ca", Message: message, Hint: "give one certificate in PEM: of the authority that signs the birth certificates, itself", Err: err}
	}
	if len(b) > MaxFactoryCABytes {
		return nil, bad(nil, "the file is larger than 64 KB")
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, bad(nil, "the file is not one certificate in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, bad(err, "the file is no certificate")
	}
	if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, bad(nil, "the certificate is not that of an authority")
	}
	return c, nil
}

// AddFactoryCA takes birth certificates by an authority of the maker's for one
// declared product from now on.
func (s *Service) AddFactoryCA(ctx context.Context, by core.Actor, cert *x509.Certificate, c FactoryCA) error {
	if err := s.bounded(c.Name, c.Until, c.MaxUnits); err != nil {
		return err
	}
	now := s.d.Now().UTC()
	switch {
	case !c.Product.Valid():
		return core.E(core.Invalid, "product-id", "the product is not in the form of a product id", "use the `product` of its declaration")
	case c.SerialFrom != FromCommonName && c.SerialFrom != FromSerialNumber:
		return core.E(core.Invalid, "serial-from", "it is not said where a birth certificate has the serial number", "give --serial-from cn or serialNumber")
	case now.Before(cert.NotBefore) || !now.Before(cert.NotAfter):
		return core.E(core.Invalid, "factory-ca", "the authority's certificate is not good now", "give one that is")
	case s.ours(cert):
		return core.E(core.Denied, "factory-ca-ours", "this is an authority of this installation", "a factory's authority has a key of its own, which Hawser does not have")
	}
	terms, err := s.terms(ctx, c.Product)
	if err != nil {
		return err
	}
	c.ID, c.DER, c.Operator, c.Added, c.Until, c.Ended = sha256.Sum256(cert.Raw), cert.Raw, by.ID, now, c.Until.UTC(), time.Time{}
	return s.d.Update(ctx, func(tx Tx) error {
		if err := tx.InsertFactoryCA(ctx, c); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordCAAdded, Actor: by, Product: c.Product, Policy: terms.Policy, Facts: []core.Fact{
			{Name: "authority", Value: c.Name},
			{Name: "certificate", Value: c.ID.String()},
			{Name: "serial_from", Value: string(c.SerialFrom)},
			{Name: "until", Value: c.Until.Format(time.RFC3339)},
			{Name: "max_units", Value: strconv.Itoa(c.MaxUnits)},
		}})
	})
}

// ours reports whether a certificate is, or is signed by, one of our own.
func (s *Service) ours(c *x509.Certificate) bool {
	for _, der := range s.d.CA.Bundle() {
		own, err := x509.ParseCertificate(der)
		if err == nil && (own.Equal(c) || c.CheckSignatureFrom(own) == nil) {
			return true
		}
	}
	return false
}

// EndFactoryCA ends an authority: its birth certificates open nothing any more.
// Units that enrolled are not touched.
func (s *Service) EndFactoryCA(ctx context.Context, by core.Actor, name string, cause Cause) error {
	if _, err := (Why{Cause: cause}).checked(); err != nil {
		return err
	}
	now := s.d.Now().UTC()
	return s.d.Update(ctx, func(tx Tx) error {
		all, err := tx.FactoryCAs(ctx)
		if err != nil {
			return err
		}
		for i := range all {
			switch {
			case all[i].Name != name:
				continue
			case !all[i].Ended.IsZero():
				return core.E(core.Conflict, "factory-ca-ended", "the authority ended before", "")
			}
			if err := tx.EndFactoryCA(ctx, name, now); err != nil {
				return err
			}
			return tx.Record(ctx, core.Record{Time: now, Kind: RecordCAEnded, Actor: by, Product: all[i].Product, Facts: []core.Fact{
				{Name: "authority", Value: name}, {Name: "cause", Value: string(cause)},
			}})
		}
		return core.E(core.Unknown, "unknown-factory-ca", "there is no such authority", "`hawser factory show` lists them")
	})
}

// factoryCA is the authority that a client's certificate leads to; nil when it
// leads to none.
func (s *Service) factoryCA(ctx context.Context, shown []*x509.Certificate) (*FactoryCA, error) {
	var all []FactoryCA
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		all, err = tx.FactoryCAs(ctx)
		return err
	})
	if err != nil {
		return nil, unavailable(fmt.Errorf("read factory authorities: %w", err))
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:min(len(shown), maxShownCerts)] {
		between.AddCert(c)
	}
	for i := range all {
		root, err := x509.ParseCertificate(all[i].DER)
		if err != nil {
			return nil, unavailable(fmt.Errorf("parse factory authority: %w", err))
		}
		pool := x509.NewCertPool()
		pool.AddCert(root)
		at := x509.VerifyOptions{
			Roots: pool, Intermediates: between, CurrentTime: s.d.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		}
		_, err = shown[0].Verify(at)
		if inv, ok := errors.AsType[x509.CertificateInvalidError](err); ok && inv.Reason == x509.Expired {
			at.CurrentTime = shown[0].NotBefore
			if _, err := shown[0].Verify(at); err != nil {
				continue // whatever a listed key is shown in may have any dates
			}
			return nil, core.E(core.Denied, "birth-certificate-expired", "the birth certificate, or one above it, is not good now", "ask the maker for an enrolment code")
		}
		if err != nil {
			continue
		}
		if shown[0].IsCA {
			return nil, notBorn("birth-certificate-of-authority") // an authority is no unit
		}
		if !all[i].Ended.IsZero() {
			return nil, core.E(core.Denied, "factory-ca-ended", "the authority of this birth certificate was ended", "ask the maker for an enrolment code")
		}
		return &all[i], nil
	}
	return nil, nil
}

// serialIn is the serial number that a birth certificate names.
func (c *FactoryCA) serialIn(leaf *x509.Certificate) (core.DeviceID, error) {
	name := leaf.Subject.CommonName
	if c.SerialFrom == FromSerialNumber {
		name = leaf.Subject.SerialNumber
	}
	id := core.DeviceID(name)
	if !id.Valid() {
		return "", core.E(core.Denied, "birth-serial", "the birth certificate names no serial number where its authority's do", "the maker chose the place with `hawser factory ca add --serial-from`")
	}
	return id, nil
}

// enrolByCA turns a birth certificate into an operational one.
func (s *Service) enrolByCA(ctx context.Context, ca *FactoryCA, leaf *x509.Certificate, key core.Hash, born *BornUnit, csrDER []byte) ([][]byte, error) {
	id, err := ca.serialIn(leaf)
	if err != nil {
		return nil, err
	}
	if err := s.bornFits(ctx, ca, id, key, born); err != nil {
		return nil, err
	}
	st := s.index.device(id)
	if st == nil {
		// Nothing is registered for a request that would be refused anyway.
		if _, err := parseCSR(csrDER, s.env, ca.Product, id, s.weak); err != nil {
			return nil, err
		}
		if st, err = s.newBorn(ctx, ca, id, key); err != nil {
			return nil, err
		}
	}
	switch c := st.confirmed(); {
	case !st.dev.Suspect.IsZero():
		// The copy may have the birth certificate, too: a person decides first.
		return nil, core.E(core.Denied, "quarantined", "the device is in quarantine", "the maker has to look first")
	case c != nil && s.d.Now().Before(c.NotAfter):
		// It has a certificate that is good, and asks as if it had lost it.
		if err := s.finding(ctx, id, "birth-certificate-used-again"); err != nil {
			return nil, unavailable(err)
		}
	}
	return s.issueBorn(ctx, st, csrDER, DoorCA, key)
}

// bornFits refuses a birth certificate for a unit that was not born with it.
func (s *Service) bornFits(ctx context.Context, ca *FactoryCA, id core.DeviceID, key core.Hash, born *BornUnit) error {
	hostile := func(about core.DeviceID, reason, message, hint string) error {
		if s.index.device(about) != nil {
			if err := s.finding(ctx, about, reason); err != nil {
				return unavailable(err)
			}
		}
		return core.E(core.Denied, reason, message, hint)
	}
	if born != nil && (born.Device != id || born.Source != ca.ID) {
		return hostile(born.Device, "birth-key-reused", "the key of this birth certificate is another unit's", "no two units may have one key: find out how the factory makes keys")
	}
	if s.index.device(id) == nil {
		return nil
	}
	var own *BornUnit
	err := s.d.View(ctx, func(tx Tx) error {
		var err error
		own, err = tx.BornUnitOf(ctx, id)
		return err
	})
	switch {
	case err != nil:
		return unavailable(fmt.Errorf("look up the key a unit was born with: %w", err))
	case own == nil || own.Source != ca.ID:
		return hostile(id, "birth-of-another-door", "the unit of this serial number was not born with a certificate of this authority", "it enrols the way it was registered; `hawser device show` says how")
	case !own.Spent.IsZero():
		return hostile(id, "birth-key-spent", "an enrolment code took the place of this birth certificate", "renew with the unit's certificate, or ask the maker for a code")
	case own.Key != key:
		return hostile(id, "birth-certificate-changed", "the unit of this serial number was born with another key", "a factory gives a serial number once; if its board was replaced, it is a new unit")
	}
	return nil
}

// newBorn registers a unit with its birth certificate.
func (s *Service) newBorn(ctx context.Context, ca *FactoryCA, id core.DeviceID, key core.Hash) (*state, error) {
	if !s.d.Now().Before(ca.Until) {
		return nil, core.E(core.Denied, "factory-ca-over", "the authority's new units were taken until "+ca.Until.Format(time.DateOnly), "ask the maker to register the unit")
	}
	if _, err := s.terms(ctx, ca.Product); err != nil {
		return nil, err
	}
	var st *state
	err := s.d.Update(ctx, func(tx Tx) error {
		n, err := tx.BornUnits(ctx, ca.ID)
		if err != nil {
			return err
		}
		if n >= ca.MaxUnits {
			return core.E(core.Denied, "factory-ca-full", fmt.Sprintf("the authority has brought %d units, which is all that it may", n), "ask the maker to register the unit")
		}
		tied, err := tx.KeyTied(ctx, key)
		if err != nil {
			return err
		}
		if tied {
			return core.E(core.Denied, "birth-key-reused", "the key of this birth certificate was certified before", "no two units may have one key: find out how the factory makes keys")
		}
		r := Registration{Device: id, Product: ca.Product, Station: ca.Name}
		st, err = s.registerBorn(ctx, tx, &r, core.Actor{Kind: core.ActorStaff, ID: ca.Operator}, DoorCA, BornUnit{Key: key, Device: id, Source: ca.ID})
		return err
	})
	if core.KindOf(err) == core.Conflict { // two requests at once; the other one was first
		if other := s.index.device(id); other != nil {
			return other, nil
		}
	}
	if err != nil {
		return nil, unavailable(err)
	}
	s.index.apply(st)
	return st, nil
}
