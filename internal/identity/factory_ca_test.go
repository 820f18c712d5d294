package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

// factoryCA is a factory's authority with its key.
type factoryCA struct {
	f    *fixture
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64
}

func (f *fixture) newCA() *factoryCA {
	f.t.Helper()
	key := newKey(f.t)
	now := f.clock()
	return &factoryCA{f: f, key: key, cert: signedBy(f.t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Factory"}, NotBefore: now.Add(-day), NotAfter: now.Add(20 * 365 * day),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key, key)}
}

func (f *fixture) factoryCA(name string, units int) *factoryCA {
	f.t.Helper()
	c := f.newCA()
	if err := f.svc.AddFactoryCA(f.t.Context(), admin, c.cert, identity.FactoryCA{Name: name, Product: product, SerialFrom: identity.FromSerialNumber, Until: f.clock().Add(365 * day), MaxUnits: units}); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// birth is a birth certificate for a serial number, as the factory makes it.
func (c *factoryCA) birth(serial string, key *ecdsa.PrivateKey) []*x509.Certificate {
	c.f.t.Helper()
	c.n++
	now := c.f.clock()
	return []*x509.Certificate{signedBy(c.f.t, &x509.Certificate{
		SerialNumber: big.NewInt(100 + c.n), Subject: pkix.Name{CommonName: "a unit", SerialNumber: serial}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10 * 365 * day),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}, c.cert, key, c.key)}
}

// A birth certificate is turned into an operational one; it is the lasting
// fallback (design, section 5), and its use while a good certificate stands is
// evidence.
func TestBirthCertificate(t *testing.T) {
	f := newFixture(t)
	ca := f.factoryCA("works-2", 10)
	birthKey := newKey(t)
	birth := ca.birth("A1", birthKey)
	_, err := f.born(birth, birthKey, "A1")
	wantReason(t, err, "key-reused") // the birth key is not the operational one
	_, err = f.born(birth, newKey(t), "B2")
	wantReason(t, err, "csr-foreign-name")
	found := len(f.records(identity.RecordFinding))
	first, err := f.born(birth, newKey(t), "A1")
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(first)
	b, err := f.svc.Birth(t.Context(), "A1")
	if err != nil || b.Door != identity.DoorCA || b.Station != "works-2" || b.Source == (core.Hash{}) || b.KeyOrigin != "device" {
		t.Errorf("born %+v, %v", b, err)
	}
	// It lost all it had, long after: the birth certificate still opens.
	f.advance(f.terms[product].Life + day)
	f.restart()
	second, err := f.born(birth, newKey(t), "A1")
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(second)
	if n := len(f.records(identity.RecordFinding)) - found; n != 0 {
		t.Errorf("%d findings of a unit that came back, want none", n)
	}
	// Somebody asks with it although the unit has a certificate that is good.
	// What they get takes the good one's place with its first use; when the
	// unit then comes with its own, two have the birth certificate.
	third, err := f.born(birth, newKey(t), "A1")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.records(identity.RecordFinding)) - found; n != 1 {
		t.Errorf("%d findings of a birth certificate used beside a good one, want 1", n)
	}
	f.mustIdentify(third)
	f.advance(time.Minute)
	_, _ = f.svc.Identify(t.Context(), second)
	if d, err := f.svc.Device("A1"); err != nil || d.State != identity.StateQuarantined {
		t.Fatalf("the copy is not held: %+v, %v", d, err)
	}
	_, err = f.born(birth, newKey(t), "A1")
	wantReason(t, err, "quarantined")
	// A new code takes the birth certificate's place for good.
	f.newCode("A1")
	_, err = f.born(birth, newKey(t), "A1")
	wantReason(t, err, "birth-key-spent", "quarantined")
}

func TestBirthCertificateRefusals(t *testing.T) {
	f := newFixture(t)
	ca := f.factoryCA("works-2", 2)
	l := f.line("line-4", 10)
	listed := newKey(t)
	l.mustTake(l.list("w47", map[core.DeviceID]crypto.PublicKey{"L1": listed.Public()}))
	f.mustAdd("HAND")
	stranger := f.newCA() // signs as the factory does, and nobody took it
	used := newKey(t)
	operational := newKey(t)
	first, err := f.born(ca.birth("A1", used), operational, "A1")
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(first)
	fresh := newKey(t)
	authority := signedBy(t, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{SerialNumber: "N1"}, NotBefore: f.clock().Add(-day), NotAfter: f.clock().Add(day),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}, ca.cert, fresh, ca.key)
	for name, c := range map[string]struct {
		shown  []*x509.Certificate
		id     core.DeviceID
		reason string
	}{
		"of a stranger's authority":           {stranger.birth("N1", newKey(t)), "N1", "unknown-birth-key"},
		"of our own authority":                {[]*x509.Certificate{first}, "A1", "unknown-birth-key"},
		"signed by itself":                    {[]*x509.Certificate{selfSigned(t, newKey(t))}, "N1", "unknown-birth-key"},
		"an authority, not a unit":            {[]*x509.Certificate{authority}, "N1", "birth-certificate-of-authority"},
		"another key for the same serial":     {ca.birth("A1", newKey(t)), "A1", "birth-certificate-changed"},
		"the same key for another serial":     {ca.birth("N1", used), "N1", "birth-key-reused"},
		"a serial that has a code":            {ca.birth("HAND", newKey(t)), "HAND", "birth-of-another-door"},
		"a serial that a line listed":         {ca.birth("L1", newKey(t)), "L1", "birth-of-another-door"},
		"a listed key under the authority":    {ca.birth("N1", listed), "N1", "birth-key-reused"},
		"no serial where it should be":        {ca.birth("", newKey(t)), "N1", "birth-serial"},
		"a serial that is none":               {ca.birth("../../etc", newKey(t)), "N1", "birth-serial"},
		"a serial that is far too long":       {ca.birth(strings.Repeat("9", 500), newKey(t)), "N1", "birth-serial"},
		"a key that was certified for a unit": {ca.birth("N1", operational), "N1", "birth-key-reused"},
	} {
		_, err := f.born(c.shown, newKey(t), c.id)
		if core.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v (%s), want %s", name, err, core.ReasonOf(err), c.reason)
		}
	}
	if n := f.svc.Counts().Devices; n != 3 {
		t.Errorf("%d units, want the 3 of before", n)
	}
	// An authority brings no more than it may, and nobody after its end.
	if _, err := f.born(ca.birth("A2", newKey(t)), newKey(t), "A2"); err != nil {
		t.Fatal(err)
	}
	_, err = f.born(ca.birth("A3", newKey(t)), newKey(t), "A3")
	wantReason(t, err, "factory-ca-full")
	later := f.factoryCA("works-3", 2)
	f.advance(366 * day)
	_, err = f.born(later.birth("A4", newKey(t)), newKey(t), "A4")
	wantReason(t, err, "factory-ca-over")
	expired := ca.birth("A2", newKey(t))
	f.advance(10*365*day + day)
	_, err = f.born(expired, newKey(t), "A2")
	wantReason(t, err, "birth-certificate-expired")
}

func TestEndedFactoryCA(t *testing.T) {
	f := newFixture(t)
	ca := f.factoryCA("works-2", 10)
	first, err := f.born(ca.birth("A1", newKey(t)), newKey(t), "A1")
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(first)
	if err := f.svc.EndFactoryCA(t.Context(), admin, "works-2", identity.CauseCompromised); err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.svc.EndFactoryCA(t.Context(), admin, "works-2", identity.CauseCompromised), "factory-ca-ended")
	wantReason(t, f.svc.EndFactoryCA(t.Context(), admin, "works-9", identity.CauseCompromised), "unknown-factory-ca")
	_, err = f.born(ca.birth("A2", newKey(t)), newKey(t), "A2")
	wantReason(t, err, "factory-ca-ended")
	f.mustIdentify(first)
	if n := len(f.records(identity.RecordCAEnded)); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestFactoryCARefusals(t *testing.T) {
	f := newFixture(t)
	c := f.newCA()
	good := identity.FactoryCA{Name: "works-2", Product: product, SerialFrom: identity.FromCommonName, Until: f.clock().Add(day), MaxUnits: 1}
	for reason, change := range map[string]func(*identity.FactoryCA){
		"factory-name":         func(c *identity.FactoryCA) { c.Name = "two words" },
		"factory-until":        func(c *identity.FactoryCA) { c.Until = f.clock() },
		"factory-units":        func(c *identity.FactoryCA) { c.MaxUnits = 0 },
		"serial-from":          func(c *identity.FactoryCA) { c.SerialFrom = "email" },
		"product-not-declared": func(c *identity.FactoryCA) { c.Product = "undeclared" },
	} {
		x := good
		change(&x)
		wantReason(t, f.svc.AddFactoryCA(t.Context(), admin, c.cert, x), reason)
	}
	own, err := x509.ParseCertificate(f.ca.Bundle()[0])
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.svc.AddFactoryCA(t.Context(), admin, own, good), "factory-ca-ours")
	if err := f.svc.AddFactoryCA(t.Context(), admin, c.cert, good); err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.svc.AddFactoryCA(t.Context(), admin, c.cert, good), "factory-ca-exists")
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	leaf := selfSigned(t, newKey(t))
	for name, in := range map[string]string{
		"nothing": "", "rubbish": "hello", "no certificate": block("CERTIFICATE", []byte("x")), "a key": block("PRIVATE KEY", c.cert.Raw),
		"two": block("CERTIFICATE", c.cert.Raw) + block("CERTIFICATE", c.cert.Raw), "no authority": block("CERTIFICATE", leaf.Raw), "endless": strings.Repeat("x", 1<<20),
	} {
		if _, err := identity.ParseFactoryCA([]byte(in)); core.ReasonOf(err) != "factory-ca" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := identity.ParseFactoryCA([]byte(block("CERTIFICATE", c.cert.Raw))); err != nil || !got.Equal(c.cert) {
		t.Errorf("a good one: %v", err)
	}
}

func FuzzFactoryCA(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := identity.ParseFactoryCA(b); err == nil && !c.IsCA {
			t.Error("took what is no authority")
		}
	})
}

func FuzzLineKey(f *testing.F) {
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKk9DXlVWfYQ2IAiKkwxpgfIkGEbG5tz1nKKAb7TMQi1 line"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := identity.ParseLineKey(b); err == nil && len(k) != 32 {
			t.Errorf("took a key of %d bytes", len(k))
		}
	})
}
