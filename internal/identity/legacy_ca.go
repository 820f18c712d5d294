package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

func (s *Service) loadLegacyCAs(ctx context.Context, tx Tx) error {
	all, err := tx.LegacyCAs(ctx)
	if err != nil {
		return err
	}
	cas := map[core.Hash]*legacyCA{}
	for i := range all {
		cert, err := x509.ParseCertificate(all[i].DER)
		if err != nil {
			return fmt.Errorf("parse legacy authority %s: %w", all[i].Name, err)
		}
		cas[all[i].ID] = &legacyCA{row: all[i], cert: cert}
	}
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	s.doors.cas = cas
	return nil
}

// legacyAuthority is the authority under which a certificate was registered, if
// it stands.
func (s *Service) legacyAuthority(row *LegacyRow) (*legacyCA, error) {
	s.doors.mu.RLock()
	defer s.doors.mu.RUnlock()
	ca := s.doors.cas[row.CA]
	if ca == nil || !ca.row.Ended.IsZero() {
		return nil, refusedLegacy("legacy-ca-ended")
	}
	return ca, nil
}

// RegisteredLeaf reports whether a certificate is one that was registered under
// an authority of the maker's, and what is wrong with it now: with the
// authority, its chain, its time or its use. It reads memory only and says
// nothing of the device. An authority alone opens nothing: the certificate
// itself must be in the register, and its chain is held against that one
// authority, never against ours.
func (s *Service) RegisteredLeaf(leaf *x509.Certificate) (known bool, err error) {
	st, err := s.registeredLeaf(leaf)
	return st != nil || err != nil, s.refused(err)
}

// registeredLeaf is the device of a registered certificate; nil when it is none.
func (s *Service) registeredLeaf(leaf *x509.Certificate) (*state, error) {
	st := s.index.legacyLeaf(Fingerprint(leaf))
	if st == nil {
		return nil, nil
	}
	ca, err := s.legacyAuthority(st.legacy)
	if err != nil {
		return nil, err
	}
	return st, chainOf(ca.cert, leaf, s.d.Now())
}

// IdentifyLeaf says which device a registered certificate is of, and whose. The
// handshake is complete: the caller has proof that the other end holds the key.
// Like Identify, the caller must be ready for Notify before it calls.
func (s *Service) IdentifyLeaf(ctx context.Context, leaf *x509.Certificate) (Identified, error) {
	st, err := s.registeredLeaf(leaf)
	if err == nil && st == nil {
		err = refusedLegacy("legacy-unknown")
	}
	if err != nil {
		return Identified{}, s.refused(err)
	}
	who, err := s.welcomeLegacy(ctx, st)
	return who, s.refused(err)
}

// chainOf holds a certificate against the authority that it was registered
// under.
func chainOf(ca, leaf *x509.Certificate, now time.Time) error {
	bad := func(reason string, err error) error {
		e := refusedLegacy(reason)
		e.Err = err
		return e
	}
	if why := unfitLeaf(leaf); why != "" {
		return bad(why, nil)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var inv x509.CertificateInvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &inv) && inv.Reason == x509.Expired:
		return bad("legacy-expired", err)
	case errors.As(err, &inv) && inv.Reason == x509.IncompatibleUsage:
		return bad("legacy-usage", err)
	default:
		return bad("legacy-chain", err)
	}
}

// unfitLeaf says why no device is let in by a certificate, whoever signed it.
func unfitLeaf(c *x509.Certificate) (reason string) {
	for _, u := range c.URIs {
		// Only our own authority gives such names.
		if strings.HasPrefix(strings.ToLower(u.String()), urnPrefix) {
			return "legacy-hawser-name"
		}
	}
	switch {
	case c.IsCA:
		return "legacy-usage"
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return "legacy-usage"
	case !strongKey(c):
		return "legacy-weak-key"
	default:
		return ""
	}
}

// strongKey reports whether a certificate's key is one of 112 bits or more
// (NIST SP 800-57 part 1, table 2).
func strongKey(c *x509.Certificate) bool {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize >= 256
	case ed25519.PublicKey:
		return true
	default:
		return false
	}
}

// ParseLegacyCerts reads certificates in PEM, one block each.
func ParseLegacyCerts(b []byte) ([]*x509.Certificate, error) {
	bad := func(err error, n int, message string) error {
		return &core.Error{Kind: core.Invalid, Reason: "legacy-certificate", Message: fmt.Sprintf("certificate %d: %s", n, message), Hint: "give the devices' own certificates in PEM, without their keys", Err: err}
	}
	var out []*x509.Certificate
	for len(strings.TrimSpace(string(b))) > 0 {
		n := len(out) + 1
		block, rest := pem.Decode(b)
		switch {
		case block == nil || block.Type != "CERTIFICATE":
			return nil, bad(nil, n, "is not a certificate in PEM")
		case n > MaxLegacyLeaves:
			return nil, core.E(core.TooLarge, "legacy-list-long", fmt.Sprintf("there are more than %d certificates", MaxLegacyLeaves), "give them in several requests")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, bad(err, n, "is no certificate")
		}
		out, b = append(out, c), rest
	}
	if len(out) == 0 {
		return nil, bad(nil, 1, "there is none")
	}
	return out, nil
}

// MaxLegacyLeaves is how many certificates one request may bring.
const MaxLegacyLeaves = 200

// AddLegacyCA lets certificates of an authority of the maker's stand for
// devices, each once it was registered; the authority alone lets nobody in.
func (s *Service) AddLegacyCA(ctx context.Context, by core.Actor, product core.ProductID, name string, cert *x509.Certificate, reason string) error {
	now := s.d.Now().UTC()
	switch {
	case name == "" || !ValidBirthWord(name):
		return core.E(core.Invalid, "legacy-name", "the name is no word of 64 characters", "use up to 64 letters, digits, '.', '_', '/', '+' and '-'; it stands in the ledger for ever, so it names no person")
	case now.Before(cert.NotBefore) || !now.Before(cert.NotAfter):
		return core.E(core.Invalid, "legacy-ca", "the authority's certificate is not good now", "give one that is")
	case !strongKey(cert):
		return core.E(core.Invalid, "legacy-ca", "the authority's key is too weak", "RSA of 2048 bits, or a curve of 256, is the least")
	case s.ours(cert):
		return core.E(core.Denied, "legacy-ca-ours", "this is an authority of this installation", "its certificates need no other door")
	}
	terms, err := s.mayBring(ctx, product, OwnCA, 0, reason)
	if err != nil {
		return err
	}
	row := LegacyCA{ID: sha256.Sum256(cert.Raw), Name: name, DER: cert.Raw, Product: product, Reason: reason, Operator: by.ID, Added: now}
	err = s.d.Update(ctx, func(tx Tx) error {
		if err := tx.InsertLegacyCA(ctx, row); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordLegacyCAAdded, Actor: by, Product: product, Policy: terms.Policy, Facts: []core.Fact{
			{Name: "authority", Value: name}, {Name: "certificate", Value: row.ID.String()}, {Name: "reason", Value: reason},
		}})
	})
	if err != nil {
		return fmt.Errorf("add legacy authority: %w", err)
	}
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	s.doors.cas[row.ID] = &legacyCA{row: row, cert: cert}
	return nil
}

// EndLegacyCA ends an authority: its certificates open nothing any more, and
// sessions that began with one are cut.
func (s *Service) EndLegacyCA(ctx context.Context, by core.Actor, name string, cause Cause) error {
	if _, err := (Why{Cause: cause}).checked(); err != nil {
		return err
	}
	now := s.d.Now().UTC()
	var ended LegacyCA
	err := s.d.Update(ctx, func(tx Tx) error {
		all, err := tx.LegacyCAs(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(c LegacyCA) bool { return c.Name == name })
		if i < 0 {
			return core.E(core.Unknown, "unknown-legacy-ca", "there is no such authority", "`hawser legacy list PRODUCT` shows them")
		}
		if ended = all[i]; !ended.Ended.IsZero() {
			return core.E(core.Conflict, "legacy-ca-ended", "the authority ended before", "")
		}
		ended.Ended = now
		if err := tx.EndLegacyCA(ctx, name, now); err != nil {
			return err
		}
		return tx.Record(ctx, core.Record{Time: now, Kind: RecordLegacyCAEnded, Actor: by, Product: ended.Product, Facts: []core.Fact{
			{Name: "authority", Value: name}, {Name: "cause", Value: string(cause)},
		}})
	})
	if err != nil {
		return fmt.Errorf("end legacy authority: %w", err)
	}
	s.doors.mu.Lock()
	if ca := s.doors.cas[ended.ID]; ca != nil {
		s.doors.cas[ended.ID] = &legacyCA{row: ended, cert: ca.cert}
	}
	s.doors.mu.Unlock()
	for _, st := range s.index.snapshot() {
		if st.legacy != nil && st.legacy.CA == ended.ID {
			s.d.Notify(Change{Device: st.dev.ID, Kind: ChangeSuperseded, Serial: st.legacy.ID})
		}
	}
	return nil
}

// AddLeaves registers devices with the certificates that they have from an
// authority of the maker's, all of them or none. from says where a certificate
// has the serial number. What was registered before, just so, is no error.
func (s *Service) AddLeaves(ctx context.Context, by core.Actor, product core.ProductID, authority string, certs []*x509.Certificate, from SerialFrom, reason string) (fresh int, err error) {
	if from != FromCommonName && from != FromSerialNumber {
		return 0, core.E(core.Invalid, "serial-from", "it is not said where a certificate has the serial number", "give --serial-from cn or serialNumber")
	}
	if len(certs) == 0 || len(certs) > MaxLegacyLeaves {
		return 0, core.E(core.TooLarge, "legacy-list-long", fmt.Sprintf("there are not 1 to %d certificates", MaxLegacyLeaves), "give them in several requests")
	}
	terms, err := s.mayBring(ctx, product, OwnCA, 0, reason)
	if err != nil {
		return 0, err
	}
	ca, err := s.authorityNamed(product, authority)
	if err != nil {
		return 0, err
	}
	s.taking.Lock()
	defer s.taking.Unlock()
	var shown []*state
	err = s.d.Update(ctx, func(tx Tx) error {
		shown = nil
		for i, c := range certs {
			st, err := s.bringLeaf(ctx, tx, by, product, ca, c, from)
			if errors.Is(err, errNoChange) {
				continue
			}
			if err != nil {
				return fmt.Errorf("certificate %d: %w", i+1, err)
			}
			shown = append(shown, st)
		}
		if len(shown) == 0 {
			return nil
		}
		if err := s.fits(product, len(shown)); err != nil {
			return err
		}
		return s.recordLegacyAdded(ctx, tx, by, product, &terms, OwnCA, len(shown), reason, core.Fact{Name: "authority", Value: authority})
	})
	if err != nil {
		return 0, fmt.Errorf("add legacy certificates: %w", err)
	}
	for _, st := range shown {
		s.index.apply(st)
	}
	return len(shown), nil
}

func (s *Service) authorityNamed(product core.ProductID, name string) (*legacyCA, error) {
	s.doors.mu.RLock()
	defer s.doors.mu.RUnlock()
	for _, ca := range s.doors.cas {
		if ca.row.Name != name || ca.row.Product != product {
			continue
		}
		if !ca.row.Ended.IsZero() {
			return nil, core.E(core.Conflict, "legacy-ca-ended", "the authority was ended", "its certificates are not taken any more")
		}
		return ca, nil
	}
	return nil, core.E(core.Unknown, "unknown-legacy-ca", "the product has no such authority", "add it first: `hawser legacy authority`")
}

// bringLeaf registers one device with its certificate.
func (s *Service) bringLeaf(ctx context.Context, tx Tx, by core.Actor, product core.ProductID, ca *legacyCA, c *x509.Certificate, from SerialFrom) (*state, error) {
	if err := chainOf(ca.cert, c, s.d.Now()); err != nil {
		return nil, unfit(core.ReasonOf(err), err)
	}
	id, err := (&FactoryCA{SerialFrom: from}).serialIn(c)
	if err != nil {
		return nil, core.E(core.Invalid, "legacy-serial", "it names no serial number where --serial-from says", "a serial number is 1 to 64 letters, digits, '.', '_' or '-'")
	}
	key := spkiHash(c.RawSubjectPublicKeyInfo)
	st, err := s.bringOne(ctx, tx, by, product, LegacyRow{
		ID: newLegacyID(OwnCA), Device: id, Kind: OwnCA, Proof: Fingerprint(c), Alone: key, CA: ca.row.ID, NotAfter: c.NotAfter,
	})
	if err != nil {
		return nil, err
	}
	// The key is this unit's for ever: no request for a certificate of ours may
	// be made with it, by this unit or another (CC 1.9).
	owner, fresh, err := tx.ClaimKey(ctx, key, id, s.d.Now())
	if err != nil {
		return nil, err
	}
	if owner != id || !fresh {
		return nil, core.E(core.Conflict, "legacy-shared", fmt.Sprintf("the key of %s was shown before", id), "each device has a key of its own: give the device an enrolment code")
	}
	return st, nil
}

// unfit says what is wrong with a certificate that is to be registered.
func unfit(reason string, err error) error {
	message, hint := "it is not signed by this authority", "name the authority that signed it itself, not the one above"
	switch reason {
	case "legacy-hawser-name":
		message, hint = "it has a name that only this installation's authority gives", "a device with a certificate of this installation needs no other door"
	case "legacy-usage":
		message, hint = "it is not for TLS clients", "an authority, or a certificate without digital signature, lets no device in"
	case "legacy-weak-key":
		message, hint = "its key is too weak", "RSA of 2048 bits, or a curve of 256, is the least; enrol the device with a new key"
	case "legacy-expired":
		message, hint = "it is not good now", "give the device an enrolment code"
	}
	return &core.Error{Kind: core.Invalid, Reason: reason, Message: message, Hint: hint, Err: err}
}
