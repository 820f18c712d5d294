package readers

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// position is a place in a reader's stream of one product: how far into each
// epoch file, and into the events. A reader gets it sealed: what is in it would
// tell apart what came from a device and what did not.
type position struct {
	made  time.Time // to the microsecond; zero: the beginning
	event uint64    // last event
	rows  map[core.Epoch]uint64
}

// Bounds of a cursor.
const (
	maxCursorText   = 12 << 10 // it stands in the head of a request
	maxCursorEpochs = 512
	cursorVersion   = 1
)

var errCursor error = core.E(core.Invalid, "cursor", "this is no cursor of this stream",
	"ask on with the last cursor that you were given for this product, or without one to begin anew")

func (p *position) clone() position {
	q := *p
	q.rows = maps.Clone(p.rows)
	if q.rows == nil {
		q.rows = map[core.Epoch]uint64{}
	}
	return q
}

func (p *position) encode() []byte {
	b := []byte{cursorVersion}
	b = binary.AppendVarint(b, unixMicro(p.made))
	b = binary.AppendUvarint(b, p.event)
	epochs := slices.SortedFunc(maps.Keys(p.rows), compareEpochs)
	b = binary.AppendUvarint(b, uint64(len(epochs)))
	for _, e := range epochs {
		b = binary.AppendUvarint(b, uint64(e.Keep/time.Second))
		b = binary.AppendUvarint(b, uint64(e.Length/time.Second))
		b = binary.AppendVarint(b, e.Start)
		b = binary.AppendUvarint(b, p.rows[e])
	}
	return b
}

// maxSeconds is more than any keep-time, and small enough for a Duration.
const maxSeconds = 1 << 32

// decodePosition is the inverse of encode.
func decodePosition(b []byte) (position, error) {
	p := position{rows: map[core.Epoch]uint64{}}
	if len(b) == 0 || b[0] != cursorVersion {
		return p, errCursor
	}
	b = b[1:]
	bad := false
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	varint := func() int64 {
		v, n := binary.Varint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	if at := varint(); at != 0 {
		p.made = time.UnixMicro(at).UTC()
	}
	p.event = uvarint()
	n := uvarint()
	if bad || n > maxCursorEpochs {
		return p, errCursor
	}
	for range n {
		keep, length, start, row := uvarint(), uvarint(), varint(), uvarint()
		if bad || keep > maxSeconds || length == 0 || length > maxSeconds || row > 1<<62 {
			return p, errCursor
		}
		p.rows[core.Epoch{Keep: time.Duration(keep) * time.Second, Start: start, Length: time.Duration(length) * time.Second}] = row
	}
	if len(b) != 0 || uint64(len(p.rows)) != n {
		return p, errCursor
	}
	return p, nil
}

func unixMicro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func compareEpochs(a, b core.Epoch) int {
	switch {
	case a.Start != b.Start:
		return int(max(min(a.Start-b.Start, 1), -1))
	case a.Keep != b.Keep:
		return int(max(min(a.Keep-b.Keep, 1), -1))
	}
	return 0
}

func cursorAEAD(key [32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal makes a cursor of one reader's stream of one product.
func (p *position) seal(key [32]byte, product core.ProductID) (string, error) {
	aead, err := cursorAEAD(key)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, p.encode(), []byte(product)))
	if len(text) > maxCursorText {
		return "", errors.New("the cursor is too long: there are too many epochs")
	}
	return text, nil
}

// openCursor is the inverse of seal.
func openCursor(key [32]byte, product core.ProductID, text string) (position, error) {
	if len(text) > maxCursorText {
		return position{}, errCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return position{}, errCursor
	}
	aead, err := cursorAEAD(key)
	if err != nil {
		return position{}, err
	}
	plain, err := aead.Open(nil, nil, b, []byte(product))
	if err != nil {
		return position{}, errCursor
	}
	return decodePosition(plain)
}

// newKey is a key for a reader's cursors.
func newKey() (k [32]byte) {
	_, _ = rand.Read(k[:]) // crypto/rand.Read never fails
	return k
}
