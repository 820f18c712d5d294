package declaration

import (
	"strings"
	"testing"
)

// CC 0.1: the level grows with each of the four factors.
func TestFactors(t *testing.T) {
	calm := []string{"harm: medium", "harm: low"}
	for _, c := range []struct {
		name string
		edit []string
		want Level
		why  string
	}{
		{"a bell that rings seldom", append(calm, "every: 10s", "every: 10m"), BasicLevel, "personal data"},
		{"often", calm, BasicLevel, "8640 messages a day"},
		{"often, and some harm", nil, RaisedLevel, "harm is medium"},
		{"sensitive", append(calm, "class: personal", "class: sensitive\n    protection: [two-persons]"), RaisedLevel, "sensitive data"},
		{"in public, too", []string{"exposure: home", "exposure: public", "class: personal", "class: sensitive\n    protection: [two-persons]"}, HighLevel, "its place is public"},
		{"great harm", []string{"harm: medium", "harm: high"}, HighLevel, "harm is high"},
		{"health", append(calm, "class: personal", "class: health\n    protection: [two-persons]", "audience: general", "audience: general\nhealth: true"), HighLevel, "health data"},
		{"children", append(calm, "class: personal", "class: child\n    protection: [two-persons]", "audience: general", "audience: child"), HighLevel, "child data"},
		{"shared", []string{"class: public", "class: personal", "fields: [battery],", "fields: [battery], transform: [day],", "audience: general", "audience: mixed"}, HighLevel, "1 shares"},
	} {
		f := edited(t, c.edit...).Factors()
		if f.Level != c.want || !strings.Contains(strings.Join(f.Why, "; "), c.why) {
			t.Errorf("%s: %s for %v, want %s for %q", c.name, f.Level, f.Why, c.want, c.why)
		}
	}
}

// TestFactorsGrow raises each factor from every start: no level falls.
func TestFactorsGrow(t *testing.T) {
	level := func(f Factors) Level {
		f.weigh()
		return f.Level
	}
	n := 0
	for harm := LowHarm; harm <= HighHarm; harm++ {
		for class := Public; class <= Health; class++ {
			for _, perDay := range []int64{0, 1439, 1440, 1e6} {
				for shares := range 3 {
					for audience := GeneralAudience; audience <= ChildAudience; audience++ {
						f := Factors{Harm: harm, Class: class, PerDay: perDay, Shares: shares, Audience: audience, Exposure: "home"}
						was := level(f)
						for _, up := range []func(*Factors){
							func(f *Factors) { f.Harm = min(HighHarm, f.Harm+1) },
							func(f *Factors) { f.Class = min(Health, f.Class+1) },
							func(f *Factors) { f.PerDay *= 10 },
							func(f *Factors) { f.Shares++ },
							func(f *Factors) { f.Audience = min(ChildAudience, f.Audience+1) },
							func(f *Factors) { f.Exposure = "body" },
						} {
							g := f
							up(&g)
							n++
							if now := level(g); now < was {
								t.Fatalf("%+v is %s, %+v is %s", f, was, g, now)
							}
						}
					}
				}
			}
		}
	}
	if n < 1000 {
		t.Errorf("compared %d only", n)
	}
}
