package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/cryptobyte"
)

// Hello is what a TLS server answered to a client's first message.
type Hello struct {
	TLS     bool   // it speaks TLS at all
	Refused bool   // it answered with an alert
	Version uint16 // that it chose; 0: none
	Suite   uint16 // that it chose; 0: none
	PSK     bool   // it chose a key that both are supposed to share
	Retry   bool   // it asked for another key exchange, and agreed to nothing yet
}

// Took says what the server agreed to, "" when nothing.
func (h Hello) Took() string {
	if h.Version == 0 {
		return ""
	}
	s := versionName(h.Version) + " with " + tls.CipherSuiteName(h.Suite)
	if h.PSK {
		s += " and a shared key"
	}
	return s
}

// String says what came, for people.
func (h Hello) String() string {
	switch {
	case !h.TLS:
		return "no TLS"
	case h.Retry:
		return "not taken: it asks for a key exchange"
	case h.Version == 0:
		return "refused"
	}
	return "takes " + h.Took()
}

func versionName(v uint16) string {
	if v == 0x0300 {
		return "SSL 3.0"
	}
	return tls.VersionName(v)
}

// ask offers what conf allows and reads the answer to the first message; it
// hangs up then. what is not TLS, or a connection closed without a word,
// is no answer of TLS.
func ask(ctx context.Context, c net.Conn, conf *tls.Config) Hello {
	seen := &firstRecord{Conn: c}
	_ = tls.Client(seen, conf).HandshakeContext(ctx) // it always fails: there is no second record
	return parseHello(seen.b)
}

// askRaw sends a hello that no library would send.
func askRaw(c net.Conn, hello []byte) (Hello, error) {
	if _, err := c.Write(hello); err != nil {
		return Hello{}, fmt.Errorf("send hello: %w", err)
	}
	seen := &firstRecord{Conn: c}
	buf := make([]byte, 4096)
	for {
		if _, err := seen.Read(buf); err != nil {
			break // whole, or cut off: the parser knows
		}
	}
	return parseHello(seen.b), nil
}

// firstRecord lets one TLS record through and keeps it.
type firstRecord struct {
	net.Conn
	b []byte
}

const maxRecord = 5 + 1<<14 + 256

func (f *firstRecord) Read(p []byte) (int, error) {
	if n := len(f.b); n >= maxRecord || n >= 5 && n >= 5+int(f.b[3])<<8+int(f.b[4]) {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := f.Conn.Read(p)
	f.b = append(f.b, p[:n]...)
	return n, err
}

// retryRandom marks a ServerHello as a HelloRetryRequest (RFC 8446 §4.1.3).
func retryRandom() []byte {
	h := sha256.Sum256([]byte("HelloRetryRequest"))
	return h[:]
}

// parseHello reads the first record of a server (RFC 8446 §4.1.3, §6).
func parseHello(record []byte) (h Hello) {
	const alert, handshake, serverHello, preSharedKey, supportedVersions = 21, 22, 2, 41, 43
	s := cryptobyte.String(record)
	var typ, hs, vendor uint8
	var version, suite uint16
	var random []byte
	var body, msg, session, ext cryptobyte.String
	if !s.ReadUint8(&typ) || !s.ReadUint8(&vendor) || vendor != 3 || !s.Skip(1) || !s.ReadUint16LengthPrefixed(&body) {
		return Hello{}
	}
	if typ == alert {
		return Hello{TLS: true, Refused: true}
	}
	if typ != handshake || !body.ReadUint8(&hs) || hs != serverHello || !body.ReadUint24LengthPrefixed(&msg) ||
		!msg.ReadUint16(&version) || !msg.ReadBytes(&random, 32) || !msg.ReadUint8LengthPrefixed(&session) || !msg.ReadUint16(&suite) || !msg.Skip(1) {
		return Hello{}
	}
	if bytes.Equal(random, retryRandom()) {
		return Hello{TLS: true, Retry: true}
	}
	h = Hello{TLS: true, Version: version, Suite: suite}
	if !msg.ReadUint16LengthPrefixed(&ext) {
		return h
	}
	for !ext.Empty() {
		var id, v uint16
		var data cryptobyte.String
		if !ext.ReadUint16(&id) || !ext.ReadUint16LengthPrefixed(&data) {
			return Hello{}
		}
		switch {
		case id == supportedVersions && data.ReadUint16(&v):
			h.Version = v
		case id == preSharedKey:
			h.PSK = true
		}
	}
	return h
}

// Suites that no server may take, by why.
var (
	// anonymous: nobody proves who he is (RFC 5246 §A.5, RFC 4492).
	anonymousSuites = []uint16{0x0018, 0x001b, 0x0034, 0x003a, 0x006c, 0x006d, 0x00a6, 0x00a7, 0xc015, 0xc016, 0xc017, 0xc018, 0xc019}
	// shared key instead of certificates (RFC 4279, 5487, 5489, 8442).
	sharedSuites = []uint16{
		0x008a, 0x008b, 0x008c, 0x008d, 0x008e, 0x008f, 0x0090, 0x0091, 0x00a8, 0x00a9, 0x00aa, 0x00ab,
		0xc033, 0xc034, 0xc035, 0xc036, 0xc037, 0xc038, 0xccab, 0xccac, 0xd001, 0xd002,
	}
	// no encryption, or one weakened on purpose.
	emptySuites = []uint16{0x0001, 0x0002, 0x0003, 0x0006, 0x0008, 0x0009, 0x0011, 0x0014, 0x003b, 0xc001, 0xc006, 0xc010}
	// plainSuites are of SSL 3.0.
	plainSuites = []uint16{0x0004, 0x0005, 0x000a, 0x002f, 0x0035}
)

// rawHello is a ClientHello (RFC 8446 §4.1.2) with suites that crypto/tls does
// not know. version is the legacy one; psk13 makes it one of TLS 1.3 that
// offers nothing but a shared key, without key exchange.
func rawHello(version uint16, name string, suites []uint16, psk13 bool) []byte {
	var b cryptobyte.Builder
	random := make([]byte, 32)
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	b.AddUint8(22)
	b.AddUint16(min(version, tls.VersionTLS10))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(1)
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint16(version)
			b.AddBytes(random)
			b.AddUint8(0) // no session
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				for _, s := range suites {
					b.AddUint16(s)
				}
			})
			b.AddBytes([]byte{1, 0}) // no compression
			if version < tls.VersionTLS10 {
				return // SSL 3.0 has no extensions
			}
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { extensions(b, name, psk13) })
		})
	})
	return b.BytesOrPanic()
}

func extensions(b *cryptobyte.Builder, name string, psk13 bool) {
	ext := func(id uint16, body func(*cryptobyte.Builder)) {
		b.AddUint16(id)
		b.AddUint16LengthPrefixed(body)
	}
	if net.ParseIP(name) == nil {
		ext(0, func(b *cryptobyte.Builder) { // server_name
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				b.AddUint8(0)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
			})
		})
	}
	ext(10, func(b *cryptobyte.Builder) { // supported_groups
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, g := range []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384} {
				b.AddUint16(uint16(g))
			}
		})
	})
	ext(11, func(b *cryptobyte.Builder) { b.AddBytes([]byte{1, 0}) }) // ec_point_formats
	ext(13, func(b *cryptobyte.Builder) {                             // signature_algorithms
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, a := range []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256} {
				b.AddUint16(uint16(a))
			}
		})
	})
	if !psk13 {
		return
	}
	ext(43, func(b *cryptobyte.Builder) { b.AddBytes([]byte{2, 3, 4}) }) // supported_versions: 1.3
	ext(45, func(b *cryptobyte.Builder) { b.AddBytes([]byte{1, 0}) })    // psk_key_exchange_modes: psk_ke
	ext(41, func(b *cryptobyte.Builder) {                                // pre_shared_key, the last
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("Client_identity")) })
			b.AddUint32(0)
		})
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(make([]byte, 32)) })
		})
	})
}
