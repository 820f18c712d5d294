package identity

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Lives of the authority's own certificates.
const (
	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 5 * 365 * 24 * time.Hour
	serverLife       = 30 * 24 * time.Hour
	serverRenewAfter = serverLife / 2
)

// Lives a product may declare for its devices' certificates.
const (
	minDeviceLife = 7 * 24 * time.Hour
	maxDeviceLife = 400 * 24 * time.Hour
)

// A device's certificate begins backdate before it is issued: gateways on other
// machines, whose clocks may be a little behind, admit it at once. Only they
// compare the time, and a stolen certificate gains nothing from it. A server's
// certificate begins earlier, because devices whose clock was once right drift
// by minutes; a device without a clock verifies at the newest NotBefore of the
// chain, which is this one (design, section 5, Identity).
const (
	backdate       = 5 * time.Minute
	serverBackdate = time.Hour
)

// kind is the sort of certificate. What each may be is written twice on
// purpose: here as the template, and in lint.go as what the finished
// certificate must look like.
type kind uint8

const (
	kindRoot kind = iota
	kindOperational
	kindServerCA
	kindServer
	kindDevice
	kindService
)

func (k kind) String() string {
	return [...]string{"root", "operational intermediate", "server intermediate", "server", "device", "service"}[k]
}

// keyID is the subject key identifier: the first 160 bits of the SHA-256 of
// the public key (RFC 7093 §2, method 1).
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	h := sha256.Sum256(der)
	return h[:20], nil
}

func caTemplate(cn string, serial Serial, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial.int(),
		Subject:               pkix.Name{Organization: []string{"Hawser"}, CommonName: cn},
		NotBefore:             now.Add(-serverBackdate).Truncate(time.Second),
		NotAfter:              now.Add(life).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
}

// rootTemplate has no name constraints and no usages: it signs the two
// intermediates and nothing else.
func rootTemplate(env core.Environment, tag string, now time.Time) *x509.Certificate {
	t := caTemplate(fmt.Sprintf("Hawser %s root %s", env, tag), newSerial(), now, rootLife)
	t.MaxPathLen = 1
	t.SignatureAlgorithm = x509.ECDSAWithSHA384
	return t
}

// operationalTemplate is the issuer of devices. It has no name constraints:
// RFC 5280 §4.2.1.10 compares URI names by their host, a urn: has none, and
// crypto/x509 refuses a chain with any constraint over a name that it cannot
// compare. Its usage (clientAuth) and path length keep it from naming servers.
func operationalTemplate(env core.Environment, tag string, now time.Time) *x509.Certificate {
	t := caTemplate(fmt.Sprintf("Hawser %s operational %s", env, tag), newSerial(), now, intermediateLife)
	t.MaxPathLenZero = true
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	t.SignatureAlgorithm = x509.ECDSAWithSHA384
	return t
}

// noDomain never exists (RFC 6761 §6.4).
const noDomain = "none.invalid"

// serverCATemplate is the issuer of the server's own certificate. The only URI
// and mail names that it may give are of a domain that does not exist, so that
// it cannot name a device.
//
// The constraint is not critical, which RFC 5280 §4.2.1.10 asks for and the
// CA/Browser Forum's Baseline Requirements leave open: Mbed TLS and BearSSL, the
// TLS of most small devices, know no name constraints and refuse every chain
// that has a critical one. Whoever verifies devices (crypto/x509, OpenSSL) obeys
// it either way, and its usage and path length hold besides.
func serverCATemplate(env core.Environment, tag string, now time.Time) *x509.Certificate {
	t := caTemplate(fmt.Sprintf("Hawser %s server %s", env, tag), newSerial(), now, intermediateLife)
	t.MaxPathLenZero = true
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.PermittedURIDomains = []string{noDomain}
	t.PermittedEmailAddresses = []string{noDomain}
	t.SignatureAlgorithm = x509.ECDSAWithSHA384
	return t
}

func serverTemplate(dns []string, ips []net.IP, now time.Time) *x509.Certificate {
	cn := "Hawser server"
	if len(dns) > 0 && len(dns[0]) <= 64 {
		cn = dns[0]
	}
	return &x509.Certificate{
		SerialNumber:          newSerial().int(),
		Subject:               pkix.Name{CommonName: cn},
		NotBefore:             now.Add(-serverBackdate).Truncate(time.Second),
		NotAfter:              now.Add(serverLife).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              dns,
		IPAddresses:           ips,
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
	}
}

// deviceTemplate is the whole of a device's certificate. The common name
// repeats the serial number for brokers and tools that look nowhere else;
// nothing of ours reads it.
func deviceTemplate(env core.Environment, product core.ProductID, device core.DeviceID, serial Serial, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial.int(),
		Subject:               pkix.Name{CommonName: string(device)},
		NotBefore:             now.Add(-backdate).Truncate(time.Second),
		NotAfter:              now.Add(life).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{DeviceURN(env, product, device)},
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
	}
}

func bigFits(n *big.Int) bool {
	_, ok := serialOf(n)
	return ok
}
