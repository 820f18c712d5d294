package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"

	"github.com/hawser-iot/hawser/internal/core"
)

// weakKeys knows P-256 keys whose private half anybody knows or guesses first:
// the test keys of standards, which find their way into firmware, keys that a
// broken random generator yields, and keys made from the serial number. A key
// and its negative have the same x, so each entry covers both.
type weakKeys struct {
	x map[[32]byte]struct{}
}

// publishedKeys are private keys printed in standards.
func publishedKeys() []string {
	return []string{
		"e6cb5bdd80aa45ae9c95e8c15476679ffec953c16851e711e743939589c64fc1", // RFC 9500 §2.3
		"c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721", // RFC 6979 §A.2.5
		"8e9b109e719098bf980487df1f5d77e9cb29606ebed2263b5f57c213df84f4b2", // RFC 7515 §A.3.1
		"f3bd0c07a81fb932781ed52752f60cc89a6be5e51934fe01938ddb55d8f77801", // RFC 7517 §A.2
		"519b423d715f8b581f4fa8ee59f4771a5b44c8130b4e3eacca54a56dda72b464", // NIST CAVP, ECDSA SigGen P-256/SHA-256
	}
}

// weakSmall is how many small multiples of the generator are known.
const weakSmall = 256

func newWeakKeys() (*weakKeys, error) {
	w := &weakKeys{x: make(map[[32]byte]struct{}, 600)}
	for _, text := range publishedKeys() {
		d, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("known key %q: %w", text, err)
		}
		w.add(d)
	}
	for i := 1; i <= weakSmall; i++ { // a generator that yields zeros and a counter
		w.add(big.NewInt(int64(i)).FillBytes(make([]byte, 32)))
	}
	for b := 1; b < 256; b++ { // a generator that yields one byte for ever
		var d [32]byte
		for i := range d {
			d[i] = byte(b)
		}
		w.add(d[:])
	}
	return w, nil
}

func (w *weakKeys) add(d []byte) {
	if x, ok := publicX(d); ok {
		w.x[x] = struct{}{}
	}
}

// publicX is the x coordinate of the public key of private key d; false when d
// is no private key.
func publicX(d []byte) ([32]byte, bool) {
	var x [32]byte
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		return x, false
	}
	b, err := k.PublicKey.Bytes() // 0x04 ‖ x ‖ y
	if err != nil {
		return x, false
	}
	copy(x[:], b[1:33])
	return x, true
}

// has reports whether the private half of k is known, or made from the serial
// number of the device that shows it.
func (w *weakKeys) has(k *ecdsa.PublicKey, device core.DeviceID) bool {
	b, err := k.Bytes()
	if err != nil {
		return true
	}
	x := [32]byte(b[1:33])
	if _, ok := w.x[x]; ok {
		return true
	}
	hashed := sha256.Sum256([]byte(device))
	var padded [32]byte
	copy(padded[:], device)
	var right [32]byte
	if len(device) <= 32 {
		copy(right[32-len(device):], device)
	}
	for _, d := range [][32]byte{hashed, padded, right} {
		if y, ok := publicX(d[:]); ok && y == x {
			return true
		}
	}
	return false
}
