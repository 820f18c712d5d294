package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"github.com/hawser-iot/hawser/internal/core"
)

// MaxCSRBytes bounds a certificate request in DER; a usual one has 300 bytes.
const MaxCSRBytes = 8 << 10

const maxCSRExtensions = 16

func badCSR(reason, message, hint string) *core.Error {
	return core.E(core.Invalid, reason, message, hint)
}

// request is what is left of a certificate request after it was checked: the
// public key, and nothing else.
type request struct {
	key  *ecdsa.PublicKey
	hash core.Hash // of the SubjectPublicKeyInfo
}

// parseCSR checks a PKCS#10 request (RFC 2986) for a device. Only the key is
// taken from it. A request that asks for something else than this device may
// have (another name, a CA, a server's usage) is refused rather than ignored:
// whoever made it expects to get what it asks for. Other attributes, among
// them challengePassword, are ignored, and so are parts of the subject that
// name no device (O, OU, C, …).
func parseCSR(der []byte, env core.Environment, product core.ProductID, device core.DeviceID, weak *weakKeys) (request, error) {
	return parseNamed(der, device, DeviceURN(env, product, device).String(), weak)
}

// parseNamed is parseCSR for whoever has that name and that URN.
func parseNamed(der []byte, device core.DeviceID, urn string, weak *weakKeys) (request, error) {
	var r request
	if len(der) == 0 || len(der) > MaxCSRBytes {
		return r, core.E(core.TooLarge, "csr-size", "the certificate request is empty or larger than 8 KB", "send a PKCS#10 request in DER, base64")
	}
	c, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return r, unparsable(err)
	}
	key, err := p256Key(c)
	if err != nil {
		return r, err
	}
	switch c.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return r, badCSR("csr-signature-algorithm", "the request is not signed with ECDSA and SHA-2", "sign it with ECDSA and SHA-256")
	}
	if err := c.CheckSignature(); err != nil {
		return r, &core.Error{Kind: core.Invalid, Reason: "csr-signature", Message: "the request is not signed by the key in it", Hint: "sign it with the device's own key", Err: err}
	}
	if err := checkSubject(c, device); err != nil {
		return r, err
	}
	if err := checkExtensions(c, urn); err != nil {
		return r, err
	}
	if weak.has(key, device) {
		return r, badCSR("csr-key-known", "the private key of this request is publicly known or easily guessed", "make a new key with the device's random generator")
	}
	return request{key: key, hash: spkiHash(c.RawSubjectPublicKeyInfo)}, nil
}

// unparsable covers, besides rubbish, keys on curves that crypto/x509 does not
// know, points that are not on their curve, and compressed points.
func unparsable(err error) error {
	return &core.Error{Kind: core.Invalid, Reason: "csr-malformed", Message: "the body is not a PKCS#10 certificate request with a P-256 key", Hint: "make one with `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -outform DER`", Err: err}
}

func p256Key(c *x509.CertificateRequest) (*ecdsa.PublicKey, error) {
	const hint = "use an ECDSA key on the curve P-256"
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return k, nil
		case elliptic.P224():
			return nil, badCSR("csr-key-p224", "keys on the curve P-224 are too weak", hint)
		case elliptic.P384():
			return nil, badCSR("csr-key-p384", "keys on the curve P-384 are not taken", hint)
		default:
			return nil, badCSR("csr-key-p521", "keys on the curve P-521 are not taken", hint)
		}
	case *rsa.PublicKey:
		return nil, badCSR("csr-key-rsa", "RSA keys are not taken", hint)
	case ed25519.PublicKey:
		return nil, badCSR("csr-key-ed25519", "Ed25519 keys are not taken", hint)
	default:
		return nil, badCSR("csr-key-kind", "keys of this kind are not taken", hint)
	}
}

// checkSubject refuses a subject that names another device. Common name and
// serialNumber may repeat the device's own serial number (RFC 7030 §4.2.2 asks
// a renewing client to repeat its subject).
func checkSubject(c *x509.CertificateRequest, device core.DeviceID) error {
	for _, n := range c.Subject.Names {
		if !n.Type.Equal(oid(2, 5, 4, 3)) && !n.Type.Equal(oid(2, 5, 4, 5)) {
			continue
		}
		if v, ok := n.Value.(string); !ok || v != string(device) {
			return badCSR("csr-foreign-name", "the request names somebody else than this device", "leave the subject empty, or set CN to the serial number that you enrol with")
		}
	}
	return nil
}

func checkExtensions(c *x509.CertificateRequest, urn string) error {
	if len(c.Extensions) > maxCSRExtensions {
		return badCSR("csr-extensions", "the request asks for too many extensions", "ask for none; the certificate is made by the product's declaration")
	}
	seen := map[string]struct{}{}
	for _, e := range c.Extensions {
		id := e.Id.String()
		if _, twice := seen[id]; twice {
			return badCSR("csr-extension-twice", "the request asks for one extension twice", "ask for none")
		}
		seen[id] = struct{}{}
		var err error
		switch id {
		case "2.5.29.19":
			err = wantNoCA(e.Value)
		case "2.5.29.15":
			err = wantNoCAUsage(e.Value)
		case "2.5.29.37":
			err = wantClientUsage(e.Value)
		case "2.5.29.17":
			err = wantOwnName(e.Value, urn)
		case "2.5.29.14": // a key identifier binds nothing
		default:
			err = badCSR("csr-foreign-extension", "the request asks for an extension that devices do not get", "ask for none; the certificate is made by the product's declaration")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func badExtension(err error) error {
	return &core.Error{Kind: core.Invalid, Reason: "csr-extension", Message: "an extension in the request is malformed", Hint: "ask for none", Err: err}
}

func unmarshalAll(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = errors.New("trailing bytes")
	}
	return err
}

func wantNoCA(der []byte) error {
	var b struct {
		CA      bool `asn1:"optional"`
		PathLen int  `asn1:"optional,default:-1"`
	}
	if err := unmarshalAll(der, &b); err != nil {
		return badExtension(err)
	}
	if b.CA || b.PathLen != -1 {
		return badCSR("csr-ca-true", "the request asks to become a certificate authority", "leave basicConstraints out")
	}
	return nil
}

func wantNoCAUsage(der []byte) error {
	var bits asn1.BitString
	if err := unmarshalAll(der, &bits); err != nil {
		return badExtension(err)
	}
	if bits.At(5) != 0 || bits.At(6) != 0 { // keyCertSign, cRLSign: RFC 5280 §4.2.1.3
		return badCSR("csr-ca-usage", "the request asks to sign certificates or revocation lists", "leave keyUsage out")
	}
	return nil
}

func wantClientUsage(der []byte) error {
	var ids []asn1.ObjectIdentifier
	if err := unmarshalAll(der, &ids); err != nil {
		return badExtension(err)
	}
	for _, id := range ids {
		if !id.Equal(oid(1, 3, 6, 1, 5, 5, 7, 3, 2)) {
			return badCSR("csr-foreign-usage", "the request asks for another usage than TLS client authentication", "leave extendedKeyUsage out")
		}
	}
	return nil
}

// wantOwnName reads the names itself: crypto/x509 passes over kinds of names
// that it does not know.
func wantOwnName(der []byte, urn string) error {
	var seq asn1.RawValue
	if err := unmarshalAll(der, &seq); err != nil {
		return badExtension(err)
	}
	if seq.Class != asn1.ClassUniversal || seq.Tag != asn1.TagSequence || !seq.IsCompound {
		return badExtension(errors.New("subjectAltName is no sequence"))
	}
	for rest := seq.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return badExtension(err)
		}
		if name.Class != asn1.ClassContextSpecific || name.Tag != 6 || string(name.Bytes) != urn {
			return badCSR("csr-foreign-name", "the request names somebody else than this device", "leave subjectAltName out")
		}
	}
	return nil
}
