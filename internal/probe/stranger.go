package probe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/mqtt"
)

// Stranger is somebody who tries to come in as a device and is none.
type Stranger struct {
	ID   string   // stable: "no-certificate"
	Says string   // who it is
	Rows []string // of the mission
	// Reason is what the gateway calls the refusal of it; "": any.
	Reason string
	// Certificate makes what it shows, for a device of an environment; nil: nothing.
	Certificate func(core.Environment, time.Time) (tls.Certificate, error)
	// User and Password are sent in CONNECT where they are not empty.
	User, Password string
}

// Strangers are all that try. here is the environment that is asked; a
// stranger does not know it and pretends to be of live.
func Strangers() []Stranger {
	return []Stranger{
		{ID: "no-certificate", Says: "a device without a certificate", Rows: []string{"3.1"}, Reason: "no-certificate"},
		{ID: "password", Says: "a device without a certificate, with user name and password admin", Rows: []string{"1.9", "3.1"}, Reason: "no-certificate", User: "admin", Password: "admin"},
		{ID: "foreign-authority", Says: "a device with a certificate of an authority of somebody else", Rows: []string{"3.1", "3.2"}, Reason: "foreign-authority", Certificate: made(same, time.Hour)},
		{ID: "expired", Says: "a device with a foreign certificate that ran out", Rows: []string{"3.1"}, Reason: "", Certificate: made(same, -time.Hour)},
		{ID: "other-environment", Says: "a device with a certificate of the other environment's name", Rows: []string{"3.11"}, Reason: "foreign-environment", Certificate: made(other, time.Hour)},
	}
}

func same(e core.Environment) core.Environment { return e }

func other(e core.Environment) core.Environment {
	if e == core.Live {
		return core.Test
	}
	return core.Live
}

// made makes a certificate of an authority that exists nowhere, with the name
// of a device.
func made(env func(core.Environment) core.Environment, left time.Duration) func(core.Environment, time.Time) (tls.Certificate, error) {
	return func(here core.Environment, now time.Time) (tls.Certificate, error) {
		name := &url.URL{Scheme: "urn", Opaque: fmt.Sprintf("hawser:%s:device:probe:PROBE-1", env(here))}
		return throwAway(name, now, left)
	}
}

// throwAway is a certificate of an authority that is forgotten at once.
func throwAway(name *url.URL, now time.Time, left time.Duration) (tls.Certificate, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority of nobody"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "PROBE-1"}, URIs: []*url.URL{name}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(left),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), crypto.Signer(caKey))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Try lets a stranger knock over a fresh TCP connection, and says whether it
// was let in and what came. An error means that nobody answered.
func (s *Stranger) Try(ctx context.Context, c net.Conn, host string, here core.Environment, now time.Time) (in bool, came string, err error) {
	conf := &tls.Config{InsecureSkipVerify: true, ServerName: host, MinVersion: tls.VersionTLS12} // who lets strangers in is the question, not who it is
	if s.Certificate != nil {
		cert, err := s.Certificate(here, now)
		if err != nil {
			return false, "", err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	t := tls.Client(c, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, "", err
		}
		return false, "refused in the handshake", nil
	}
	return connect(t, s.User, s.Password)
}

// connect sends a CONNECT and reads whether it is taken.
func connect(c io.ReadWriter, user, password string) (in bool, came string, err error) {
	// The empty lines end what a door for pages takes for the head of a request:
	// it answers, and nobody waits. A door for MQTT has answered before.
	if _, err := c.Write(append(connectPacket(user, password), "\r\n\r\n"...)); err != nil {
		return false, "refused", nil
	}
	var answer [64]byte
	n, err := io.ReadAtLeast(c, answer[:], 4)
	switch {
	case n >= 4 && mqtt.Type(answer[0]>>4) == mqtt.CONNACK && answer[3] == 0:
		return true, "let in", nil
	case n >= 4 && mqtt.Type(answer[0]>>4) == mqtt.CONNACK:
		return false, fmt.Sprintf("refused with code %d", answer[3]), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, "", err
	case bytes.HasPrefix(answer[:n], []byte("HTTP/")):
		return false, "does not speak MQTT", nil
	}
	return false, "refused", nil
}

// connectPacket is a CONNECT of MQTT 3.1.1 (section 3.1): clean session.
func connectPacket(user, password string) []byte {
	text := func(b []byte, s string) []byte { return append(append(b, byte(len(s)>>8), byte(len(s))), s...) }
	body := text(nil, "MQTT")
	flags := byte(2)
	if user != "" {
		flags |= 0xc0
	}
	body = append(body, 4, flags, 0, 5)
	body = text(body, "probe")
	if user != "" {
		body = text(text(body, user), password)
	}
	return append([]byte{0x10, byte(len(body))}, body...) // shorter than 128 bytes
}

// askStrangers lets each of them knock at the devices' door.
func (p *run) askStrangers(ctx context.Context) {
	for _, s := range Strangers() {
		asked := "to let in " + s.Says
		c, err := p.dial(ctx, p.where.addr)
		if err != nil {
			p.say(s.ID, s.Rows, asked, Mute, "%v", plain(err))
			continue
		}
		in, came, err := s.Try(ctx, c, p.where.host, core.Live, p.o.Now())
		_ = c.Close() // the answer is what counts
		if err != nil {
			p.say(s.ID, s.Rows, asked, Mute, "%v", plain(err))
			continue
		}
		p.say(s.ID, s.Rows, asked, or(!in), "%s", came)
	}
}

// askClear talks to a door in clear.
func (p *run) askClear(ctx context.Context) {
	rows := []string{"2.8", "5.10"}
	c, err := p.dial(ctx, p.where.addr)
	if err != nil {
		p.say("clear-mqtt", rows, "MQTT in clear", Mute, "%v", plain(err))
		return
	}
	in, came, err := connect(c, "", "")
	_ = c.Close() // the answer is what counts
	if err != nil {
		p.say("clear-mqtt", rows, "MQTT in clear", Good, "no answer to it")
	} else {
		p.say("clear-mqtt", rows, "MQTT in clear", or(!in), "%s", came)
	}
	p.askClearHTTP(ctx, "clear-http", p.where.addr, rows)
}

// askClearHTTP asks for a page in clear: a refusal or a redirection to TLS is
// all that may come.
func (p *run) askClearHTTP(ctx context.Context, id, addr string, rows []string) {
	c, err := p.dial(ctx, addr)
	if err != nil {
		p.sayAt(id, p.where.name, addr, rows, "a page in clear", Good, "closed")
		return
	}
	defer func() { _ = c.Close() }() // the answer is what counts
	_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", p.where.host)
	b, _ := io.ReadAll(io.LimitReader(c, 8<<10)) // what came before an error counts
	ok, came := clearAnswer(b)
	p.sayAt(id, p.where.name, addr, rows, "a page in clear", or(ok), "%s", came)
}

// clearAnswer judges what came back in clear.
func clearAnswer(b []byte) (ok bool, came string) {
	if !bytes.HasPrefix(b, []byte("HTTP/")) {
		return true, "hung up"
	}
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	_, status, _ := bytes.Cut(line, []byte(" "))
	switch {
	case len(status) == 0:
		return true, "nothing of HTTP"
	case status[0] == '4':
		return true, "refused: " + string(status)
	case status[0] == '3' && bytes.Contains(bytes.ToLower(b), []byte("\nlocation: https://")):
		return true, "sent to https: " + string(status)
	}
	return false, "answered in clear: " + string(status)
}

// askPorts looks at the usual ports for cleartext on the host of the HTTPS door.
func (p *run) askPorts(ctx context.Context) {
	rows := []string{"2.8"}
	for _, port := range p.o.Cleartext {
		addr := net.JoinHostPort(p.https.host, port)
		asked := "MQTT in clear on port " + port
		c, err := p.dial(ctx, addr)
		if err != nil {
			p.sayAt("port-"+port, "host", addr, rows, asked+", and a page", Good, "closed")
			continue
		}
		in, came, err := connect(c, "", "")
		_ = c.Close() // the answer is what counts
		if err != nil {
			came = "no answer to it"
		}
		p.sayAt("port-"+port, "host", addr, rows, asked, or(!in), "%s", came)
		was := p.where
		p.where = door{"host", addr, p.https.host}
		p.askClearHTTP(ctx, "port-"+port+"-http", addr, rows)
		p.where = was
	}
}
