package identity

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/gate"
)

// badCode is the one answer to an unknown device, a wrong code, a spent one and
// one that ran out: a stranger learns nothing about which devices exist.
func badCode(reason string) *core.Error {
	return core.E(core.Denied, reason, "this serial number and enrolment code do not belong together", "check both; a code is good for one device until its first connection")
}

// Enrol gives a device its certificate for its enrolment code, as DER: the
// certificate and the intermediate that issued it. source is where the request
// came from.
//
// The code is spent by the first handshake with the certificate, not by the
// request: a device that lost the answer asks again with the same code and
// gets the same certificate for the same key, or a new one that takes the
// place of the unused one.
func (s *Service) Enrol(ctx context.Context, source netip.Addr, id core.DeviceID, code string, csrDER []byte) ([][]byte, error) {
	chain, err := s.enrol(ctx, source, id, code, csrDER)
	return chain, s.refused(err)
}

func (s *Service) enrol(ctx context.Context, source netip.Addr, id core.DeviceID, code string, csrDER []byte) ([][]byte, error) {
	if _, typed := parseCode(code); !typed && s.TakesTokens() {
		return s.enrolByToken(ctx, source, id, code, csrDER, mistypedCode())
	}
	// CC 1.13, 1.14: counted before it is compared. A code has 135 bits: only
	// the source is slowed down, neither a device nor its code can be locked.
	ticket, err := s.d.Gate.Open(ctx, gate.Attempt{Means: gate.EnrolmentCode, Account: string(id), Source: source})
	if err != nil {
		return nil, closed(err)
	}
	st, hash, err := s.verifyCode(ticket, id, code)
	if err != nil {
		if gerr := ticket.Wrong(ctx); gerr != nil {
			return nil, unavailable(gerr)
		}
		if core.ReasonOf(err) == "code-spent" {
			// Whoever holds a code that is spent holds a secret of the device:
			// that is evidence. It is no authority any more, so it changes
			// nothing: quarantine would let everybody who once saw a label
			// silence its owner's device.
			if ferr := s.finding(ctx, id, "code-used-again"); ferr != nil {
				return nil, unavailable(ferr)
			}
		}
		return nil, err
	}
	if err := ticket.Right(ctx); err != nil {
		return nil, unavailable(err)
	}
	terms, err := s.terms(ctx, st.dev.Product)
	if err != nil {
		return nil, err
	}
	req, err := parseCSR(csrDER, s.env, st.dev.Product, id, s.weak)
	if err != nil {
		return nil, s.noteHostile(ctx, id, err)
	}
	if st, err = s.owned(ctx, st); err != nil {
		return nil, err
	}
	return s.issue(ctx, st, req, terms, DoorCode, hash)
}

func mistypedCode() *core.Error {
	return core.E(core.Denied, "code-mistyped", "the enrolment code is mistyped", "it has 30 letters and digits; the last three check the others")
}

// verifyCode compares a code with the device's. It does the same work for a
// device that does not exist.
func (s *Service) verifyCode(ticket *gate.Ticket, id core.DeviceID, code string) (*state, core.Hash, error) {
	if err := ticket.Use(gate.EnrolmentCode, string(id)); err != nil {
		return nil, core.Hash{}, err
	}
	hash, typed := parseCode(code)
	var open, spent core.Hash
	st := s.index.device(id)
	if st != nil {
		open, spent = st.dev.Code, st.dev.Spent
	}
	isOpen := subtle.ConstantTimeCompare(hash[:], open[:]) == 1
	isSpent := subtle.ConstantTimeCompare(hash[:], spent[:]) == 1
	switch {
	case !typed:
		return nil, hash, mistypedCode()
	case isOpen && !st.dev.CodeUntil.IsZero() && !s.d.Now().Before(st.dev.CodeUntil):
		return nil, hash, badCode("code-expired")
	case isOpen:
		return st, hash, nil
	case isSpent:
		return nil, hash, badCode("code-spent")
	case st == nil:
		return nil, hash, badCode("unknown-device")
	default:
		return nil, hash, badCode("wrong-code")
	}
}

// terms are the product's; core.Unready when it may not have devices yet.
func (s *Service) terms(ctx context.Context, product core.ProductID) (Terms, error) {
	t, err := s.d.Policies.Terms(ctx, product)
	if isUnknown(err) {
		t.Missing = []string{"a published declaration: risk, inventory of data, list of interfaces"}
	} else if err != nil {
		return t, unavailable(err)
	}
	if len(t.Missing) > 0 { // CC 1.1
		return t, core.E(core.Unready, "product-not-declared",
			fmt.Sprintf("the product %s may not have devices yet; missing: %s", product, strings.Join(t.Missing, "; ")),
			"publish its declaration: `hawser declaration publish FILE`")
	}
	return t, nil
}

// MayEnrol says why devices of a product get no certificate yet: core.Unready
// with what is missing (CC 1.1). It is what a request would be told.
func (s *Service) MayEnrol(ctx context.Context, product core.ProductID) error {
	_, err := s.terms(ctx, product)
	return err
}

// noteHostile records that somebody with the device's secret asked for what
// devices do not get.
func (s *Service) noteHostile(ctx context.Context, id core.DeviceID, err error) error {
	switch reason := core.ReasonOf(err); reason {
	case "csr-ca-true", "csr-ca-usage", "csr-foreign-name", "csr-foreign-usage", "csr-key-known", "key-of-another-device":
		if ferr := s.finding(ctx, id, reason); ferr != nil {
			return unavailable(ferr)
		}
	}
	return err
}

// issue makes a certificate and keeps it as the device's pending one.
func (s *Service) issue(ctx context.Context, st *state, req request, terms Terms, door Door, code core.Hash) ([][]byte, error) {
	id := st.dev.ID
	if p := st.pending(); p != nil && p.Key == req.hash && p.Door == door && p.Code == code {
		return s.chain(p.DER), nil // the answer was lost; the certificate was not
	}
	if wait := s.takeIssue(id); wait > 0 {
		return nil, tooMany("device-issues", "this device asked for too many certificates", wait)
	}
	serial := newSerial()
	cert, err := s.d.CA.issueDevice(st.dev.Product, id, serial, terms.Life, req.key)
	if err != nil {
		return nil, unavailable(err)
	}
	now := s.d.Now().UTC()
	row := CertificateRow{
		Serial: serial, Device: id, Key: req.hash, Fingerprint: Fingerprint(cert), NotBefore: cert.NotBefore,
		NotAfter: cert.NotAfter, State: Issued, Door: door, Code: code, Issued: now, DER: cert.Raw,
	}
	next, err := s.change(ctx, id, func(tx Tx, st *state) error {
		if err := mayIssue(ctx, tx, st, door, code); err != nil {
			return err
		}
		if p := st.pending(); p != nil {
			if p.Key == req.hash && now.Before(p.NotAfter) {
				return errNoChange // two requests at once; both get the one that was first
			}
			p.State, p.Ended, p.DER = Superseded, now, nil
			if err := tx.UpdateCertificate(ctx, *p); err != nil {
				return err
			}
		}
		owner, fresh, err := tx.ClaimKey(ctx, req.hash, id, now)
		if err != nil {
			return err
		}
		if owner != id {
			return badCSR("key-of-another-device", "this key was certified before", "make a new key for every request")
		}
		if !fresh {
			return badCSR("key-reused", "this key was certified before", "make a new key for every request")
		}
		if err := tx.InsertCertificate(ctx, row); err != nil {
			return err
		}
		st.certs = append(st.certs, row)
		rec := s.record(st, RecordIssued, st.actor(), sealedPart{Certificate: serial.String()},
			core.Fact{Name: "door", Value: string(door)}, core.Fact{Name: "life_seconds", Value: seconds(terms.Life)})
		rec.Policy = terms.Policy
		return tx.Record(ctx, rec)
	})
	if err != nil {
		return nil, s.noteHostile(ctx, id, unavailable(err))
	}
	p := next.pending()
	if p == nil || p.Key != req.hash {
		return nil, core.E(core.Conflict, "raced", "another request of this device was faster", "try again")
	}
	return s.chain(p.DER), nil
}

// mayIssue looks again, inside the transaction, at what the request stands on.
func mayIssue(ctx context.Context, tx Tx, st *state, door Door, on core.Hash) error {
	if door == DoorCode && st.dev.Code != on {
		return badCode("code-spent")
	}
	if !st.dev.Revoked.IsZero() {
		return refusedCert("revoked")
	}
	if st.dev.Child {
		return refusedCert("child")
	}
	if door == DoorLegacy && (!st.legacy.Live() || st.legacy.Proof != on) {
		return refusedLegacy("legacy-ended")
	}
	if door == DoorList || door == DoorCA {
		born, err := tx.BornUnit(ctx, on)
		if err != nil {
			return err
		}
		if born == nil || born.Device != st.dev.ID || !born.Spent.IsZero() {
			return notBorn("birth-key-spent")
		}
	}
	return nil
}

func (s *Service) chain(leaf []byte) [][]byte {
	return [][]byte{leaf, s.d.CA.issuerOf(leaf).Raw}
}

// takeIssue counts one certificate for a device; it returns how long the
// device must wait, zero if not at all.
func (s *Service) takeIssue(id core.DeviceID) time.Duration {
	now := s.d.Now()
	s.issueMu.Lock()
	defer s.issueMu.Unlock()
	level := s.issues[id].level(now, issueRefill)
	if over := level - (issueBurst - 1); over > 0 {
		return time.Duration(over * float64(issueRefill))
	}
	s.issues[id] = bucket{taken: level + 1, at: now}
	return 0
}

// unavailable gives what is not a refusal of ours a face that strangers may
// see: something of ours is in trouble, try again.
func unavailable(err error) error {
	if core.KindOf(err) != core.Internal {
		return err
	}
	return &core.Error{Kind: core.Unavail, Reason: "trouble", Message: "certificates cannot be issued at present", Hint: "try again in a minute", Err: err}
}

// Renew gives a device a new certificate for the one it shows (RFC 7030
// §4.2.2), as DER like Enrol. leaf was verified by the TLS handshake. The one
// it has stays good until the new one completed a handshake. The key must be
// new; the same request again gets the same certificate again.
//
// A certificate that ran out opens nothing but this: the latest one of a device
// that was not revoked renews itself within Terms.MaySleep (design, section 5,
// Identity). One that was renewed so before, and comes again, is held by two:
// the device is quarantined, as it is for a good one (CC 3.2).
func (s *Service) Renew(ctx context.Context, leaf *x509.Certificate, csrDER []byte) ([][]byte, error) {
	chain, err := s.renew(ctx, leaf, csrDER)
	return chain, s.refused(err)
}

func (s *Service) renew(ctx context.Context, leaf *x509.Certificate, csrDER []byte) ([][]byte, error) {
	if !s.d.Now().Before(leaf.NotAfter) {
		return s.wake(ctx, leaf, csrDER)
	}
	who, err := s.identify(ctx, leaf)
	if err != nil {
		return nil, err
	}
	st := s.index.device(who.Device)
	if c := st.cert(who.Serial); c == nil || c.State != Confirmed {
		return nil, core.E(core.Denied, "superseded", "this certificate was replaced by a later one", "renew with the latest certificate")
	}
	terms, err := s.terms(ctx, who.Product)
	if err != nil {
		return nil, err
	}
	req, err := parseCSR(csrDER, s.env, who.Product, who.Device, s.weak)
	if err != nil {
		return nil, s.noteHostile(ctx, who.Device, err)
	}
	return s.issue(ctx, st, req, terms, DoorRenewal, core.Hash{})
}

// wake renews the certificate of a device that slept through its end.
func (s *Service) wake(ctx context.Context, leaf *x509.Certificate, csrDER []byte) ([][]byte, error) {
	st, serial, err := s.known(leaf)
	if err != nil {
		return nil, err
	}
	switch c := st.cert(serial); {
	case !st.dev.Revoked.IsZero() || c.State == Revoked:
		return nil, refusedCert("revoked")
	case c.Overslept(s.d.Now()):
		if _, err := s.quarantine(ctx, st.dev.ID, "superseded-certificate-used", core.Job("identity")); err != nil {
			return nil, err
		}
		return nil, core.E(core.Denied, "superseded", "this certificate ran out, and another machine renewed it", "ask the maker: two hold the device's key")
	case c.State != Confirmed:
		return nil, core.E(core.Denied, "superseded", "this certificate ran out, and was replaced by a later one", "renew with the latest certificate")
	}
	terms, err := s.terms(ctx, st.dev.Product)
	if err != nil {
		return nil, err
	}
	now := s.d.Now()
	last := terms.Supported
	if terms.MaySleep > 0 {
		last = leaf.NotAfter.Add(terms.MaySleep)
	}
	if now.After(last) {
		return nil, core.E(core.Denied, "slept-too-long", "this certificate ran out too long ago to be renewed", "the maker gives the device a new enrolment code")
	}
	req, err := parseCSR(csrDER, s.env, st.dev.Product, st.dev.ID, s.weak)
	if err != nil {
		return nil, s.noteHostile(ctx, st.dev.ID, err)
	}
	return s.issue(ctx, st, req, terms, DoorSleeper, core.Hash{})
}
