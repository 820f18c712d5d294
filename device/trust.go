package device

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// clock knows how far the device's clock can be trusted. A device without a
// battery starts at 1970 or at its last shutdown; until its clock has passed
// the floor, certificates are verified at max(floor, newest NotBefore in the
// presented chain) and readings carry no time (design, section 5, Identity).
type clock struct {
	now  func() time.Time
	path string

	mu    sync.Mutex
	floor time.Time
	since time.Time // monotonic: when it was at least floor
}

// A clock that shows less than this was never set: it is older than this
// library.
const neverSet = 1735689600 // 2025-01-01T00:00:00Z

func openClock(path string, now func() time.Time, built time.Time) *clock {
	c := &clock{now: now, path: path, floor: time.Unix(neverSet, 0).UTC(), since: time.Now()}
	if built.After(c.floor) {
		c.floor = built.UTC()
	}
	// A floor that cannot be read only makes the device less strict about age,
	// never about who the server is.
	if b, err := readSmall(path, 64); err == nil {
		if t, err := time.Parse(time.RFC3339, string(b)); err == nil && t.After(c.floor) {
			c.floor = t
		}
	}
	return c
}

// read is the time as well as it is known, and whether that is the clock's. If
// not, it is the floor and what has passed since it was known to be that late,
// so that a device whose clock is never set renews in time all the same.
func (c *clock) read() (at time.Time, trusted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); !now.Before(c.floor) {
		return now, true
	}
	return c.floor.Add(time.Since(c.since).Truncate(time.Second)), false
}

// verifyAt is the time at which a presented chain is judged.
func (c *clock) verifyAt(chain []*x509.Certificate) time.Time {
	at, trusted := c.read()
	if trusted {
		return at
	}
	for _, cert := range chain {
		if cert.NotBefore.After(at) {
			at = cert.NotBefore
		}
	}
	return at
}

// proved takes in that a server's certificate was good at time at: time cannot
// be before that. It is kept on disk when it moves by an hour or more.
func (c *clock) proved(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.Before(c.floor.Add(time.Hour)) {
		return
	}
	c.floor, c.since = at.UTC().Truncate(time.Second), time.Now()
	// A small file, once an hour at most: the lock also keeps writers in order.
	// Lost, it only costs strictness about age until the clock is set again.
	_ = writeFile(c.path, []byte(c.floor.Format(time.RFC3339)))
}

// trust is what the device believes a server by.
type trust struct {
	roots *x509.CertPool
	extra []*x509.Certificate // intermediates learnt by EST cacerts
	clock *clock
}

// parseRoots reads the pinned bundle. All of it must be certificates of
// authorities: a leaf in it is a mistake that would show only in the field.
func parseRoots(bundle []byte) (*x509.CertPool, error) {
	certs, err := parsePEM(bundle)
	if err != nil {
		return nil, fault(BadConfig, err, "ship the PEM file of the server's root certificates", "the bundle of roots cannot be read")
	}
	if len(certs) == 0 {
		return nil, fault(BadConfig, nil, "ship the PEM file of the server's root certificates", "the bundle of roots has no certificate in it")
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		if !c.IsCA {
			return nil, fault(BadConfig, nil, "", "the bundle of roots holds %q, which is no authority", c.Subject.String())
		}
		pool.AddCert(c)
	}
	return pool, nil
}

// maxCerts bounds a bundle or an answer.
const maxCerts = 32

func parsePEM(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			return certs, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if len(certs) == maxCerts {
			return nil, fmt.Errorf("more than %d certificates", maxCerts)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
}

// config is the TLS of a connection to the server name. id may be nil.
func (t *trust) config(name, server string, id *identity) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13, // CC 2.8
		ServerName: name,
		// The library's own check would use one fixed time for every chain. This
		// one does all that it does, at a time that may depend on the chain.
		InsecureSkipVerify: true, // VerifyConnection verifies, always
		VerifyConnection: func(cs tls.ConnectionState) error {
			return t.verify(cs.PeerCertificates, name, server)
		},
	}
	if id != nil {
		c.Certificates = []tls.Certificate{id.cert}
	}
	return c
}

// verify judges a server: its chain must lead to a pinned root, be valid at
// the time, be made for servers, and carry the name that was asked for
// (CC 3.4; RFC 9525).
func (t *trust) verify(chain []*x509.Certificate, name, server string) error {
	if len(chain) == 0 {
		return fault(ServerBadCert, nil, "", "server %s presents no certificate", server)
	}
	at := t.clock.verifyAt(chain)
	between := x509.NewCertPool()
	for _, c := range t.extra {
		between.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	good, err := leaf.Verify(x509.VerifyOptions{
		Roots: t.roots, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return chainFault(server, err, at)
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return fault(ServerWrongName, err, "use the name that is in the server's certificate", "server %s has a certificate for another name", server)
	}
	// Only what was verified may move the floor, not what lay beside it.
	proved, trusted := t.clock.read()
	if !trusted {
		for _, c := range good[0][:len(good[0])-1] {
			if c.NotBefore.After(proved) {
				proved = c.NotBefore
			}
		}
	}
	t.clock.proved(proved)
	return nil
}

func chainFault(server string, err error, at time.Time) error {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		when := at.UTC().Format(time.RFC3339)
		if at.Before(e.Cert.NotBefore) {
			return fault(ServerNotYetValid, err, "the device's clock is wrong, or the server's certificate is from the future",
				"server %s has a certificate that is not valid yet at %s", server, when)
		}
		return fault(ServerExpired, err, "renew the server's certificate; if it is good, the device's clock is wrong",
			"server %s has a certificate that is expired at %s", server, when)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fault(ServerForeign, err, "check the address; if the server is the right one, ship the bundle that holds its root",
			"server %s is not vouched for by the pinned bundle", server)
	}
	return fault(ServerBadCert, err, "", "server %s has a certificate that no server may use", server)
}

// learn takes the intermediates out of an EST cacerts answer: what leads to a
// pinned root by its own signatures. Anything else is left out; a new root is
// never taken from the network, it comes with the firmware.
func (t *trust) learn(certs []*x509.Certificate) []*x509.Certificate {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	var out []*x509.Certificate
	for _, c := range certs {
		if !c.IsCA || string(c.RawSubject) == string(c.RawIssuer) {
			continue
		}
		at := t.clock.verifyAt([]*x509.Certificate{c})
		_, err := c.Verify(x509.VerifyOptions{
			Roots: t.roots, Intermediates: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err == nil {
			out = append(out, c)
		}
	}
	return out
}

const intermediatesFile = "intermediates.pem"

func (t *trust) keep(dir string, certs []*x509.Certificate) error {
	if err := writeFile(filepath.Join(dir, intermediatesFile), encodePEM(certs)); err != nil {
		return err
	}
	t.extra = certs
	return nil
}

func (t *trust) load(dir string) {
	// Lost intermediates are fetched anew with the next enrolment or renewal.
	b, err := readSmall(filepath.Join(dir, intermediatesFile), 256<<10)
	if err != nil {
		return
	}
	if certs, err := parsePEM(b); err == nil {
		t.extra = t.learn(certs)
	}
}

func encodePEM(certs []*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}
