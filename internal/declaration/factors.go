package declaration

import (
	"fmt"
	"time"
)

// Level is how strictly a product is to be guarded.
type Level uint8

// The levels, least strict first.
const (
	BasicLevel Level = iota
	RaisedLevel
	HighLevel
)

// String is the level in a word.
func (l Level) String() string { return [...]string{"basic", "raised", "high"}[l] }

// Factors are the four factors on which it depends what is reasonable
// (CC 0.1): what the product is for, which data and how much of it, with whom
// it is shared, and how much harm is how likely. Level follows from them; Why
// says from which, in words.
type Factors struct {
	Purpose  string // of the product
	Class    Class  // highest of any field
	PerDay   int64  // most messages a day with fields that are not public
	Shares   int    // shares of fields that are not public
	Harm     Harm
	Exposure string
	Audience Audience
	Level    Level
	Why      []string
}

// Factors reads the four factors out of the policy. A higher factor never
// gives a lower level.
func (p *Policy) Factors() Factors {
	f := Factors{Purpose: p.Risk.Purpose, Harm: p.Risk.Harm, Exposure: p.Risk.Exposure, Audience: p.Audience}
	for i := range p.Fields {
		f.Class = max(f.Class, p.Fields[i].Class)
	}
	private := func(fields []int) bool {
		for _, i := range fields {
			if p.Fields[i].Class > Public {
				return true
			}
		}
		return false
	}
	for i := range p.Streams {
		if private(p.Streams[i].Fields) {
			f.PerDay += int64(24 * time.Hour / p.Streams[i].Every)
		}
	}
	for i := range p.Shares {
		if private(p.Shares[i].Fields) {
			f.Shares++
		}
	}
	f.weigh()
	return f
}

// weigh adds points. Three make a raised level, five a high one; great harm
// and data of children or about health make a high one alone.
func (f *Factors) weigh() {
	const often = 1440 // a message a minute draws a picture of a day
	points := 0
	add := func(n int, format string, args ...any) {
		if n > 0 {
			points += n
			f.Why = append(f.Why, fmt.Sprintf(format, args...))
		}
	}
	one := func(is bool) int {
		if is {
			return 1
		}
		return 0
	}
	add(5*one(f.Harm == HighHarm)+one(f.Harm == MediumHarm), "harm is %s", f.Harm)
	add(5*one(f.Class >= Child)+2*one(f.Class == Sensitive)+one(f.Class == Personal), "there is %s data", f.Class)
	add(one(f.PerDay >= often), "up to %d messages a day say something about people", f.PerDay)
	add(one(f.Shares > 0), "%d shares hand out what is not public", f.Shares)
	add(one(f.Exposure == "public" || f.Exposure == "body"), "its place is %s", f.Exposure)
	add(2*one(f.Audience == ChildAudience)+one(f.Audience == MixedAudience), "its audience is %s", f.Audience)
	switch {
	case points >= 5:
		f.Level = HighLevel
	case points >= 3:
		f.Level = RaisedLevel
	}
}
