package bundle

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// Sampling is one drawing of random samples by an assessor. Neither side can
// steer it: the seed comes from the maker's side before the assessor's nonce is
// known, best the root of a checkpoint, and the nonce from the assessor after.
type Sampling struct {
	Of         string     `json:"of"` // what is drawn: "devices", "rows"
	Taken      time.Time  `json:"taken"`
	Assessor   core.Actor `json:"assessor"`
	Seed       hexBytes   `json:"seed"`
	Nonce      hexBytes   `json:"nonce"`
	Size       int        `json:"size"`
	Population []string   `json:"population"` // ids or pseudonyms, sorted
	Drawn      []string   `json:"drawn"`      // sorted
}

// Bounds of a sampling.
const (
	MinNonceBytes = 16
	maxSamplings  = 100
	maxPopulation = 1_000_000
)

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
	out := make([]string, 0, max(0, min(n, len(all))))
	for _, t := range all[:max(0, min(n, len(all)))] {
		out = append(out, t.id)
	}
	slices.Sort(out)
	return out
}

// Draw is a sampling that says how it was drawn. The population need not be
// sorted; an id that stands twice is an error.
func Draw(of string, by core.Actor, at time.Time, seed, nonce []byte, population []string, n int) (Sampling, error) {
	s := Sampling{
		Of: of, Taken: at.UTC().Truncate(time.Microsecond), Assessor: by, Seed: seed, Nonce: nonce, Size: n,
		Population: slices.Sorted(slices.Values(population)),
	}
	s.Drawn = Sample(seed, nonce, s.Population, n)
	if err := s.check(); err != nil {
		return Sampling{}, core.E(core.Invalid, "sampling", "no sample can be drawn: "+err.Error(), "give a nonce of at least 16 random bytes, and each id once")
	}
	return s, nil
}

func (s *Sampling) check() error {
	switch {
	case s.Of == "" || s.Assessor.ID == "" || s.Taken.IsZero():
		return errors.New("it does not say of what, by whom or when")
	case len(s.Nonce) < MinNonceBytes || len(s.Seed) == 0:
		return fmt.Errorf("the seed is empty or the nonce shorter than %d bytes", MinNonceBytes)
	case len(s.Population) > maxPopulation || s.Size < 1 || s.Size > len(s.Population):
		return fmt.Errorf("%d of %d cannot be drawn", s.Size, len(s.Population))
	}
	for i := 1; i < len(s.Population); i++ {
		if s.Population[i-1] >= s.Population[i] {
			return fmt.Errorf("the population is not sorted, or %s stands twice", inert(s.Population[i]))
		}
	}
	if want := Sample(s.Seed, s.Nonce, s.Population, s.Size); !slices.Equal(want, s.Drawn) {
		return fmt.Errorf("%s were drawn, seed and nonce give %s", inert(strings.Join(s.Drawn, ", ")), inert(strings.Join(want, ", ")))
	}
	return nil
}

// openSamplings reads sampling.json and draws every sample again.
func openSamplings(f files) ([]Sampling, error) {
	b, ok := f[nameSampling]
	if !ok {
		return nil, nil
	}
	list, err := decode[[]Sampling](b)
	if err != nil {
		return nil, err
	}
	if len(*list) == 0 || len(*list) > maxSamplings {
		return nil, fmt.Errorf("it holds %d samplings", len(*list))
	}
	for i := range *list {
		if err := (*list)[i].check(); err != nil {
			return nil, fmt.Errorf("sampling %d: %w", i+1, err)
		}
	}
	return *list, nil
}

// hexBytes are bytes that JSON shows in hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}
