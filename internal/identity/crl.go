package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// RevocationListLife is how long a revocation list may be gone by.
const RevocationListLife = 24 * time.Hour

// RevocationList is the X.509 list (RFC 5280 §5) of the devices' certificates
// that were revoked and have not run out, DER, for others than our own doors:
// these ask memory at each handshake and need no list. Certificates that were
// only replaced are not on it: their devices are good, and how many there are
// is the maker's business. others are certificates of the same issuer that are
// not devices'.
func (s *Service) RevocationList(others ...x509.RevocationListEntry) ([]byte, error) {
	now := s.d.Now().UTC().Truncate(time.Second)
	list := slices.Clone(others)
	for _, st := range s.index.snapshot() {
		for i := range st.certs {
			c := &st.certs[i]
			ended := c.Ended
			if !st.dev.Revoked.IsZero() && (ended.IsZero() || c.State != Revoked) {
				ended = st.dev.Revoked
			}
			if c.State != Revoked && st.dev.Revoked.IsZero() || !c.NotAfter.After(now) {
				continue
			}
			list = append(list, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(c.Serial[:]), RevocationTime: ended.UTC().Truncate(time.Second)})
		}
	}
	slices.SortFunc(list, func(a, b x509.RevocationListEntry) int {
		return bytes.Compare(a.SerialNumber.Bytes(), b.SerialNumber.Bytes())
	})
	return s.d.CA.revocationList(list, now)
}

// revocationList signs a list as the issuer of devices' certificates. Its
// number grows with time, also over restarts.
func (ca *CA) revocationList(list []x509.RevocationListEntry, now time.Time) ([]byte, error) {
	until := now.Add(RevocationListLife)
	from := ca.operational()
	if until.After(from.cert.NotAfter) {
		return nil, core.E(core.Unavail, "ca-expires", "no revocation list can be signed at present", "the operational intermediate runs out before the list would; make new intermediates")
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(now.UnixMilli()), ThisUpdate: now, NextUpdate: until, RevokedCertificateEntries: list,
	}, from.cert, from.signer)
	if err != nil {
		return nil, fmt.Errorf("sign the revocation list: %w", err)
	}
	return der, nil
}
