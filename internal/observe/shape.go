package observe

import (
	"encoding/json"
	"math"
	"strings"
	"time"
)

// kind is the form of one value.
type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInteger // within ±2^53
	kindNumber
	kindTime // RFC 3339 text
	kindText
	kindObject
	kindArray
	kinds
)

func (k kind) String() string {
	return [...]string{"null", "boolean", "integer", "number", "timestamp", "string", "object", "array"}[k]
}

// shape is all that is kept of the values of one field.
type shape struct {
	n        uint64
	of       [kinds]uint64
	min, max float64 // of numbers
	decimals int     // most digits behind the point
	longest  int     // of texts, in characters
	looks    map[Look]uint64
}

const maxExact = 1 << 53

func (s *shape) take(v any) {
	s.n++
	switch v := v.(type) {
	case nil:
		s.of[kindNull]++
	case bool:
		s.of[kindBoolean]++
	case json.Number:
		s.number(string(v))
	case string:
		s.text(v)
	case map[string]any:
		s.of[kindObject]++
	case []any:
		s.of[kindArray]++
	}
}

func (s *shape) number(text string) {
	x, err := json.Number(text).Float64()
	if err != nil || math.IsInf(x, 0) {
		s.of[kindObject]++ // no number that can be declared
		return
	}
	if s.of[kindInteger]+s.of[kindNumber] == 0 {
		s.min, s.max = x, x
	}
	s.min, s.max = min(s.min, x), max(s.max, x)
	if x == math.Trunc(x) && math.Abs(x) <= maxExact && !strings.ContainsAny(text, ".eE") {
		s.of[kindInteger]++
		return
	}
	s.of[kindNumber]++
	if _, behind, ok := strings.Cut(text, "."); ok && !strings.ContainsAny(behind, "eE") {
		s.decimals = max(s.decimals, len(behind))
	}
}

func (s *shape) text(v string) {
	s.longest = max(s.longest, len([]rune(v)))
	if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
		s.of[kindTime]++
		return
	}
	s.of[kindText]++
	if l := looksOfText(v); l != "" {
		if s.looks == nil {
			s.looks = map[Look]uint64{}
		}
		s.looks[l]++
	}
}

func (s *shape) add(o *shape) {
	if o.of[kindInteger]+o.of[kindNumber] > 0 {
		if s.of[kindInteger]+s.of[kindNumber] == 0 {
			s.min, s.max = o.min, o.max
		}
		s.min, s.max = min(s.min, o.min), max(s.max, o.max)
	}
	s.n += o.n
	for i := range s.of {
		s.of[i] += o.of[i]
	}
	s.decimals, s.longest = max(s.decimals, o.decimals), max(s.longest, o.longest)
	for l, n := range o.looks {
		if s.looks == nil {
			s.looks = map[Look]uint64{}
		}
		s.looks[l] += n
	}
}

// kind is the type under which a field loses the fewest values, and how many
// it loses all the same.
func (s *shape) kind() (k kind, lost uint64) {
	numbers, texts := s.of[kindInteger]+s.of[kindNumber], s.of[kindTime]+s.of[kindText]
	best := numbers
	k = kindInteger
	if s.of[kindNumber] > 0 {
		k = kindNumber
	}
	if s.of[kindBoolean] > best {
		k, best = kindBoolean, s.of[kindBoolean]
	}
	if texts > best {
		k, best = kindText, texts
		if s.of[kindText] == 0 {
			k = kindTime
		}
	}
	if best == 0 {
		k = kindObject
		if s.of[kindArray] > s.of[kindObject] {
			k = kindArray
		}
	}
	return k, s.n - best
}

// look is what the field looks like, by its name or by most of its values.
func (s *shape) look(name string) Look {
	if l := looksOfName(name); l != "" {
		return l
	}
	for l, n := range s.looks {
		if 2*n > s.n {
			return l
		}
	}
	return ""
}

// bounds is a range around all numbers, wide enough that it tells none of them:
// a fifth of the span on either side, outward to a round figure. Places get the
// whole earth.
func (s *shape) bounds(name string) (lo, hi float64) {
	words := wordsOf(name)
	for _, w := range words {
		switch {
		case (w == "lat" || w == "latitude") && s.min >= -90 && s.max <= 90:
			return -90, 90
		case (w == "lon" || w == "lng" || w == "longitude") && s.min >= -180 && s.max <= 180:
			return -180, 180
		}
	}
	span := s.max - s.min
	if span == 0 {
		span = max(math.Abs(s.max), 1)
	}
	lo, hi = s.min-span/5, s.max+span/5
	if s.min >= 0 && lo < 0 {
		lo = 0
	}
	step := math.Pow(10, math.Floor(math.Log10(span)))
	lo, hi = math.Floor(lo/step)*step, math.Ceil(hi/step)*step
	if hi <= lo {
		hi = lo + step
	}
	return max(lo, -maxExact), min(hi, maxExact)
}
