package identity_test

import (
	"testing"

	"github.com/hawser-iot/hawser/internal/identity"
)

// FuzzTokenList: a list of tokens may be anything; what is read of it is bounded
// and names devices that may exist.
func FuzzTokenList(f *testing.F) {
	for _, s := range []string{"serial\nL1\nL2\n", "L1,abcdefghijklmnopqrstuvwxyz\n", "serial,token\nL1,\n", "L1\nL1\n", "", "\xff\n", "a,b,c\n", "\"L1\",\"x\"\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := identity.ParseTokenList(b)
		if err != nil {
			return
		}
		if len(list) == 0 || len(list) > identity.MaxLegacyList {
			t.Errorf("%d devices", len(list))
		}
		for _, x := range list {
			if !x.Device.Valid() {
				t.Errorf("%q", x.Device)
			}
		}
	})
}

// FuzzLegacyCerts: a file of certificates may be anything.
func FuzzLegacyCerts(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := identity.ParseLegacyCerts(b)
		if err == nil && (len(all) == 0 || len(all) > identity.MaxLegacyLeaves) {
			t.Errorf("%d certificates", len(all))
		}
	})
}
