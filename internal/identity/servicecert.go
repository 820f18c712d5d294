package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// serviceLife is how long a service's certificate is good. A service renews it
// over its own connection; one that does not comes back with `hawser service
// certificate`.
const serviceLife = 30 * 24 * time.Hour

// ServiceURN is the name of a service in its certificate (the only
// subjectAltName): urn:hawser:ENVIRONMENT:service:NAME. A device's name has
// another form, so neither opens the other's door (CC 3.4).
func ServiceURN(env core.Environment, service string) *url.URL {
	return &url.URL{Scheme: "urn", Opaque: fmt.Sprintf("hawser:%s:service:%s", env, service)}
}

// parseServiceURN is the inverse of ServiceURN, for any environment.
func parseServiceURN(text string) (core.Environment, string, bool) {
	rest, ok := strings.CutPrefix(text, urnPrefix)
	p := strings.Split(rest, ":")
	if !ok || len(p) != 3 || p[1] != "service" {
		return "", "", false
	}
	env := core.Environment(p[0])
	return env, p[2], env.Valid() && ServiceName(p[2])
}

// ServiceName reports whether name has the form that a declaration gives a
// service's: a lower-case letter, then up to 62 of a-z, 0-9, '_' and '-'.
func ServiceName(name string) bool {
	if len(name) == 0 || len(name) > 63 || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// ServiceAuthority issues the certificates of services. They come from the
// issuer of devices, whose usage is to show clients; what tells them apart is
// the name, and that each is admitted by its own register.
type ServiceAuthority struct {
	ca   *CA
	weak *weakKeys
}

// NewServiceAuthority gives services certificates of an authority.
func NewServiceAuthority(ca *CA) (*ServiceAuthority, error) {
	weak, err := newWeakKeys()
	if err != nil {
		return nil, err
	}
	return &ServiceAuthority{ca, weak}, nil
}

// Issue makes a certificate for a service from its request (PKCS#10, DER). The
// key is the service's own: it never leaves it. The caller keeps the
// certificate in its register before it hands it out.
func (a *ServiceAuthority) Issue(service string, csr []byte) (*x509.Certificate, error) {
	if !ServiceName(service) {
		return nil, core.E(core.Invalid, "service-name", fmt.Sprintf("%q is no service's name", service), "use the name under `services` in the declaration")
	}
	r, err := parseNamed(csr, core.DeviceID(service), ServiceURN(a.ca.env, service).String(), a.weak)
	if err != nil {
		return nil, err
	}
	now := a.ca.now().UTC()
	t := serviceTemplate(a.ca.env, service, now)
	from := a.ca.operational()
	if t.NotAfter.After(from.cert.NotAfter) {
		return nil, core.E(core.Unavail, "ca-expires", "certificates cannot be issued at present", "the operational intermediate runs out before the certificate would; make new intermediates")
	}
	der, err := a.ca.lint.sign(kindService, t, from.cert, r.key, from.signer)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse service certificate: %w", err)
	}
	return c, nil
}

// Chain is what a service shows after its own certificate, DER.
func (a *ServiceAuthority) Chain() [][]byte { return [][]byte{a.ca.operational().cert.Raw} }

// Named says which service a certificate names; false for a device's, one of
// another environment, or one that no register can know. The caller has
// verified the chain.
func (a *ServiceAuthority) Named(leaf *x509.Certificate) (service string, serial Serial, ok bool) {
	serial, ok = serialOf(leaf.SerialNumber)
	if !ok || leaf.IsCA || len(leaf.URIs) != 1 {
		return "", serial, false
	}
	env, service, ok := parseServiceURN(leaf.URIs[0].String())
	return service, serial, ok && env == a.ca.env // CC 3.11
}

func serviceTemplate(env core.Environment, service string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          newSerial().int(),
		Subject:               pkix.Name{CommonName: service},
		NotBefore:             now.Add(-backdate).Truncate(time.Second),
		NotAfter:              now.Add(serviceLife).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{ServiceURN(env, service)},
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
	}
}
