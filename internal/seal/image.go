package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A keyring copy on disk:
//
//	file   = header frame*
//	header = magic(8) version(1) generation(8) length(2) wrapped(length) sha256(32)
//	frame  = length(4) nonce(12) ciphertext tag(16)
//
// wrapped is the keyring key under the root of that generation; sha256 covers
// the header before it and tells damage from a foreign file. The first frame
// is the snapshot, every further one an addition. Each frame is sealed with
// the header's digest, its own number and the tag of the frame before as
// associated data, so frames cannot be moved, dropped or mixed between files.
// All copies of one generation hold the same bytes, one possibly fewer frames.
const (
	imageMagic   = "HAWSERKR"
	imageVersion = 1

	headFixed   = len(imageMagic) + 1 + 8 + 2
	maxWrapped  = 4096
	maxHeader   = headFixed + maxWrapped + sha256.Size
	nonceBytes  = 12
	tagBytes    = 16
	frameExtra  = 4 + nonceBytes + tagBytes // what a frame adds to its entries
	maxCopySize = 1 << 30                   // bytes; some twenty million subjects
)

// header is the clear front of a copy.
type header struct {
	gen     uint64
	wrapped []byte
	raw     []byte // the header's bytes, digest included
}

func makeHeader(gen uint64, wrapped []byte) (header, error) {
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return header{}, fmt.Errorf("wrapped keyring key has %d bytes, not 1 to %d", len(wrapped), maxWrapped)
	}
	b := append(make([]byte, 0, headFixed+len(wrapped)+sha256.Size), imageMagic...)
	b = append(b, imageVersion)
	b = binary.BigEndian.AppendUint64(b, gen)
	b = binary.BigEndian.AppendUint16(b, uint16(len(wrapped)))
	b = append(b, wrapped...)
	sum := sha256.Sum256(b)
	return header{gen: gen, wrapped: wrapped, raw: append(b, sum[:]...)}, nil
}

func parseHeader(b []byte) (header, error) {
	if len(b) < headFixed || string(b[:len(imageMagic)]) != imageMagic {
		return header{}, errors.New("not a keyring")
	}
	if v := b[len(imageMagic)]; v != imageVersion {
		return header{}, fmt.Errorf("keyring of version %d is not known to this program", v)
	}
	n := int(binary.BigEndian.Uint16(b[headFixed-2:]))
	size := headFixed + n + sha256.Size
	if n == 0 || n > maxWrapped || len(b) < size {
		return header{}, errors.New("header is damaged")
	}
	if sum := sha256.Sum256(b[:headFixed+n]); !bytes.Equal(sum[:], b[headFixed+n:size]) {
		return header{}, errors.New("header is damaged")
	}
	h := header{gen: binary.BigEndian.Uint64(b[len(imageMagic)+1:]), wrapped: b[headFixed : headFixed+n], raw: b[:size:size]}
	if h.gen == 0 || h.gen > math.MaxInt64 {
		return header{}, errors.New("header names an impossible generation")
	}
	return h, nil
}

// chain seals and opens the frames of one file in their order.
type chain struct {
	aead cipher.AEAD
	aad  []byte // constant text, header digest, frame number, tag of the frame before
	n    uint64
	last [tagBytes]byte
}

const chainDomain = "hawser/keyring/1"

func newChain(key []byte, h header) (*chain, error) {
	if len(key) != secretBytes {
		return nil, fmt.Errorf("keyring key has %d bytes, not %d", len(key), secretBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("keyring key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("keyring key: %w", err)
	}
	sum := sha256.Sum256(h.raw)
	return &chain{aead: aead, aad: append([]byte(chainDomain), sum[:]...)}, nil
}

func (c *chain) associated() []byte {
	b := binary.BigEndian.AppendUint64(c.aad[:len(c.aad):len(c.aad)], c.n)
	return append(b, c.last[:]...)
}

// seal makes the next frame. The chain moves on only when the caller says so
// by took, once the frame is on disk.
func (c *chain) seal(entries []byte) ([]byte, error) {
	if len(entries)+frameExtra > maxCopySize {
		return nil, fmt.Errorf("frame of %d bytes is too large", len(entries))
	}
	b := make([]byte, 4+nonceBytes, frameExtra+len(entries))
	binary.BigEndian.PutUint32(b, uint32(nonceBytes+len(entries)+tagBytes))
	if _, err := rand.Read(b[4:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return c.aead.Seal(b, b[4:], entries, c.associated()), nil
}

func (c *chain) took(frame []byte) {
	c.n++
	copy(c.last[:], frame[len(frame)-tagBytes:])
}

// open reads the frame at the front of b and moves on: its entries and size.
func (c *chain) open(b []byte) (entries []byte, size int, err error) {
	size, ok := frameSize(b)
	if !ok || size > len(b) {
		return nil, 0, errors.New("frame is cut short")
	}
	entries, err = c.aead.Open(nil, b[4:4+nonceBytes], b[4+nonceBytes:size], c.associated())
	if err != nil {
		return nil, 0, errors.New("frame does not authenticate")
	}
	c.took(b[:size])
	return entries, size, nil
}

// frameSize is the whole size that the frame at the front of b claims.
func frameSize(b []byte) (int, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n := int(binary.BigEndian.Uint32(b))
	return 4 + n, n >= nonceBytes+tagBytes && n <= maxCopySize
}

// tail says how a copy ends.
type tail uint8

const (
	tailWhole   tail = iota // after a complete frame
	tailTorn                // in a frame whose writing was interrupted
	tailDamaged             // in something that no interruption explains
)

// image is a copy as it was read.
type image struct {
	raw      []byte
	head     header
	contents *contents
	chain    *chain
	end      int // of the last good frame
	tail     tail
}

// readImage opens what can be opened of raw, under the keyring key. An error
// means that not even the snapshot is good.
func readImage(raw []byte, h header, key []byte) (*image, error) {
	ch, err := newChain(key, h)
	if err != nil {
		return nil, err
	}
	im := &image{raw: raw, head: h, contents: newContents(), chain: ch, end: len(h.raw)}
	for im.end < len(raw) {
		rest := raw[im.end:]
		entries, size, err := ch.open(rest)
		if err != nil {
			if ch.n == 0 {
				return nil, fmt.Errorf("snapshot: %w", err)
			}
			im.tail = judgeTail(rest)
			return im, nil
		}
		err = im.contents.apply(entries)
		clear(entries)
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", ch.n-1, err)
		}
		im.end += size
	}
	if ch.n == 0 {
		return nil, errors.New("snapshot: frame is cut short")
	}
	return im, nil
}

// judgeTail tells an interrupted append from damage. An append is one write of
// one frame: interrupted, it left the front of that frame, the whole length
// with some blocks unwritten, or nothing but zeros.
func judgeTail(rest []byte) tail {
	size, ok := frameSize(rest)
	switch {
	case len(rest) < 4, ok && size >= len(rest), len(bytes.Trim(rest, "\x00")) == 0:
		return tailTorn
	}
	return tailDamaged
}
