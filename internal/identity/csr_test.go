package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

func makeCSR(t testing.TB, key crypto.Signer, tmpl x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ext(t testing.TB, critical bool, v any, id ...int) []pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return []pkix.Extension{{Id: id, Critical: critical, Value: der}}
}

func uri(text string) []*url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return []*url.URL{u}
}

type basicConstraints struct {
	CA bool `asn1:"optional"`
}

// TestCSRs is the table of attack 26: what each request gets, by name.
func TestCSRs(t *testing.T) {
	weak, err := newWeakKeys()
	if err != nil {
		t.Fatal(err)
	}
	key := p256(t)
	ec := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rsaKey := func(bits int) crypto.Signer {
		t.Setenv("GODEBUG", "rsa1024min=0")
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := makeCSR(t, key, x509.CertificateRequest{})
	flip := func(at int) []byte {
		b := append([]byte(nil), good...)
		b[at] ^= 1
		return b
	}
	plain := x509.CertificateRequest{}
	named := func(n pkix.Name) []byte { return makeCSR(t, key, x509.CertificateRequest{Subject: n}) }
	with := func(e []pkix.Extension) []byte { return makeCSR(t, key, x509.CertificateRequest{ExtraExtensions: e}) }
	const own = "urn:hawser:test:device:p:A1"
	otherName, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 42}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, reason string
		der          []byte
	}{
		{"empty subject", "", good},
		{"own common name", "", named(pkix.Name{CommonName: "A1"})},
		{"own serialNumber", "", named(pkix.Name{SerialNumber: "A1"})},
		{"parts that name no device", "", named(pkix.Name{CommonName: "A1", Organization: []string{"Northwind"}, Country: []string{"SE"}})},
		{"own URI", "", makeCSR(t, key, x509.CertificateRequest{URIs: uri(own)})},
		{"CA:FALSE", "", with(ext(t, true, basicConstraints{}, 2, 5, 29, 19))},
		{"clientAuth", "", with(ext(t, false, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}}, 2, 5, 29, 37))},
		{"digitalSignature", "", with(ext(t, true, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}, 2, 5, 29, 15))},
		{"challengePassword", "", withChallenge(t, key)},

		{"nothing", "csr-size", nil},
		{"9 KB", "csr-size", make([]byte, 9<<10)},
		{"rubbish", "csr-malformed", []byte("GET / HTTP/1.1")},
		{"cut short", "csr-malformed", good[:len(good)-3]},
		{"one byte more", "csr-malformed", append(append([]byte(nil), good...), 0)},
		{"a certificate", "csr-malformed", func() []byte { ca, _ := testCA(t, core.Test); return ca.root.Raw }()},
		{"RSA 1024", "csr-key-rsa", makeCSR(t, rsaKey(1024), plain)},
		{"RSA 2048", "csr-key-rsa", makeCSR(t, rsaKey(2048), plain)},
		{"P-224", "csr-key-p224", makeCSR(t, ec(elliptic.P224()), plain)},
		{"P-384", "csr-key-p384", makeCSR(t, ec(elliptic.P384()), plain)},
		{"P-521", "csr-key-p521", makeCSR(t, ec(elliptic.P521()), plain)},
		{"Ed25519", "csr-key-ed25519", makeCSR(t, edKey, plain)},
		{"signature changed", "csr-signature", flip(len(good) - 1)},
		{"signed by another key", "csr-signature", foreignSignature(t, key)},
		{"key of a standard", "csr-key-known", makeCSR(t, rfc9500(t), plain)},
		{"key 1", "csr-key-known", makeCSR(t, rawKey(t, big.NewInt(1).FillBytes(make([]byte, 32))), plain)},
		{"key of the serial number", "csr-key-known", makeCSR(t, rawKey(t, sum("A1")), plain)},
		{"another's common name", "csr-foreign-name", named(pkix.Name{CommonName: "B2"})},
		{"another's serialNumber", "csr-foreign-name", named(pkix.Name{CommonName: "A1", SerialNumber: "B2"})},
		{"two common names", "csr-foreign-name", named(pkix.Name{CommonName: "A1", ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "B2"}}})},
		{"another's URI", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{URIs: uri("urn:hawser:test:device:p:B2")})},
		{"another product", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{URIs: uri("urn:hawser:test:device:q:A1")})},
		{"another environment", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{URIs: uri("urn:hawser:live:device:p:A1")})},
		{"own and another's URI", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{URIs: append(uri(own), uri("urn:hawser:test:device:p:B2")...)})},
		{"host name", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{DNSNames: []string{"iot.northwind.example"}})},
		{"own URI and a host name", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{URIs: uri(own), DNSNames: []string{"x.example"}})},
		{"address", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{IPAddresses: []net.IP{{192, 0, 2, 1}}})},
		{"mail", "csr-foreign-name", makeCSR(t, key, x509.CertificateRequest{EmailAddresses: []string{"a@b.example"}})},
		{"a name of a kind that nobody knows", "csr-foreign-name", with([]pkix.Extension{{Id: oid(2, 5, 29, 17), Value: otherName}})},
		{"CA:TRUE", "csr-ca-true", with(ext(t, true, basicConstraints{CA: true}, 2, 5, 29, 19))},
		{"keyCertSign", "csr-ca-usage", with(ext(t, true, asn1.BitString{Bytes: []byte{0x04}, BitLength: 6}, 2, 5, 29, 15))},
		{"serverAuth", "csr-foreign-usage", with(ext(t, false, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}}, 2, 5, 29, 37))},
		{"client and serverAuth", "csr-foreign-usage", with(ext(t, false, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}, {1, 3, 6, 1, 5, 5, 7, 3, 1}}, 2, 5, 29, 37))},
		{"any usage", "csr-foreign-usage", with(ext(t, false, []asn1.ObjectIdentifier{{2, 5, 29, 37, 0}}, 2, 5, 29, 37))},
		{"name constraints", "csr-foreign-extension", with([]pkix.Extension{{Id: oid(2, 5, 29, 30), Value: []byte{0x30, 0}}})},
		{"malformed basic constraints", "csr-extension", with([]pkix.Extension{{Id: oid(2, 5, 29, 19), Value: []byte{1, 2, 3}}})},
		{"usage with trailing bytes", "csr-extension", with([]pkix.Extension{{Id: oid(2, 5, 29, 15), Value: []byte{3, 2, 7, 0x80, 0}}})},
		{"names that are no sequence", "csr-malformed csr-extension", with([]pkix.Extension{{Id: oid(2, 5, 29, 17), Value: []byte{4, 0}}})},
		{"one extension twice", "csr-malformed csr-extension-twice", with(append(ext(t, true, basicConstraints{}, 2, 5, 29, 19), ext(t, true, basicConstraints{CA: true}, 2, 5, 29, 19)...))},
	} {
		r, err := parseCSR(c.der, core.Test, "p", "A1", weak)
		if c.reason == "" {
			if err != nil || r.key == nil || r.hash.IsZero() {
				t.Errorf("%s: refused: %v", c.name, err)
			}
			continue
		}
		e, ok := errors.AsType[*core.Error](err)
		if !ok || !contains(c.reason, e.Reason) || e.Message == "" || e.Hint == "" {
			t.Errorf("%s: got %q (%v), want reason %q", c.name, core.ReasonOf(err), err, c.reason)
		}
	}
}

func contains(words, word string) bool {
	for len(words) > 0 {
		w := words
		for i := range words {
			if words[i] == ' ' {
				w = words[:i]
				break
			}
		}
		if w == word {
			return true
		}
		words = words[min(len(words), len(w)+1):]
	}
	return false
}

func sum(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func rawKey(t testing.TB, d []byte) crypto.Signer {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rfc9500 is the P-256 test key of RFC 9500 §2.3.
func rfc9500(t testing.TB) crypto.Signer {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString("MHcCAQEEIObLW92AqkWunJXowVR2Z5/+yVPBaFHnEedDk5WJxk/BoAoGCCqGSM49" +
		"AwEHoUQDQgAEQiVI+I+3gv+17KN0RFLHKh5Vj71vc75eSOkyMsxFxbFsTNEMTLjVuKFxOelIgsiZJXKZNCX0FBmrfpCkKklCcg==")
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.ParseECPrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// foreignSignature is a request for one key, signed by another.
func foreignSignature(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	mine, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	signer := p256(t)
	theirs, err := signer.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Replace(makeCSR(t, signer, x509.CertificateRequest{}), theirs, mine, 1)
}

// withChallenge is a request with a challengePassword (RFC 2985 §5.4.1).
func withChallenge(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	//lint:ignore SA1019 there is no other way to write one
	tmpl := x509.CertificateRequest{Attributes: []pkix.AttributeTypeAndValueSET{{
		Type:  oid(1, 2, 840, 113549, 1, 9, 7),
		Value: [][]pkix.AttributeTypeAndValue{{{Type: oid(1, 2, 3), Value: "secret"}}},
	}}}
	return makeCSR(t, key, tmpl)
}

func TestPublishedKeysAreThoseOfTheStandards(t *testing.T) {
	for i, want := range []string{
		"422548f88fb782ffb5eca3744452c72a1e558fbd6f73be5e48e93232cc45c5b1", // RFC 9500
		"60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6", // RFC 6979 §A.2.5 Ux
		"7fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13bacf6e3c7bd15445", // RFC 7515 §A.3.1 x
		"30a0424cd21c2944838a2d75c92b37e76ea20d9f00893a3b4eee8a3c0aafec3e", // RFC 7517 §A.1 x
		"1ccbe91c075fc7f4f033bfa248db8fccd3565de94bbfb12f3c59ff46c271bf83", // NIST CAVP Qx
	} {
		d, ok := new(big.Int).SetString(publishedKeys()[i], 16)
		if !ok {
			t.Fatalf("key %d is not hexadecimal", i)
		}
		x, ok := publicX(d.FillBytes(make([]byte, 32)))
		if got := core.Hash(x).String(); !ok || got != want {
			t.Errorf("key %d: x = %s, want %s", i, got, want)
		}
	}
}

func TestFreshKeysAreNotWeak(t *testing.T) {
	weak, err := newWeakKeys()
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if weak.has(&p256(t).PublicKey, "A1") {
			t.Fatal("a random key is called weak")
		}
	}
	// Minus 5 has the x of 5.
	n := elliptic.P256().Params().N
	k := rawKey(t, new(big.Int).Sub(n, big.NewInt(5)).FillBytes(make([]byte, 32)))
	if !weak.has(k.Public().(*ecdsa.PublicKey), "A1") {
		t.Error("the negative of a weak key is not known")
	}
}

func FuzzParseCSR(f *testing.F) {
	weak, err := newWeakKeys()
	if err != nil {
		f.Fatal(err)
	}
	key := p256(f)
	f.Add(makeCSR(f, key, x509.CertificateRequest{}))
	f.Add(makeCSR(f, key, x509.CertificateRequest{URIs: uri("urn:hawser:test:device:p:A1"), Subject: pkix.Name{CommonName: "A1"}}))
	f.Add(makeCSR(f, key, x509.CertificateRequest{ExtraExtensions: ext(f, true, basicConstraints{CA: true}, 2, 5, 29, 19)}))
	f.Add(makeCSR(f, key, x509.CertificateRequest{DNSNames: []string{"a.example"}, IPAddresses: []net.IP{{1, 2, 3, 4}}}))
	f.Add(rfc9500CSR(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := parseCSR(der, core.Test, "p", "A1", weak)
		if (err == nil) != (r.key != nil) {
			t.Fatalf("key %v with error %v", r.key, err)
		}
		if err != nil {
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Reason == "" || e.Kind == core.Internal {
				t.Fatalf("refused without a name: %v", err)
			}
		}
	})
}

func rfc9500CSR(t testing.TB) []byte { return makeCSR(t, rfc9500(t), x509.CertificateRequest{}) }

// FuzzNames holds that only this device's own name passes, whatever the bytes.
func FuzzNames(f *testing.F) {
	const own = "urn:hawser:test:device:p:A1"
	f.Add([]byte{0x30, 0})
	f.Add(append([]byte{0x30, byte(len(own) + 2), 0x86, byte(len(own))}, own...))
	f.Fuzz(func(t *testing.T, der []byte) {
		if wantOwnName(der, own) != nil {
			return
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(der, &names); err != nil {
			t.Fatalf("accepted what does not parse: %x", der)
		}
		for _, n := range names {
			if string(n.Bytes) != own {
				t.Fatalf("accepted the name %q", n.Bytes)
			}
		}
	})
}

// BenchmarkParseCSR is all checks of one request.
func BenchmarkParseCSR(b *testing.B) {
	weak, err := newWeakKeys()
	if err != nil {
		b.Fatal(err)
	}
	der := makeCSR(b, p256(b), x509.CertificateRequest{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseCSR(der, core.Test, "p", "A1", weak); err != nil {
			b.Fatal(err)
		}
	}
}
