package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/identity"
)

const day = 24 * time.Hour

// line is a production line with its key.
type line struct {
	f    *fixture
	name string
	key  ed25519.PrivateKey
}

func (f *fixture) line(name string, units int) *line {
	f.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.svc.AddLine(f.t.Context(), admin, identity.Line{Name: name, Product: product, Public: public, Until: f.clock().Add(365 * day), MaxUnits: units}); err != nil {
		f.t.Fatal(err)
	}
	return &line{f, name, private}
}

// list is a list of units that were born with these keys.
func (l *line) list(name string, units map[core.DeviceID]crypto.PublicKey) []byte {
	l.f.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# hawser factory list 1\n# product: %s\n# line: %s\n# list: %s\n# batch: w47\nserial,sha256\n", product, l.name, name)
	for id, key := range units {
		fmt.Fprintf(&b, "%s,%s\n", id, keyHash(l.f.t, key))
	}
	return []byte(b.String())
}

func keyHash(t testing.TB, key crypto.PublicKey) core.Hash {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(der)
}

// sign writes a signature as ssh-keygen does (PROTOCOL.sshsig).
func sign(key ed25519.PrivateKey, namespace string, m []byte) []byte {
	sum := sha512.Sum512(m)
	wire := func(v any) string { return string(ssh.Marshal(v)) }
	signed := "SSHSIG" + wire(struct{ Namespace, Reserved, Hash, Sum string }{namespace, "", "sha512", string(sum[:])})
	public := wire(struct{ Type, Key string }{"ssh-ed25519", string(key.Public().(ed25519.PublicKey))})
	inner := wire(struct{ Type, Sig string }{"ssh-ed25519", string(ed25519.Sign(key, []byte(signed)))})
	blob := "SSHSIG" + wire(struct {
		Version                                   uint32
		Key, Namespace, Reserved, Hash, Signature string
	}{1, public, namespace, "", "sha512", inner})
	return []byte("-----BEGIN SSH SIGNATURE-----\n" + base64.StdEncoding.EncodeToString([]byte(blob)) + "\n-----END SSH SIGNATURE-----\n")
}

func (l *line) sign(m []byte) []byte { return sign(l.key, identity.ListNamespace, m) }

func (l *line) mustTake(list []byte) identity.Taken {
	l.f.t.Helper()
	t, err := l.f.svc.TakeList(l.f.t.Context(), admin, list, l.sign(list))
	if err != nil {
		l.f.t.Fatal(err)
	}
	return t
}

// selfSigned is what a unit shows in TLS of a key that it was born with.
func selfSigned(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	return signedBy(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "whatever"}}, nil, key, key)
}

func signedBy(t testing.TB, template, parent *x509.Certificate, key, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fixture) born(shown []*x509.Certificate, key *ecdsa.PrivateKey, id core.DeviceID) (*x509.Certificate, error) {
	f.t.Helper()
	chain, err := f.svc.EnrolBorn(f.t.Context(), home, shown, csrFor(f.t, key, id))
	if err != nil {
		return nil, err
	}
	return leafOf(f.t, chain), nil
}

// A unit whose key its line listed enrols without a code: with the key itself,
// or with a new one while it shows the listed one in TLS. The listed key is
// spent by the first handshake, and nobody enrols with it again (CC 1.7).
func TestListedUnitEnrols(t *testing.T) {
	for _, own := range []bool{true, false} {
		f := newFixture(t)
		l := f.line("line-4", 10)
		birth, key := newKey(t), newKey(t)
		list := l.list("w47", map[core.DeviceID]crypto.PublicKey{"A1": birth.Public()})
		if got := l.mustTake(list); got.Fresh != 1 || got.Before {
			t.Errorf("took %+v", got)
		}
		b, err := f.svc.Birth(t.Context(), "A1")
		if err != nil || b.Door != identity.DoorList || b.Station != "line-4" || b.Batch != "w47" || b.Operator != admin.ID || b.Source != core.Hash(sha256.Sum256(list)) || b.CodeBits != 0 {
			t.Errorf("born %+v, %v", b, err)
		}
		shown := []*x509.Certificate{selfSigned(t, birth)}
		if own {
			shown, key = nil, birth
		}
		first, err := f.born(shown, key, "A1")
		if err != nil {
			t.Fatalf("own key %t: %v", own, err)
		}
		again, err := f.born(shown, key, "A1") // the answer was lost
		if err != nil || !again.Equal(first) {
			t.Errorf("own key %t: asked again: %v", own, err)
		}
		f.restart()
		who := f.mustIdentify(first)
		if who.Device != "A1" || who.Subject.IsZero() {
			t.Errorf("it is %+v", who)
		}
		if b, err = f.svc.Birth(t.Context(), "A1"); err != nil || b.KeyOrigin != "device" || b.Key != keyHash(t, key.Public()) || b.Enrolled.IsZero() {
			t.Errorf("after its first handshake: %+v, %v", b, err)
		}
		_, err = f.born([]*x509.Certificate{selfSigned(t, birth)}, newKey(t), "A1")
		wantReason(t, err, "birth-key-spent")
		_, err = f.born(nil, birth, "A1")
		wantReason(t, err, "birth-key-spent")
		if n := len(f.records(identity.RecordFinding)); n != 1 {
			t.Errorf("%d findings of a spent key, want 1 in a minute", n)
		}
		// It renews like any other.
		next, err := f.renew(first, "A1")
		if err != nil {
			t.Fatal(err)
		}
		f.mustIdentify(next)
	}
}

func TestListedUnitRefusals(t *testing.T) {
	f := newFixture(t)
	l := f.line("line-4", 10)
	birth := newKey(t)
	l.mustTake(l.list("w47", map[core.DeviceID]crypto.PublicKey{"A1": birth.Public(), "B2": newKey(t).Public(), "C3": newKey(t).Public()}))
	shown := []*x509.Certificate{selfSigned(t, birth)}
	_, err := f.born(nil, newKey(t), "A1")
	wantReason(t, err, "unknown-birth-key")
	_, err = f.born([]*x509.Certificate{selfSigned(t, newKey(t))}, newKey(t), "A1")
	wantReason(t, err, "unknown-birth-key")
	_, err = f.born(shown, newKey(t), "B2") // its own key, another's name
	wantReason(t, err, "csr-foreign-name")
	_, err = f.svc.EnrolBorn(t.Context(), home, shown, []byte("rubbish"))
	wantReason(t, err, "csr-malformed")
	_, err = f.svc.EnrolBorn(t.Context(), home, nil, make([]byte, identity.MaxCSRBytes+1))
	wantReason(t, err, "csr-size")
	broken := csrFor(t, birth, "A1")
	broken[len(broken)-2] ^= 1
	_, err = f.svc.EnrolBorn(t.Context(), home, nil, broken)
	wantReason(t, err, "csr-signature", "csr-malformed")
	// A revoked unit does not come back, and a new code takes the key's place.
	if _, err := f.svc.Revoke(t.Context(), admin, "A1", identity.Why{Cause: identity.CauseStolen}); err != nil {
		t.Fatal(err)
	}
	_, err = f.born(shown, newKey(t), "A1")
	wantReason(t, err, "revoked")
	code := f.newCode("A1")
	_, err = f.born(shown, newKey(t), "A1")
	wantReason(t, err, "birth-key-spent")
	f.mustIdentify(f.mustEnrol("A1", code))
	if err := f.svc.EndLine(t.Context(), admin, "line-4", identity.CauseCompromised); err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.svc.EndLine(t.Context(), admin, "line-4", identity.CauseCompromised), "line-ended")
	wantReason(t, f.svc.EndLine(t.Context(), admin, "line-9", identity.CauseCompromised), "unknown-line")
	if d, err := f.svc.Device("A1"); err != nil || d.State != identity.StateActive {
		t.Errorf("a unit that enrolled before its line ended: %+v, %v", d, err)
	}
}

// A line that ended brings nobody any more; those that came before stay.
func TestEndedLine(t *testing.T) {
	f := newFixture(t)
	l := f.line("line-4", 10)
	a, b := newKey(t), newKey(t)
	l.mustTake(l.list("w47", map[core.DeviceID]crypto.PublicKey{"A1": a.Public(), "B2": b.Public()}))
	first, err := f.born(nil, a, "A1")
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(first)
	if err := f.svc.EndLine(t.Context(), admin, "line-4", identity.CauseCompromised); err != nil {
		t.Fatal(err)
	}
	_, err = f.born(nil, b, "B2")
	wantReason(t, err, "line-ended")
	f.mustIdentify(first)
	if _, err := f.renew(first, "A1"); err != nil {
		t.Error(err)
	}
	more := l.list("w48", map[core.DeviceID]crypto.PublicKey{"C3": newKey(t).Public()})
	_, err = f.svc.TakeList(t.Context(), admin, more, l.sign(more))
	wantReason(t, err, "line-ended")
	if n := len(f.records(identity.RecordLineEnded)); n != 1 {
		t.Errorf("%d records", n)
	}
}

// Forged, altered, moved and replayed lists register nobody, and say why.
func TestForgedLists(t *testing.T) {
	f := newFixture(t)
	f.terms["other-product"] = f.terms[product]
	l, other := f.line("line-4", 4), f.line("line-5", 4)
	known := f.device("KNOWN")
	used := newKey(t)
	chain, err := f.svc.Enrol(t.Context(), home, "U1", f.mustAdd("U1"), csrFor(t, used, "U1"))
	if err != nil {
		t.Fatal(err)
	}
	f.mustIdentify(leafOf(t, chain))
	good := l.list("w47", map[core.DeviceID]crypto.PublicKey{"A1": newKey(t).Public(), "B2": newKey(t).Public()})
	altered := []byte(strings.Replace(string(good), "A1,", "X1,", 1))
	moved := []byte(strings.Replace(string(good), "line-4", "line-5", 1))
	foreign := []byte(strings.Replace(string(good), "# product: "+string(product), "# product: other-product", 1))
	nowhere := []byte(strings.Replace(string(good), "line-4", "line-9", 1))
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	many := map[core.DeviceID]crypto.PublicKey{}
	for i := range 5 {
		many[core.DeviceID(fmt.Sprintf("M%d", i))] = newKey(t).Public()
	}
	long := l.list("w48", many)
	for name, c := range map[string]struct {
		list, sig []byte
		reason    string
	}{
		"no signature":               {good, nil, "list-signature"},
		"rubbish":                    {good, []byte("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"), "list-signature"},
		"an endless signature":       {good, make([]byte, 1<<20), "list-signature"},
		"a stranger's key":           {good, sign(stranger, identity.ListNamespace, good), "list-signature"},
		"another line's key":         {good, other.sign(good), "list-signature"},
		"signed for something else":  {good, sign(l.key, "file", good), "list-signature"},
		"altered":                    {altered, l.sign(good), "list-signature"},
		"moved to another line":      {moved, l.sign(moved), "list-signature"},
		"of another product":         {foreign, l.sign(foreign), "list-product"},
		"of no line":                 {nowhere, l.sign(nowhere), "unknown-line"},
		"more than the line makes":   {long, l.sign(long), "line-full"},
		"a unit that is registered":  {l.list("x", map[core.DeviceID]crypto.PublicKey{"KNOWN": newKey(t).Public()}), nil, "list-serial-known"},
		"a key that was certified":   {l.list("x", map[core.DeviceID]crypto.PublicKey{"N1": used.Public()}), nil, "list-key-known"},
		"a certificate's key":        {l.list("x", map[core.DeviceID]crypto.PublicKey{"N1": known.PublicKey}), nil, "list-key-known"},
		"no list":                    {[]byte("hello"), nil, "list-form"},
		"an endless list":            {make([]byte, identity.MaxListBytes+1), nil, "list-size"},
		"nothing but a good signing": {nil, l.sign(nil), "list-head"},
	} {
		sig := c.sig
		if sig == nil && !strings.HasPrefix(name, "no ") {
			sig = l.sign(c.list)
		}
		_, err := f.svc.TakeList(t.Context(), admin, c.list, sig)
		if core.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v (%s), want %s", name, err, core.ReasonOf(err), c.reason)
		}
	}
	if n := f.svc.Counts().Devices; n != 2 {
		t.Fatalf("%d units are registered, want the 2 of before", n)
	}
	l.mustTake(good)
	if again := l.mustTake(good); !again.Before || again.Fresh != 0 {
		t.Errorf("taken twice: %+v", again)
	}
	renamed := []byte(strings.Replace(string(good), "list: w47", "list: w49", 1))
	_, err = f.svc.TakeList(t.Context(), admin, renamed, l.sign(renamed))
	wantReason(t, err, "list-key-known")
	changed := l.list("w47", map[core.DeviceID]crypto.PublicKey{"N1": newKey(t).Public()})
	_, err = f.svc.TakeList(t.Context(), admin, changed, l.sign(changed))
	wantReason(t, err, "list-name-used")
	full := l.list("w50", map[core.DeviceID]crypto.PublicKey{"N1": newKey(t).Public(), "N2": newKey(t).Public(), "N3": newKey(t).Public()})
	_, err = f.svc.TakeList(t.Context(), admin, full, l.sign(full))
	wantReason(t, err, "line-full")
	f.advance(366 * day)
	late := l.list("w51", map[core.DeviceID]crypto.PublicKey{"N1": newKey(t).Public()})
	_, err = f.svc.TakeList(t.Context(), admin, late, l.sign(late))
	wantReason(t, err, "line-over")
	if n := len(f.records(identity.RecordListTaken)); n != 1 {
		t.Errorf("%d records of lists, want 1", n)
	}
}

// A crash in the middle of a list leaves what was registered; the list again
// finishes it, each unit once.
func TestListSurvivesCrash(t *testing.T) {
	f := newFixture(t)
	l := f.line("line-4", 2000)
	units := map[core.DeviceID]crypto.PublicKey{}
	for i := range 1200 {
		var key [32]byte
		key[0], key[1] = byte(i), byte(i>>8)
		units[core.DeviceID(fmt.Sprintf("U%04d", i))] = ed25519.PublicKey(key[:])
	}
	list := l.list("w47", units)
	commits := 0
	f.fail = func(string) error {
		if commits++; commits == 3 { // the row of the list, 500 units, and then
			return errors.New("power cut")
		}
		return nil
	}
	if _, err := f.svc.TakeList(t.Context(), admin, list, l.sign(list)); err == nil {
		t.Fatal("it went on")
	}
	f.restart()
	if n := f.svc.Counts().Devices; n != 500 {
		t.Fatalf("%d units after the crash, want 500", n)
	}
	if got := l.mustTake(list); got.Before || got.Fresh != 700 {
		t.Errorf("taken again: %d fresh", got.Fresh)
	}
	if n := f.svc.Counts().Devices; n != 1200 {
		t.Errorf("%d units", n)
	}
	if n := len(f.records(identity.RecordAdded)); n != 1200 {
		t.Errorf("%d registrations in the ledger", n)
	}
}

func TestLineRefusals(t *testing.T) {
	f := newFixture(t)
	public, _, _ := ed25519.GenerateKey(rand.Reader)
	good := identity.Line{Name: "line-4", Product: product, Public: public, Until: f.clock().Add(365 * day), MaxUnits: 10}
	for reason, change := range map[string]func(*identity.Line){
		"factory-name":         func(l *identity.Line) { l.Name = "Ada's line" },
		"factory-until":        func(l *identity.Line) { l.Until = f.clock() },
		"factory-units":        func(l *identity.Line) { l.MaxUnits = 0 },
		"product-id":           func(l *identity.Line) { l.Product = "No" },
		"product-not-declared": func(l *identity.Line) { l.Product = "undeclared" }, // a gate at manufacture (CC 1.7)
	} {
		l := good
		change(&l)
		wantReason(t, f.svc.AddLine(t.Context(), admin, l), reason)
	}
	forever := good
	forever.Until = f.clock().AddDate(10, 0, 0)
	wantReason(t, f.svc.AddLine(t.Context(), admin, forever), "factory-until")
	if err := f.svc.AddLine(t.Context(), admin, good); err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.svc.AddLine(t.Context(), admin, good), "line-exists")
	for name, in := range map[string]string{
		"no key": "", "rubbish": "ssh-ed25519 AAAA", "RSA": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==", "two keys": sshKey(public) + sshKey(public),
		"options": "command=\"x\" " + sshKey(public), "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----\n", "endless": strings.Repeat("x", 1<<20),
	} {
		if _, err := identity.ParseLineKey([]byte(in)); core.ReasonOf(err) != "line-key" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := identity.ParseLineKey([]byte(sshKey(public))); err != nil || !slices.Equal(got, public) {
		t.Errorf("a good key: %v", err)
	}
}

func sshKey(public ed25519.PublicKey) string {
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		return err.Error()
	}
	return string(ssh.MarshalAuthorizedKey(k))
}

// renew gets the next certificate for a good one.
func (f *fixture) renew(c *x509.Certificate, id core.DeviceID) (*x509.Certificate, error) {
	f.t.Helper()
	chain, err := f.svc.Renew(f.t.Context(), c, csrFor(f.t, newKey(f.t), id))
	if err != nil {
		return nil, err
	}
	return leafOf(f.t, chain), nil
}
