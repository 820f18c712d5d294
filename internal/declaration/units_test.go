package declaration

import (
	"strings"
	"testing"
)

func TestUnits(t *testing.T) {
	for u := range strings.FieldsSeq(`Cel % %RH kWh W m/s m/s2 1 lat lon pH dB dBm count beat/min ug/m3 mg/dL kPa m[Hg] mm[Hg]
		[degF] [psi] {step} {rev}/min 1/h /min km/h kg.m/s2 m2 cm3 10*3/uL J/(kg.K) [in_i] mmol/L KiBy uSv/h l/min deg/s {pulse}.s-1`) {
		if !knownUnit(u) {
			t.Errorf("%s is not known", u)
		}
	}
	for u := range strings.FieldsSeq(`celsius Celsius °C degC percent watts kmh mph furlong kk mm/ /s/ m//s (m m) {step {}step {} k% kmin 0 01 m2m
		J/((((kg)))) [foo] ' x`) {
		if u != "'" && knownUnit(u) {
			t.Errorf("%s is known", u)
		}
	}
	if knownUnit("") {
		t.Error("nothing is a unit")
	}
	// Every hint is itself a unit.
	for slip, unit := range units().slips {
		if !knownUnit(unit) {
			t.Errorf("the hint for %s is %s, which is no unit", slip, unit)
		}
		if !strings.Contains(fixUnit(strings.ToUpper(slip)), unit) {
			t.Errorf("no hint for %s", slip)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"purposes", "protection", "precision", "keep", "readers", "when_done", "unit", "range"}
	for _, c := range []struct{ got, want string }{
		{"purpose", "purposes"},
		{"raeders", "readers"},
		{"Keep", "keep"},
		{"kep", "keep"},
		{"precison", "precision"},
		{"whendone", "when_done"},
		{"retention", ""},
		{"x", ""},
		{"", ""},
		{strings.Repeat("keep", 100), ""},
		{"zzzz", ""},
	} {
		if near := nearest(c.got, words); near != c.want {
			t.Errorf("%q: got %q, want %q", c.got, near, c.want)
		}
	}
}

func TestSpans(t *testing.T) {
	for _, c := range []struct{ in, out string }{{"90m", "90m"}, {"24h", "1d"}, {"168h", "7d"}, {"1w", "7d"}, {"1y", "365d"}, {"1000ms", "1s"}, {"1500ms", "1500ms"}, {"3600s", "1h"}} {
		d, ok := parseSpan(c.in)
		if !ok || span(d) != c.out {
			t.Errorf("%s: got %s, want %s", c.in, span(d), c.out)
		}
	}
	for _, s := range []string{"", "d", "1", "300y", "999999999y", "-1d", "1.5h", "1mo", "99999999999999999999s"} {
		if d, ok := parseSpan(s); ok {
			t.Errorf("%q is %v", s, d)
		}
	}
}
