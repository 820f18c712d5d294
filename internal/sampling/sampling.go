// Package sampling draws random samples with an assessor's nonce, so that
// neither side can steer what is looked at: the population is in the ledger
// before the nonce is known, and whoever has both draws the same. The assessor
// takes down the digest of the sampling before the nonce is told; without that
// a maker who hears the nonce could begin another and show only that one.
package sampling

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// The kinds of records of a sampling.
const (
	// RecordBegun holds the population before the nonce is known. Its facts:
	// sample, of, from, until, seed, size, population, digest.
	RecordBegun core.RecordKind = "sample-begun"
	// RecordDrawn follows. Its facts: sample, nonce, digest.
	RecordDrawn core.RecordKind = "sample-drawn"
)

// Bounds of a sampling.
const (
	MinNonceBytes = 16
	MaxNonceBytes = 64
	MaxSize       = 1000
	MaxPopulation = 1_000_000
	seedBytes     = 32
	idBytes       = 80
)

// Devices is what is sampled when units are; records of a kind are sampled as
// "records/KIND".
const Devices = "devices"

// RecordsOf names the records of a kind as what is sampled.
func RecordsOf(kind core.RecordKind) string { return "records/" + string(kind) }

// KindOf is the kind of record that is sampled; false when units are.
func KindOf(of string) (core.RecordKind, bool) {
	kind, ok := strings.CutPrefix(of, "records/")
	return core.RecordKind(kind), ok
}

var validOf = regexp.MustCompile(`^(devices|records/[a-z][a-z0-9-]{0,62})$`)

// Sampling is one drawing of random samples.
type Sampling struct {
	ID    string     `json:"sample"`
	Of    string     `json:"of"`             // Devices, or RecordsOf a kind
	From  time.Time  `json:"from,omitzero"`  // of records: the period that they are of
	Until time.Time  `json:"until,omitzero"` // the first moment after it
	Begun time.Time  `json:"begun"`
	By    core.Actor `json:"by"` // who asked
	// Seed is the maker's side. It is chosen with the population, and turns
	// devices into names that lead nowhere without it (Unit).
	Seed       Hex      `json:"seed"`
	Size       int      `json:"size"`
	Total      int      `json:"total"`                // how many there are to draw from
	Population []string `json:"population,omitempty"` // sorted, each once; lists leave it out

	Taken    time.Time  `json:"taken,omitzero"` // zero: the nonce is not known yet
	Assessor core.Actor `json:"assessor,omitzero"`
	Nonce    Hex        `json:"nonce,omitempty"`
	Drawn    []string   `json:"drawn,omitempty"` // sorted
}

// Sample draws n of a sorted population: those whose HMAC-SHA-256 under the
// nonce over the seed's length, the seed and the id is smallest. Whoever has
// seed and nonce draws the same.
func Sample(seed, nonce []byte, population []string, n int) []string {
	type ticket struct {
		sum [sha256.Size]byte
		id  string
	}
	all := make([]ticket, len(population))
	h := hmac.New(sha256.New, nonce)
	for i, id := range population {
		h.Reset()
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(seed))))
		h.Write(seed)
		h.Write([]byte(id))
		all[i].id = id
		h.Sum(all[i].sum[:0])
	}
	slices.SortFunc(all, func(a, b ticket) int { return slices.Compare(a.sum[:], b.sum[:]) })
	n = max(0, min(n, len(all)))
	out := make([]string, 0, n)
	for _, t := range all[:n] {
		out = append(out, t.id)
	}
	slices.Sort(out)
	return out
}

// Unit is how a device stands in a population: under a name of this sampling
// alone, which means nothing to who does not have the subject.
func Unit(seed []byte, s core.Subject) string {
	sum := sha256.Sum256(slices.Concat([]byte("hawser sampled unit v1\x00"), seed, s[:]))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// digest is what the ledger holds of a list of ids.
func digest(of string, ids []string) core.Hash {
	return sha256.Sum256([]byte("hawser sample v1\x00" + of + "\x00" + strings.Join(ids, "\n")))
}

// Digest is of everything that was settled when the sampling was begun: what is
// drawn follows from it and the nonce alone.
func (s *Sampling) Digest() core.Hash {
	return digest(strings.Join([]string{
		s.ID, s.Of, timeText(s.From), timeText(s.Until), timeText(s.Begun), hex.EncodeToString(s.Seed), strconv.Itoa(s.Size), strconv.Itoa(s.Total),
	}, "\n"), s.Population)
}

// IsDrawn reports whether the nonce is known.
func (s *Sampling) IsDrawn() bool { return !s.Taken.IsZero() }

// Check says what is wrong with a sampling, if anything: who and when, bounds,
// and that what was drawn is what seed and nonce give.
func (s *Sampling) Check() error {
	if err := s.checkBegun(); err != nil {
		return err
	}
	if !s.IsDrawn() {
		if s.Nonce != nil || s.Drawn != nil || s.Assessor != (core.Actor{}) {
			return errors.New("it is not drawn, and has a nonce")
		}
		return nil
	}
	switch {
	case s.Assessor.ID == "" || s.Taken.Before(s.Begun):
		return errors.New("it does not say who drew it, or was drawn before it was begun")
	case len(s.Nonce) < MinNonceBytes || len(s.Nonce) > MaxNonceBytes:
		return fmt.Errorf("the nonce has %d bytes, not %d to %d", len(s.Nonce), MinNonceBytes, MaxNonceBytes)
	}
	if want := Sample(s.Seed, s.Nonce, s.Population, s.Size); !slices.Equal(want, s.Drawn) {
		return fmt.Errorf("%.200q were drawn, seed and nonce give %.200q", strings.Join(s.Drawn, ", "), strings.Join(want, ", "))
	}
	return nil
}

func (s *Sampling) checkBegun() error {
	_, records := KindOf(s.Of)
	switch {
	case s.ID == "" || s.By.ID == "" || s.Begun.IsZero() || !validOf.MatchString(s.Of):
		return errors.New("it does not say of what, by whom or when")
	case records != s.From.Before(s.Until):
		return errors.New("records are sampled over a period, devices are not")
	case len(s.Seed) != seedBytes:
		return fmt.Errorf("the seed has %d bytes, not %d", len(s.Seed), seedBytes)
	case s.Total != len(s.Population):
		return fmt.Errorf("%d are said to be there, %d are", s.Total, len(s.Population))
	case len(s.Population) > MaxPopulation || s.Size < 1 || s.Size > MaxSize || s.Size > len(s.Population):
		return fmt.Errorf("%d of %d cannot be drawn", s.Size, len(s.Population))
	}
	for i, id := range s.Population {
		if id == "" || len(id) > idBytes || strings.ContainsAny(id, "\n\x00") {
			return fmt.Errorf("%.80q is no id", id)
		}
		if i > 0 && s.Population[i-1] >= id {
			return fmt.Errorf("the population is not sorted, or %.80q stands twice", id)
		}
	}
	return nil
}

// BegunRecord is what the ledger holds since the sampling was begun.
func (s *Sampling) BegunRecord() core.Record {
	return core.Record{Time: s.Begun, Kind: RecordBegun, Actor: s.By, Facts: []core.Fact{
		{Name: "sample", Value: s.ID},
		{Name: "of", Value: s.Of},
		{Name: "from", Value: timeText(s.From)},
		{Name: "until", Value: timeText(s.Until)},
		{Name: "seed", Value: hex.EncodeToString(s.Seed)},
		{Name: "size", Value: strconv.Itoa(s.Size)},
		{Name: "population", Value: strconv.Itoa(s.Total)},
		{Name: "digest", Value: s.Digest().String()},
	}}
}

// DrawnRecord is what the ledger holds since the nonce is known.
func (s *Sampling) DrawnRecord() core.Record {
	return core.Record{Time: s.Taken, Kind: RecordDrawn, Actor: s.Assessor, Facts: []core.Fact{
		{Name: "sample", Value: s.ID},
		{Name: "nonce", Value: hex.EncodeToString(s.Nonce)},
		{Name: "digest", Value: digest("drawn", s.Drawn).String()},
	}}
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Hex are bytes that JSON shows in hexadecimal.
type Hex []byte

// MarshalText writes the digits.
func (h Hex) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

// UnmarshalText reads them.
func (h *Hex) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

func (h Hex) String() string { return hex.EncodeToString(h) }
