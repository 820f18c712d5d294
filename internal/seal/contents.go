package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// secretBytes is the size of every secret of the keyring.
const secretBytes = 32

type secret [secretBytes]byte

// contents is what a keyring holds, as it is written.
type contents struct {
	subjects  map[core.Subject]secret
	epochs    map[core.Epoch]secret
	destroyed map[time.Duration]int64 // keep-time → highest Start of a destroyed epoch, Unix seconds
	control   secret                  // stands for the epoch of what has no keep-time of its own
	last      rotation
}

// rotation is the last one that the keyring went through. It lets an order
// that was carried out but not yet noted get its receipt when it is redone.
type rotation struct {
	before, after uint64    // generations; zero before the first rotation
	order         core.Hash // of the order that asked for it
}

// The entries of a frame. Numbers are the first byte on disk: append only.
const (
	entrySubject   = 1 // 16 pseudonym, 32 secret
	entryEpoch     = 2 // epoch, 32 secret
	entryDestroyed = 3 // 8 keep-time in seconds, 8 start
	entryControl   = 4 // 32 secret
	entryRotation  = 5 // 8 before, 8 after, 32 order
)

const epochBytes = 24

func newContents() *contents {
	return &contents{
		subjects:  map[core.Subject]secret{},
		epochs:    map[core.Epoch]secret{},
		destroyed: map[time.Duration]int64{},
	}
}

func (c *contents) encode() []byte {
	size := len(c.subjects)*(1+16+secretBytes) + len(c.epochs)*(1+epochBytes+secretBytes) + len(c.destroyed)*17 + 128
	b := make([]byte, 0, size)
	b = append(append(b, entryControl), c.control[:]...)
	b = append(b, entryRotation)
	b = binary.BigEndian.AppendUint64(b, c.last.before)
	b = binary.BigEndian.AppendUint64(b, c.last.after)
	b = append(b, c.last.order[:]...)
	for keep, start := range c.destroyed {
		b = appendDestroyed(b, keep, start)
	}
	for e, s := range c.epochs {
		b = appendEpochEntry(b, e, s)
	}
	for id, s := range c.subjects {
		b = appendSubjectEntry(b, id, s)
	}
	return b
}

func appendSubjectEntry(b []byte, id core.Subject, s secret) []byte {
	return append(append(append(b, entrySubject), id[:]...), s[:]...)
}

func appendEpochEntry(b []byte, e core.Epoch, s secret) []byte {
	b = append(b, entryEpoch)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Keep/time.Second))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Start))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Length/time.Second))
	return append(b, s[:]...)
}

func appendDestroyed(b []byte, keep time.Duration, start int64) []byte {
	b = append(b, entryDestroyed)
	b = binary.BigEndian.AppendUint64(b, uint64(keep/time.Second))
	return binary.BigEndian.AppendUint64(b, uint64(start))
}

// apply reads the entries of one frame into c. A name that stands there
// already is damage: the keyring never makes a key twice.
func (c *contents) apply(b []byte) error {
	for len(b) > 0 {
		kind, body := b[0], b[1:]
		size, ok := entrySize(kind)
		if !ok {
			return fmt.Errorf("entry of kind %d is not known to this version", kind)
		}
		if len(body) < size {
			return errors.New("entry is cut short")
		}
		if err := c.applyEntry(kind, body[:size]); err != nil {
			return err
		}
		b = body[size:]
	}
	return nil
}

func entrySize(kind byte) (int, bool) {
	switch kind {
	case entrySubject:
		return 16 + secretBytes, true
	case entryEpoch:
		return epochBytes + secretBytes, true
	case entryDestroyed:
		return 16, true
	case entryControl:
		return secretBytes, true
	case entryRotation:
		return 16 + len(core.Hash{}), true
	}
	return 0, false
}

func (c *contents) applyEntry(kind byte, b []byte) error {
	switch kind {
	case entrySubject:
		id := core.Subject(b[:16])
		if _, twice := c.subjects[id]; twice || id.IsZero() {
			return errors.New("a subject stands twice, or is nobody")
		}
		c.subjects[id] = secret(b[16:])
	case entryEpoch:
		e, err := decodeEpoch(b)
		if err != nil {
			return err
		}
		if _, twice := c.epochs[e]; twice {
			return fmt.Errorf("epoch %s stands twice", e)
		}
		c.epochs[e] = secret(b[epochBytes:])
	case entryDestroyed:
		keep, err := decodeSeconds(b)
		if err != nil {
			return err
		}
		start := int64(binary.BigEndian.Uint64(b[8:]))
		if old, ok := c.destroyed[keep]; !ok || start > old {
			c.destroyed[keep] = start
		}
	case entryControl:
		c.control = secret(b)
	case entryRotation:
		c.last.before, c.last.after = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		c.last.order = core.Hash(b[16:])
	}
	return nil
}

func decodeEpoch(b []byte) (core.Epoch, error) {
	keep, err := decodeSeconds(b)
	if err != nil {
		return core.Epoch{}, err
	}
	length, err := decodeSeconds(b[16:])
	if err != nil {
		return core.Epoch{}, err
	}
	e := core.Epoch{Keep: keep, Start: int64(binary.BigEndian.Uint64(b[8:])), Length: length}
	return e, checkEpoch(e)
}

// maxSpan bounds keep-times and lengths (200 years), maxStart the starts of
// epochs (some 34,000 years): what lies outside is damage, not time.
const (
	maxSpan  = 200 * 366 * 24 * time.Hour
	maxStart = 1 << 40
)

func decodeSeconds(b []byte) (time.Duration, error) {
	n := binary.BigEndian.Uint64(b)
	if n == 0 || n > uint64(maxSpan/time.Second) {
		return 0, fmt.Errorf("span of %d seconds is impossible", n)
	}
	return time.Duration(n) * time.Second, nil
}

func checkEpoch(e core.Epoch) error {
	l := int64(e.Length / time.Second)
	if e.Keep <= 0 || e.Keep > maxSpan || e.Keep%time.Second != 0 ||
		l <= 0 || e.Length > e.Keep || e.Length%time.Second != 0 ||
		e.Start < -maxStart || e.Start > maxStart || e.Start%l != 0 {
		return core.E(core.Invalid, "bad-epoch", fmt.Sprintf("no epoch starts at %d with length %s and keep-time %s", e.Start, e.Length, e.Keep),
			"make epochs with core.EpochAt")
	}
	return nil
}
