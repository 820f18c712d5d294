package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// ServerCertificate is the certificate that the server shows to devices. Its
// key is made in memory, never written, and replaced together with the
// certificate halfway through its life, during whichever handshake comes next.
// Agents pin the root, so a new key needs nothing from them.
type ServerCertificate struct {
	ca    *CA
	dns   []string
	ips   []net.IP
	mu    sync.Mutex // one renewal at a time
	state atomic.Pointer[serverState]
}

type serverState struct {
	cert  *tls.Certificate
	renew time.Time // when to make a new one
}

// maxServerNames bounds the names in one certificate.
const maxServerNames = 64

// NewServerCertificate issues a certificate for these host names and IP
// addresses: what devices dial. A name that is neither is an error.
func NewServerCertificate(ca *CA, names []string) (*ServerCertificate, error) {
	if len(names) == 0 || len(names) > maxServerNames {
		return nil, core.E(core.Invalid, "server-names", fmt.Sprintf("the server has %d names, not 1 to %d", len(names), maxServerNames), "set `names` to what devices dial")
	}
	s := &ServerCertificate{ca: ca}
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil && a.Zone() == "" {
			s.ips = append(s.ips, a.AsSlice())
			continue
		}
		if !hostName(n) {
			return nil, core.E(core.Invalid, "server-names", fmt.Sprintf("%q is neither a host name nor an IP address", n), "set `names` to what devices dial, without port or scheme")
		}
		s.dns = append(s.dns, n)
	}
	if err := s.renew(); err != nil {
		return nil, err
	}
	return s, nil
}

// hostName reports whether n is a host name (RFC 1123 §2.1), no wildcard.
func hostName(n string) bool {
	if len(n) == 0 || len(n) > 253 {
		return false
	}
	for label := range strings.SplitSeq(n, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// GetCertificate is for tls.Config.GetCertificate. A renewal that fails leaves
// the old certificate in place while it is good, and is tried again a minute
// later.
func (s *ServerCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	st := s.state.Load()
	now := s.ca.now()
	if now.Before(st.renew) {
		return st.cert, nil
	}
	if !now.Before(st.cert.Leaf.NotAfter) {
		s.mu.Lock() // nothing to show meanwhile: wait for whoever makes the new one
	} else if !s.mu.TryLock() {
		return st.cert, nil
	}
	defer s.mu.Unlock()
	if st = s.state.Load(); now.Before(st.renew) {
		return st.cert, nil
	}
	if err := s.renew(); err != nil {
		if !now.Before(st.cert.Leaf.NotAfter) {
			return nil, err
		}
		s.state.Store(&serverState{cert: st.cert, renew: now.Add(time.Minute)})
		return st.cert, nil
	}
	return s.state.Load().cert, nil
}

// Leaf is the present certificate.
func (s *ServerCertificate) Leaf() *x509.Certificate { return s.state.Load().cert.Leaf }

func (s *ServerCertificate) renew() error {
	now := s.ca.now().UTC()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make server key: %w", err)
	}
	t := serverTemplate(s.dns, s.ips, now)
	from := s.ca.server()
	if end := from.cert.NotAfter; t.NotAfter.After(end) {
		t.NotAfter = end
		if !now.Before(end) {
			return errors.New("the server intermediate has run out")
		}
	}
	der, err := s.ca.lint.sign(kindServer, t, from.cert, key.Public(), from.signer)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("parse server certificate: %w", err)
	}
	s.state.Store(&serverState{
		cert:  &tls.Certificate{Certificate: [][]byte{der, from.cert.Raw}, PrivateKey: key, Leaf: leaf},
		renew: now.Add(min(serverRenewAfter, leaf.NotAfter.Sub(now)/2)),
	})
	return nil
}
