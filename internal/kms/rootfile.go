package kms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/hawser-iot/hawser/internal/core"
)

// A root on disk:
//
//	magic(8) version(1) mode(1) generation(8) body sha256(32)
//
// with the body of mode plain: root(32), and of mode passphrase:
//
//	passes(4) memoryKiB(4) lanes(1) salt(16) nonce(12) ciphertext(32) tag(16)
//
// where everything before the nonce is associated data. sha256 covers all
// before it, so that a half-overwritten root is known for one.
const (
	rootMagic   = "HAWSERRT"
	rootVersion = 1

	modePlain      = 0
	modePassphrase = 1

	rootBytes   = 32
	saltBytes   = 16
	nonceBytes  = 12
	tagBytes    = 16
	headBytes   = len(rootMagic) + 1 + 1 + 8
	plainBytes  = headBytes + rootBytes + sha256.Size
	costBytes   = 4 + 4 + 1
	sealedBytes = headBytes + costBytes + saltBytes + nonceBytes + rootBytes + tagBytes + sha256.Size
)

// cost is what one guess at a passphrase costs (RFC 9106 §4: the second
// recommended option, 64 MiB and three passes).
type cost struct {
	passes, memoryKiB uint32
	lanes             uint8
}

const (
	maxPasses    = 64
	maxMemoryKiB = 1 << 21 // 2 GiB: a damaged or hostile file must not exhaust memory
)

func defaultCost() cost { return cost{passes: 3, memoryKiB: 64 << 10, lanes: 4} }

func (c cost) check() error {
	if c.passes == 0 || c.passes > maxPasses || c.lanes == 0 || c.memoryKiB < 8*uint32(c.lanes) || c.memoryKiB > maxMemoryKiB {
		return errors.New("impossible passphrase parameters")
	}
	return nil
}

// wrapKey is a key made of a passphrase.
type wrapKey struct {
	cost cost
	salt [saltBytes]byte
	key  [32]byte
}

func newWrapKey(passphrase []byte, c cost, salt [saltBytes]byte) *wrapKey {
	w := &wrapKey{cost: c, salt: salt}
	copy(w.key[:], argon2.IDKey(passphrase, salt[:], c.passes, c.memoryKiB, c.lanes, 32))
	return w
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func rootHead(gen uint64, mode byte) []byte {
	b := append(make([]byte, 0, sealedBytes), rootMagic...)
	b = append(b, rootVersion, mode)
	return binary.BigEndian.AppendUint64(b, gen)
}

func encodePlain(gen uint64, root []byte) []byte {
	return closeFile(append(rootHead(gen, modePlain), root...))
}

func encodeWrapped(gen uint64, root []byte, w *wrapKey) ([]byte, error) {
	b := rootHead(gen, modePassphrase)
	b = binary.BigEndian.AppendUint32(b, w.cost.passes)
	b = binary.BigEndian.AppendUint32(b, w.cost.memoryKiB)
	b = append(b, w.cost.lanes)
	b = append(b, w.salt[:]...)
	aead, err := gcm(w.key[:])
	if err != nil {
		return nil, err
	}
	var nonce [nonceBytes]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	aad := bytes.Clone(b)
	b = append(b, nonce[:]...)
	return closeFile(aead.Seal(b, nonce[:], root, aad)), nil
}

func closeFile(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// rootFile is a root as it was read.
type rootFile struct {
	gen    uint64
	mode   byte
	cost   cost
	salt   [saltBytes]byte
	aad    []byte
	nonce  []byte
	cipher []byte
	root   []byte // plain mode only
}

// parseRoot reads one root file. It accepts exactly what the encoders write.
func parseRoot(b []byte) (*rootFile, error) {
	if len(b) != plainBytes && len(b) != sealedBytes {
		return nil, errors.New("file of another size than a root's")
	}
	n := len(b) - sha256.Size
	if sum := sha256.Sum256(b[:n]); !bytes.Equal(sum[:], b[n:]) {
		return nil, errors.New("file is damaged, or was overwritten")
	}
	if string(b[:len(rootMagic)]) != rootMagic || b[len(rootMagic)] != rootVersion {
		return nil, errors.New("not a root of a version that this program knows")
	}
	f := &rootFile{mode: b[len(rootMagic)+1], gen: binary.BigEndian.Uint64(b[len(rootMagic)+2:])}
	body := b[headBytes:n]
	switch {
	case f.mode == modePlain && len(b) == plainBytes:
		f.root = body
	case f.mode == modePassphrase && len(b) == sealedBytes:
		f.cost = cost{passes: binary.BigEndian.Uint32(body), memoryKiB: binary.BigEndian.Uint32(body[4:]), lanes: body[8]}
		if err := f.cost.check(); err != nil {
			return nil, err
		}
		copy(f.salt[:], body[costBytes:])
		at := headBytes + costBytes + saltBytes
		f.aad, f.nonce, f.cipher = b[:at], b[at:at+nonceBytes], b[at+nonceBytes:n]
	default:
		return nil, errors.New("root of an unknown mode")
	}
	return f, nil
}

// open gives the root itself.
func (f *rootFile) open(w *wrapKey) ([]byte, error) {
	if f.mode == modePlain {
		return bytes.Clone(f.root), nil
	}
	aead, err := gcm(w.key[:])
	if err != nil {
		return nil, err
	}
	root, err := aead.Open(nil, f.nonce, f.cipher, f.aad)
	if err != nil {
		return nil, core.E(core.Denied, "passphrase-wrong", fmt.Sprintf("the passphrase does not open root generation %d", f.gen), "give the passphrase that this root was made with")
	}
	return root, nil
}
