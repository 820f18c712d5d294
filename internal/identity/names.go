package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"strings"

	"github.com/hawser-iot/hawser/internal/core"
)

// Serial is a certificate's serial number, right-aligned. All of ours have
// exactly 16 bytes, positive: 127 random bits (RFC 5280 §4.1.2.2).
type Serial [16]byte

// String is the serial in lower-case hexadecimal.
func (s Serial) String() string { return hex.EncodeToString(s[:]) }

// IsZero reports whether s was never set.
func (s Serial) IsZero() bool { return s == Serial{} }

func (s Serial) int() *big.Int { return new(big.Int).SetBytes(s[:]) }

func newSerial() Serial {
	var s Serial
	for s[0] == 0 { // so that every serial has 16 bytes
		_, _ = rand.Read(s[:]) // crypto/rand.Read never fails
		s[0] &= 0x7f           // a DER integer without a leading zero is negative
	}
	return s
}

// serialOf reads a certificate's serial number; false when it cannot be one
// of ours.
func serialOf(n *big.Int) (Serial, bool) {
	var s Serial
	if n == nil || n.Sign() <= 0 || n.BitLen() > 127 {
		return s, false
	}
	n.FillBytes(s[:])
	return s, s[0] != 0
}

// urnPrefix begins the only name in a device's certificate.
const urnPrefix = "urn:hawser:"

// DeviceURN is the name of a device in its certificate (the only
// subjectAltName): urn:hawser:ENVIRONMENT:device:PRODUCT:SERIAL.
func DeviceURN(env core.Environment, product core.ProductID, device core.DeviceID) *url.URL {
	return &url.URL{Scheme: "urn", Opaque: fmt.Sprintf("hawser:%s:device:%s:%s", env, product, device)}
}

// parseURN is the inverse of DeviceURN, for any environment.
func parseURN(text string) (core.Environment, core.ProductID, core.DeviceID, bool) {
	rest, ok := strings.CutPrefix(text, urnPrefix)
	if !ok {
		return "", "", "", false
	}
	p := strings.Split(rest, ":")
	if len(p) != 4 || p[1] != "device" {
		return "", "", "", false
	}
	env, product, device := core.Environment(p[0]), core.ProductID(p[2]), core.DeviceID(p[3])
	return env, product, device, env.Valid() && product.Valid() && device.Valid()
}

// spkiHash names a public key: the SHA-256 of its SubjectPublicKeyInfo.
func spkiHash(rawSPKI []byte) core.Hash { return sha256.Sum256(rawSPKI) }

// Fingerprint is the SHA-256 of a certificate's DER.
func Fingerprint(c *x509.Certificate) core.Hash { return sha256.Sum256(c.Raw) }

// Credential is the kind of what a device proves with who it is.
type Credential string

// The kinds. Those of the maker's own stand only at the legacy door.
const (
	OwnCertificate Credential = "certificate"  // of this installation
	OwnCA          Credential = "own-ca"       // a certificate of the maker's own authority
	DeviceToken    Credential = "device-token" // a secret of the device's own
)

// Legacy reports whether a credential is one of the maker's (design, section 5,
// Brownfield).
func (c Credential) Legacy() bool { return c == OwnCA || c == DeviceToken }

// The first two bits of a legacy credential's id. Our certificates' serial
// numbers are positive, so their first bit is 0.
const (
	kindBits  = 0xc0
	tokenBits = 0x80
	ownCABits = 0xc0
)

// Credential is the kind of credential that s is the number of: so the sealed
// sender of a reading says it, too.
func (s Serial) Credential() Credential {
	switch s[0] & kindBits {
	case tokenBits:
		return DeviceToken
	case ownCABits:
		return OwnCA
	default:
		return OwnCertificate
	}
}

// newLegacyID is the number of a new legacy credential.
func newLegacyID(kind Credential) Serial {
	var s Serial
	_, _ = rand.Read(s[:]) // crypto/rand.Read never fails
	s[0] &^= kindBits
	if s[0] |= tokenBits; kind == OwnCA {
		s[0] |= ownCABits
	}
	return s
}
