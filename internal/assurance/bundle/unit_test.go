package bundle

import (
	"os"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// TestUnitStatement: each thing that keeps a statement from being true is
// named.
func TestUnitStatement(t *testing.T) {
	good := func() UnitStatement {
		return UnitStatement{
			Serial: "A1", Product: "thermostat", Code: UnitCode{Bits: 120, Compared: 2},
			Keys: []UnitKey{{SHA256: core.Hash{1}.String(), Certified: time.Unix(1, 0), Units: 1}},
		}
	}
	s := good()
	if why := s.Wrong(); len(why) > 0 {
		t.Fatal(why)
	}
	for name, edit := range map[string]func(*UnitStatement){
		"no serial":            func(s *UnitStatement) { s.Serial = "" },
		"no product":           func(s *UnitStatement) { s.Product = "" },
		"a weak code":          func(s *UnitStatement) { s.Code.Bits = 63 },
		"a shared code":        func(s *UnitStatement) { s.Code.Same = 1 },
		"compared with nobody": func(s *UnitStatement) { s.Code.Compared = 0 },
		"a shared key":         func(s *UnitStatement) { s.Keys[0].Units = 2 },
		"an unknown key":       func(s *UnitStatement) { s.Keys[0].Units = 0 },
		"no key":               func(s *UnitStatement) { s.Keys[0].SHA256 = "key" },
	} {
		s := good()
		edit(&s)
		if len(s.Wrong()) != 1 {
			t.Errorf("%s: %q", name, s.Wrong())
		}
	}
}

// FuzzVerifyUnit: whatever the file is, it is refuted or no certificate; here
// is no ledger that could have signed one.
func FuzzVerifyUnit(f *testing.F) {
	for _, seed := range []string{"{}", `{"unit_certificate": 1}`} {
		f.Add([]byte(seed))
	}
	b, err := os.ReadFile("testdata/unit.json") // of an installation that is gone
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := VerifyUnit(b, UnitTrust{LogKeys: []string{"hawser/x+00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}})
		if err == nil && r.Standing != Refuted {
			t.Errorf("%s: %+v", b, r)
		}
	})
}

// TestUnitCertificateOfBefore: certificates that were given verify for ever.
func TestUnitCertificateOfBefore(t *testing.T) {
	b, err := os.ReadFile("testdata/unit.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := VerifyUnit(b, UnitTrust{})
	if err != nil || r.Standing != SelfConsistent || len(r.Faults) > 0 || r.Statement.Serial != "A1" {
		t.Errorf("%+v, %v", r, err)
	}
}
