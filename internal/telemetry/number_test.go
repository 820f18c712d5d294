package telemetry

import (
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

func parseDecimal(tb testing.TB, s string) decimal {
	tb.Helper()
	d, end := scanNumber([]byte(s), 0)
	if end != len(s) {
		tb.Fatalf("%q is not read as a number", s)
	}
	return d
}

func TestScanNumberStopsWhereTheNumberDoes(t *testing.T) {
	for s, want := range map[string]int{
		"0": 1, "-0": 2, "01": -1, "-": -1, "": -1, "+1": -1, ".5": -1, "1.": -1, "1.5": 3, "1e": -1, "1e+": -1, "1e5": 3, "1E-05": 5,
		"1.5e3,": 5, "1 2": 1, "12x": 2, "--1": -1, "-a": -1, "1..2": -1, "1e5.5": 3,
	} {
		if _, end := scanNumber([]byte(s), 0); end != want {
			t.Errorf("%q ends at %d, want %d", s, end, want)
		}
	}
}

// Whatever is written is exactly what was read, in one form.
func TestDecimalKeepsWhatWasWritten(t *testing.T) {
	for s, want := range map[string]string{
		"0": "0", "-0.000": "0", "0e99": "0", "1": "1", "-1.50": "-1.5", "100": "100", "1e2": "100", "1e20": "100000000000000000000",
		"1e21": "1e+21", "123e19": "1.23e+21", "0.000001": "0.000001", "0.0000001": "1e-7", "12e-8": "1.2e-7", "18446744073709551615": "18446744073709551615",
		"1.8446744073709551615": "1.8446744073709551615", "0.1": "0.1", "21.499999999": "21.499999999", "1.0000000000000000000000000000": "1",
	} {
		if got := string(appendDecimal(nil, parseDecimal(t, s))); got != want {
			t.Errorf("%s is written %s, want %s", s, got, want)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		// Shortest forms of float64 have up to 17 digits and any exponent.
		f := r.NormFloat64() * []float64{1, 1e-7, 1e19, 1e-300, 1e300}[r.IntN(5)]
		s := strconv.FormatFloat(f, 'e', -1, 64)
		got := string(appendDecimal(nil, parseDecimal(t, s)))
		back, err := strconv.ParseFloat(got, 64)
		if err != nil || back != f {
			t.Fatalf("%s is written %s", s, got)
		}
		want := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(got, "e") && got != want {
			t.Fatalf("%s is written %s, want %s", s, got, want)
		}
	}
}

// Rounding is decimal and exact, checked against fractions.
func TestStepsAreTheNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	half := big.NewRat(1, 2)
	for range 50_000 {
		precision := []float64{0.1, 0.01, 0.5, 0.25, 1, 5, 60, 1e-9, 1e12, 0.3, 7e-4, 1000}[r.IntN(12)]
		g, ok := newGrid(precision)
		if !ok {
			t.Fatalf("no grid for %v", precision)
		}
		s := strconv.FormatUint(r.Uint64()>>r.IntN(64), 10)
		if r.IntN(2) == 0 {
			s += strings.Repeat("0", r.IntN(30)) + strconv.Itoa(r.IntN(1000))
		}
		if at := r.IntN(len(s)); at > 0 {
			s = s[:at] + "." + s[at:]
		}
		s = strings.TrimLeft(s, "0")
		if s == "" || s[0] == '.' {
			s = "0" + s
		}
		if s[len(s)-1] == '.' {
			s += "0"
		}
		if r.IntN(4) == 0 {
			s += "e" + strconv.Itoa(r.IntN(40)-30)
		}
		n, ok := g.steps(parseDecimal(t, s))
		v, _ := new(big.Rat).SetString(s)
		p, _ := new(big.Rat).SetString(strconv.FormatFloat(precision, 'g', -1, 64))
		want := new(big.Rat).Quo(v, p)
		want.Add(want, half) // half a step counts up
		whole := new(big.Int).Quo(want.Num(), want.Denom())
		if !ok {
			if whole.Cmp(big.NewInt(1e15)) < 0 {
				t.Fatalf("%s in steps of %v: too many, but it is only %s", s, precision, whole)
			}
			continue
		}
		if whole.Cmp(new(big.Int).SetUint64(n)) != 0 {
			t.Fatalf("%s in steps of %v: %d, want %s", s, precision, n, whole)
		}
	}
}

func TestIntegerIsExact(t *testing.T) {
	for s, want := range map[string]string{
		"9007199254740993": "9007199254740993", "18446744073709551615": "18446744073709551615", "18446744073709551616": "", "1.5": "", "1.0": "1",
		"1e19": "10000000000000000000", "1e20": "", "15e-1": "", "1500e-2": "15", "0.000": "0", "1e-400": "", "0e-400": "0",
		"1.00000000000000000000000000000000000000001": "", "100000000000000000000000e-20": "1000", "-7": "7",
	} {
		got := ""
		if n, ok := parseDecimal(t, s).integer(); ok {
			got = strconv.FormatUint(n, 10)
		}
		if got != want {
			t.Errorf("%s is the integer %q, want %q", s, got, want)
		}
	}
}
