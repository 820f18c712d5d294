package simulate

import (
	"math"
	"strings"
	"time"

	"github.com/hawser-iot/hawser/device"
	"github.com/hawser-iot/hawser/internal/declaration"
)

// reading makes one reading of a stream up: every declared field, within its
// bounds, with the rhythm of a day.
func (u *unit) reading(p *declaration.Policy, stream string, at time.Time) *device.Reading {
	const day = float64(24 * time.Hour)
	phase := 2 * math.Pi * (u.phase + float64(at.UnixNano()%int64(24*time.Hour))/day)
	out := device.NewReading(at)
	for i := range p.Fields {
		f := &p.Fields[i]
		if f.Stream != stream {
			continue
		}
		switch f.Type {
		case declaration.Number:
			out.Float(f.Name, u.wander(f.Min, f.Max, phase))
		case declaration.Integer:
			out.Int(f.Name, int64(min(max(math.Round(u.wander(f.Min, f.Max, phase)), math.Ceil(f.Min)), math.Floor(f.Max))))
		case declaration.Boolean:
			out.Bool(f.Name, u.rand.Float64() < 0.5+0.4*math.Sin(phase))
		case declaration.Enum:
			out.String(f.Name, f.Values[u.rand.IntN(len(f.Values))])
		case declaration.Timestamp:
			out.String(f.Name, at.UTC().Format(time.RFC3339))
		case declaration.String:
			const letters = "abcdefghijklmnopqrstuvwxyz"
			n := f.MinLength + u.rand.IntN(max(1, min(f.MaxLength, f.MinLength+12)-f.MinLength+1))
			out.String(f.Name, strings.Map(func(rune) rune { return rune(letters[u.rand.IntN(len(letters))]) }, strings.Repeat("x", max(n, f.MinLength))))
		}
	}
	return out
}

// wander is a value between low and high, mostly in the middle, never outside.
func (u *unit) wander(low, high, phase float64) float64 {
	middle, half := low/2+high/2, high/2-low/2
	x := middle + half*(0.6*math.Sin(phase)+0.1*(2*u.rand.Float64()-1))
	return min(max(round(x), low), high)
}

// round keeps six digits: sensors have no more.
func round(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) {
		return 0
	}
	step := math.Pow(10, math.Floor(math.Log10(math.Abs(x)))-5)
	if step == 0 || math.IsInf(step, 0) {
		return x
	}
	return math.Round(x/step) * step
}
