package est

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/hawser-iot/hawser/internal/core"
)

func FuzzBody(f *testing.F) {
	f.Add([]byte("MIIBAA=="))
	f.Add([]byte("MIIB\r\nAA=="))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMIIB"))
	f.Add([]byte("MIIBAA"))
	f.Add([]byte{0x30, 0x82, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := string(b)
		der, err := decodeBody(b)
		if err != nil {
			if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.Invalid || e.Reason == "" || der != nil {
				t.Fatalf("refused without a name: %v, %d bytes", err, len(der))
			}
			return
		}
		if len(der) == 0 || len(der) > len(in) || string(b) != in {
			t.Fatalf("%d bytes became %d, or the input was changed", len(in), len(der))
		}
		again, err := decodeBody([]byte(base64.StdEncoding.EncodeToString(der)))
		if err != nil || string(again) != string(der) {
			t.Fatalf("does not read back: %v", err)
		}
	})
}
