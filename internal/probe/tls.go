package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// offer is one hello of the handshake matrix, and what must come of it.
type offer struct {
	id, asked string
	row       string
	conf      func(*tls.Config) // nil: raw
	raw       func(name string) []byte
	judge     func(Hello) (Outcome, string)
}

// mustRefuse: nothing may be agreed.
func mustRefuse(h Hello) (Outcome, string) { return or(h.Version == 0), h.String() }

// mustTake: something must be agreed.
func mustTake(h Hello) (Outcome, string) { return or(h.Version != 0), h.String() }

// matrix is every hello that each door gets (CC 2.8).
func matrix() []offer {
	versions := func(from, to uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.MinVersion, c.MaxVersion = from, to }
	}
	with12 := func(good bool) func(*tls.Config) {
		return func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
				aead := strings.Contains(s.Name, "_GCM_") || strings.Contains(s.Name, "_CHACHA20_")
				if slices.Contains(s.SupportedVersions, tls.VersionTLS12) && good == (strings.HasPrefix(s.Name, "TLS_ECDHE_") && aead) {
					c.CipherSuites = append(c.CipherSuites, s.ID)
				}
			}
		}
	}
	group := func(g tls.CurveID) func(*tls.Config) {
		return func(c *tls.Config) { c.MinVersion, c.CurvePreferences = tls.VersionTLS13, []tls.CurveID{g} }
	}
	raw := func(version uint16, suites []uint16, psk13 bool) func(string) []byte {
		return func(name string) []byte { return rawHello(version, name, suites, psk13) }
	}
	return []offer{
		{id: "tls-1.3", row: "2.8", asked: "TLS 1.3", conf: versions(tls.VersionTLS13, tls.VersionTLS13), judge: mustTake},
		{id: "tls-hybrid", row: "2.8", asked: "TLS 1.3 with nothing but the hybrid key exchange X25519MLKEM768", conf: group(tls.X25519MLKEM768), judge: mustTake},
		{id: "tls-1.2", row: "2.8", asked: "nothing newer than TLS 1.2, with ephemeral keys and authenticated encryption", conf: with12(true), judge: func(h Hello) (Outcome, string) {
			if h.Version == 0 {
				return Good, h.String()
			}
			return Seen, h.String() + "; right only where a product declares it"
		}},
		{id: "tls-1.2-weak", row: "2.8", asked: "TLS 1.2 with fixed keys or without authenticated encryption", conf: with12(false), judge: mustRefuse},
		{id: "tls-1.1", row: "2.8", asked: "nothing newer than TLS 1.1", conf: versions(tls.VersionTLS11, tls.VersionTLS11), judge: mustRefuse},
		{id: "tls-1.0", row: "2.8", asked: "nothing newer than TLS 1.0", conf: versions(tls.VersionTLS10, tls.VersionTLS10), judge: mustRefuse},
		{id: "ssl-3.0", row: "2.8", asked: "SSL 3.0", raw: raw(0x0300, plainSuites, false), judge: mustRefuse},
		{id: "tls-empty", row: "2.8", asked: "TLS 1.2 without encryption, or with encryption weakened for export", raw: raw(tls.VersionTLS12, emptySuites, false), judge: mustRefuse},
		{id: "tls-anonymous", row: "3.1", asked: "TLS 1.2 in which nobody proves who he is", raw: raw(tls.VersionTLS12, anonymousSuites, false), judge: mustRefuse},
		{id: "tls-shared-key", row: "3.1", asked: "TLS 1.2 with a key that many share (PSK)", raw: raw(tls.VersionTLS12, sharedSuites, false), judge: mustRefuse},
		{id: "tls-shared-key-1.3", row: "3.1", asked: "TLS 1.3 with a key that many share, and nothing else", raw: raw(tls.VersionTLS12, []uint16{tls.TLS_AES_128_GCM_SHA256}, true), judge: mustRefuse},
	}
}

// askTLS goes through the matrix at a door, then looks at who it says it is.
func (p *run) askTLS(ctx context.Context) {
	for _, o := range matrix() {
		h, err := p.hello(ctx, p.where, o)
		if err != nil {
			p.say(o.id, []string{o.row}, o.asked, Mute, "%v", plain(err))
			if o.id == "tls-1.3" {
				return // nobody is there
			}
			continue
		}
		if !h.TLS && o.raw == nil && o.id == "tls-1.3" {
			p.say(o.id, []string{o.row}, o.asked, Bad, "it does not speak TLS")
			return
		}
		outcome, came := o.judge(h)
		if !h.TLS {
			came = "hung up"
		}
		p.say(o.id, []string{o.row}, o.asked, outcome, "%s", came)
	}
	p.askCertificate(ctx)
}

func (p *run) hello(ctx context.Context, d door, o offer) (Hello, error) {
	c, err := p.dial(ctx, d.addr)
	if err != nil {
		return Hello{}, err
	}
	defer func() { _ = c.Close() }() // nothing was written that counts
	if o.raw != nil {
		return askRaw(c, o.raw(d.host))
	}
	conf := &tls.Config{InsecureSkipVerify: true, ServerName: d.host} // what is asked is what it agrees to; who it is comes later
	o.conf(conf)
	return ask(ctx, c, conf), nil
}

// plain is an error without the addresses that the answer has anyway.
func plain(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// askCertificate looks at the certificate that a door shows: chain, name,
// time, key.
func (p *run) askCertificate(ctx context.Context) {
	rows := []string{"2.8", "3.4"}
	c, err := p.dial(ctx, p.where.addr)
	if err != nil {
		p.say("certificate", rows, "its certificate", Mute, "%v", plain(err))
		return
	}
	defer func() { _ = c.Close() }()                                                                                  // only the handshake was of interest
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: p.where.host, MinVersion: tls.VersionTLS12}) // judged below, with words
	if err := t.HandshakeContext(ctx); err != nil {
		p.say("certificate", rows, "its certificate", Mute, "no handshake: %v", plain(err))
		return
	}
	chain := t.ConnectionState().PeerCertificates
	now := p.o.Now()
	verdict, why := judgeChain(chain, p.o.Roots, p.where.host, now)
	p.say("certificate", rows, "that its certificate is of an authority that we trust, for this name, and in its time", verdict, "%s", why)
	leaf := chain[0]
	left := leaf.NotAfter.Sub(now)
	p.say("certificate-end", rows, "how long its certificate is good", or(left > 0 && leaf.NotAfter.Sub(leaf.NotBefore) <= 400*24*time.Hour),
		"until %s, %d days from now", leaf.NotAfter.UTC().Format(time.DateOnly), int(left.Hours()/24))
	key, strong := keyOf(leaf)
	p.say("certificate-key", rows, "a strong key", or(strong), "%s", key)
	state := t.ConnectionState()
	p.say("negotiated", rows, "what an ordinary client gets", Seen, "%s with %s, key exchange %s",
		tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.CurveID)
}

func judgeChain(chain []*x509.Certificate, roots *x509.CertPool, host string, now time.Time) (Outcome, string) {
	rest := x509.NewCertPool()
	for _, c := range chain[1:] {
		rest.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest, DNSName: host, CurrentTime: now})
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case err == nil:
		return Good, "issued by " + issuer(chain[0])
	case errors.As(err, &unknown) && roots == nil:
		return Seen, "not publicly trusted: issued by " + issuer(chain[0]) + "; give its authority with --roots"
	case errors.As(err, &unknown):
		return Bad, "issued by " + issuer(chain[0]) + ", which the given file does not have"
	case errors.As(err, &name):
		return Bad, fmt.Sprintf("it is not for %s", host)
	}
	return Bad, err.Error()
}

func issuer(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return fmt.Sprintf("%q", c.Issuer.CommonName)
	}
	return fmt.Sprintf("%q", c.Issuer.String())
}

func keyOf(c *x509.Certificate) (string, bool) {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name, k.Curve.Params().BitSize >= 256
	case ed25519.PublicKey:
		return "Ed25519", true
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen()), k.N.BitLen() >= 2048
	}
	return c.PublicKeyAlgorithm.String(), false
}

// SharedKey offers a door nothing but keys that many share, or no proof of who
// anybody is, in each way that TLS knows (CC 3.1). dial opens a fresh
// connection; took says what it agreed to, "" when nothing.
func SharedKey(dial func() (net.Conn, error), host string) (took string, err error) {
	for _, o := range matrix() {
		if o.row != "3.1" {
			continue
		}
		c, err := dial()
		if err != nil {
			return "", err
		}
		h, err := askRaw(c, o.raw(host))
		_ = c.Close() // nothing was written that counts
		if err != nil {
			return "", err
		}
		if outcome, _ := o.judge(h); outcome == Bad {
			return o.asked + ": " + h.String(), nil
		}
	}
	return "", nil
}
