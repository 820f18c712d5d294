package core

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"time"
)

// Environment is where an installation belongs. It is fixed when the data
// folder is made; an identity of one environment is refused by the other.
type Environment string

// The two environments (mission row 3.11).
const (
	Test Environment = "test"
	Live Environment = "live"
)

// Valid reports whether e is one of the two environments.
func (e Environment) Valid() bool { return e == Test || e == Live }

// ProductID names a product: what a declaration calls `product`.
// Lower-case letters, digits and hyphens, 1 to 63 characters, a letter first.
type ProductID string

// DeviceID names one unit by its serial number: 1 to 64 characters out of
// letters, digits, '.', '_' and '-', a letter or digit first. It is unique
// within an installation, whatever the product.
type DeviceID string

// Valid reports whether p has the form of a product id.
func (p ProductID) Valid() bool {
	if len(p) == 0 || len(p) > 63 || p[0] < 'a' || p[0] > 'z' {
		return false
	}
	for i := range len(p) {
		c := p[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Valid reports whether d has the form of a device id.
func (d DeviceID) Valid() bool {
	if len(d) == 0 || len(d) > 64 || d[0] == '.' || d[0] == '_' || d[0] == '-' {
		return false
	}
	for i := range len(d) {
		c := d[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// Subject is the pseudonym of whom data is about: a device under one owner,
// or a person. It is 16 random bytes and says nothing by itself. The zero
// Subject means "nobody".
type Subject [16]byte

var subjectText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String is the subject's text form: 26 lower-case base32 characters.
func (s Subject) String() string { return subjectText.EncodeToString(s[:]) }

// IsZero reports whether s names nobody.
func (s Subject) IsZero() bool { return s == Subject{} }

// ParseSubject reads the text form of a subject.
func ParseSubject(text string) (Subject, error) {
	var s Subject
	b, err := subjectText.DecodeString(text)
	if err != nil || len(b) != len(s) {
		return s, fmt.Errorf("subject %q is not 26 base32 characters", text)
	}
	copy(s[:], b)
	return s, nil
}

// Hash is a SHA-256 digest.
type Hash [sha256.Size]byte

// String is the digest in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h was never set.
func (h Hash) IsZero() bool { return h == Hash{} }

// ParseHash reads a digest in hexadecimal.
func ParseHash(text string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("digest %q is not 64 hexadecimal characters", text)
	}
	copy(h[:], b)
	return h, nil
}

// Epoch is one span of time of one keep-time: the unit in which readings are
// kept, sealed and destroyed. A reading with keep-time Keep whose time lies in
// [Start, Start+Length) belongs to it.
type Epoch struct {
	Keep   time.Duration // the keep-time that its readings were declared with
	Start  int64         // Unix seconds, a multiple of Length
	Length time.Duration // a function of Keep; see declaration.EpochLength
}

// Due is when the oldest possible reading of the epoch reaches its keep-time;
// the whole epoch dies then (design, section 5, Time). No reading is kept
// longer than declared; some are kept up to one Length shorter.
func (e Epoch) Due() time.Time { return time.Unix(e.Start, 0).UTC().Add(e.Keep) }

// End is the first instant after the epoch.
func (e Epoch) End() time.Time { return time.Unix(e.Start, 0).UTC().Add(e.Length) }

// Class is the name of the epoch's keep-class, as used in paths and ledger
// entries: the keep-time in whole seconds, "k2592000".
func (e Epoch) Class() string { return fmt.Sprintf("k%d", int64(e.Keep/time.Second)) }

// String is the epoch's name: class and start, "k2592000/20261122T000000Z".
// It is unique, sorts by time within a class, and is safe as a path.
func (e Epoch) String() string {
	return e.Class() + "/" + time.Unix(e.Start, 0).UTC().Format("20060102T150405Z")
}

// EpochAt is the epoch of length l that a reading of time t with keep-time
// keep belongs to.
func EpochAt(keep, l time.Duration, t time.Time) Epoch {
	sec := int64(l / time.Second)
	start := t.Unix()
	start -= ((start % sec) + sec) % sec
	return Epoch{Keep: keep, Start: start, Length: l}
}
