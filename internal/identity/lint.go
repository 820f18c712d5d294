package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/community" // lints register themselves
	_ "github.com/zmap/zlint/v3/lints/rfc"       // lints register themselves
)

// linter judges a certificate before the real key signs it, on a copy that a
// throw-away key of the same kind signed. It runs the lints that hold for
// every certificate (RFC 5280, 3279, 5480, 5891, 8813 and the community's);
// those of the public web's browsers and CAs do not apply to a private root.
// After them it compares the certificate with what its kind must be.
type linter struct {
	registry lint.Registry
	lints    []*lint.CertificateLint
}

// lintsNotForUs holds for the web's certificates only, or contradicts a
// decision that is written down here.
func lintsNotForUs() []string {
	return []string{
		// The server intermediate's is not: see serverCATemplate.
		"e_ext_name_constraints_not_critical",
	}
}

func newLinter() (*linter, error) {
	r, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813, lint.Community},
		ExcludeNames:   lintsNotForUs(),
	})
	if err != nil {
		return nil, fmt.Errorf("choose lints: %w", err)
	}
	l := &linter{registry: r, lints: r.CertificateLints().Lints()}
	if len(l.lints) < 100 {
		return nil, fmt.Errorf("only %d lints are linked", len(l.lints))
	}
	return l, nil
}

// check lints a finished certificate. Notices are advice and pass; warnings
// and errors do not.
func (l *linter) check(k kind, der []byte) error {
	zc, err := zx509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("lint %s certificate: %w", k, err)
	}
	var bad []string
	for _, one := range l.lints {
		res := one.Execute(zc, l.registry.GetConfiguration())
		if res.Status >= lint.Warn {
			bad = append(bad, strings.TrimSpace(one.Name+" "+res.Details))
		}
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return fmt.Errorf("lint %s certificate: %s", k, strings.Join(bad, "; "))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("lint %s certificate: %w", k, err)
	}
	if err := conform(k, c); err != nil {
		return fmt.Errorf("lint %s certificate: %w", k, err)
	}
	return nil
}

// sign issues one certificate: lint first, on a copy signed by a key that is
// thrown away, and only then the real key (as Boulder does). parent nil means
// self-signed.
func (l *linter) sign(k kind, tmpl, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
	ski, err := keyID(pub)
	if err != nil {
		return nil, err
	}
	t := *tmpl
	t.SubjectKeyId = ski
	self := parent == nil
	if self {
		parent = &t
	}
	realPub, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("issuer of a %s certificate has no ECDSA key", k)
	}
	fake, err := ecdsa.GenerateKey(realPub.Curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make lint key: %w", err)
	}
	fakeParent := *parent
	fakeParent.PublicKey = fake.Public()
	fakeSubject := pub
	if self {
		fakeSubject = fake.Public() // or the copy would not verify under its own key
	}
	copyDER, err := x509.CreateCertificate(rand.Reader, &t, &fakeParent, fakeSubject, fake)
	if err != nil {
		return nil, fmt.Errorf("make lint copy of %s certificate: %w", k, err)
	}
	if err := l.check(k, copyDER); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("sign %s certificate: %w", k, err)
	}
	return der, nil
}

// The extensions that certificates of ours can have.
func oid(n ...int) asn1.ObjectIdentifier { return n }

type extRule struct {
	id       asn1.ObjectIdentifier
	critical bool
	either   bool // critical or not
}

// extensionsOf lists exactly the extensions of a kind.
func extensionsOf(k kind) []extRule {
	keyUsage := extRule{id: oid(2, 5, 29, 15), critical: true}
	basic := extRule{id: oid(2, 5, 29, 19), critical: true}
	ski := extRule{id: oid(2, 5, 29, 14)}
	aki := extRule{id: oid(2, 5, 29, 35)}
	eku := extRule{id: oid(2, 5, 29, 37)}
	san := extRule{id: oid(2, 5, 29, 17)}
	names := extRule{id: oid(2, 5, 29, 30), either: true} // installations from before have it critical
	switch k {
	case kindRoot:
		return []extRule{keyUsage, basic, ski}
	case kindOperational:
		return []extRule{keyUsage, basic, ski, aki, eku}
	case kindServerCA:
		return []extRule{keyUsage, basic, ski, aki, eku, names}
	default:
		return []extRule{keyUsage, basic, ski, aki, eku, san}
	}
}

// conform compares a certificate with what its kind must be, without looking
// at the template that it was made from.
func conform(k kind, c *x509.Certificate) error {
	want := extensionsOf(k)
	if len(c.Extensions) != len(want) {
		return fmt.Errorf("it has %d extensions, want %d", len(c.Extensions), len(want))
	}
	for _, w := range want {
		if !slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(w.id) && (w.either || e.Critical == w.critical) }) {
			return fmt.Errorf("extension %s is missing, or critical is not %t", w.id, w.critical)
		}
	}
	if !bigFits(c.SerialNumber) {
		return errors.New("its serial number is not 16 positive bytes")
	}
	isCA, pathLen, usage := false, -1, x509.KeyUsageDigitalSignature
	var eku []x509.ExtKeyUsage
	curve := elliptic.P256()
	algorithm := x509.ECDSAWithSHA384 // by the root
	maxLife := maxDeviceLife
	switch k {
	case kindRoot:
		isCA, pathLen, usage, curve, maxLife = true, 1, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, elliptic.P384(), rootLife
	case kindOperational:
		isCA, pathLen, usage, maxLife = true, 0, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, intermediateLife
		eku = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case kindServerCA:
		isCA, pathLen, usage, maxLife = true, 0, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, intermediateLife
		eku = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case kindServer:
		maxLife, algorithm = serverLife, x509.ECDSAWithSHA256
		eku = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case kindDevice:
		algorithm = x509.ECDSAWithSHA256
		eku = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case kindService:
		algorithm, maxLife = x509.ECDSAWithSHA256, serviceLife
		eku = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || pub.Curve != curve:
		return fmt.Errorf("its key is not %s", curve.Params().Name)
	case c.SignatureAlgorithm != algorithm:
		return fmt.Errorf("it is signed with %s, not %s", c.SignatureAlgorithm, algorithm)
	case c.IsCA != isCA || isCA && c.MaxPathLen != pathLen:
		return errors.New("it is a CA and must not be, or the other way round, or its path length is wrong")
	case c.KeyUsage != usage:
		return errors.New("its key usage is wrong")
	case !slices.Equal(c.ExtKeyUsage, eku) || len(c.UnknownExtKeyUsage) > 0:
		return errors.New("its extended key usage is wrong")
	case !c.NotBefore.Before(c.NotAfter) || c.NotAfter.Sub(c.NotBefore) > maxLife+serverBackdate+backdate:
		return errors.New("its life is negative or too long")
	}
	return conformNames(k, c)
}

func conformNames(k kind, c *x509.Certificate) error {
	names := len(c.DNSNames) + len(c.IPAddresses) + len(c.EmailAddresses) + len(c.URIs)
	switch k {
	case kindDevice:
		if names != 1 || len(c.URIs) != 1 {
			return fmt.Errorf("it has %d names, want one URI", names)
		}
		_, _, device, ok := parseURN(c.URIs[0].String())
		if !ok || c.Subject.CommonName != string(device) || len(c.Subject.Names) != 1 {
			return errors.New("its names are not those of one device")
		}
	case kindService:
		if names != 1 || len(c.URIs) != 1 {
			return fmt.Errorf("it has %d names, want one URI", names)
		}
		_, service, ok := parseServiceURN(c.URIs[0].String())
		if !ok || c.Subject.CommonName != service || len(c.Subject.Names) != 1 {
			return errors.New("its names are not those of one service")
		}
	case kindServer:
		if names == 0 || len(c.EmailAddresses)+len(c.URIs) > 0 {
			return errors.New("its names are not those of a server")
		}
	default:
		if names != 0 {
			return errors.New("a CA certificate has alternative names")
		}
	}
	return nil
}
