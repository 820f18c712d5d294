package device

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/wire"
)

func TestReadingAsJSON(t *testing.T) {
	at := time.UnixMilli(1795000000123)
	r := NewReading(at).Float("temp", 21.4).Float("tiny", 1e-9).Float("huge", 1e30).Float("zero", math.Copysign(0, -1)).
		Int("co2", -612).Bool("on", true).Bool("off", false).String("mode", "a\"\\\n\x00é😀")
	got, err := r.encode(true, 7, 9)
	want := `{"t":1795000000123,"boot":7,"seq":9,"temp":21.4,"tiny":1e-09,"huge":1e+30,"zero":-0,"co2":-612,"on":true,"off":false,"mode":"a\"\\\u000a\u0000é😀"}`
	if err != nil || string(got) != want {
		t.Errorf("\n got %s, %v\nwant %s", got, err, want)
	}
	if !json.Valid(got) {
		t.Error("not JSON")
	}
	got, err = r.encode(false, 7, 9)
	if err != nil || string(got[:20]) != `{"boot":7,"seq":9,"t` {
		t.Errorf("without a clock: %s, %v", got, err)
	}
	got, err = NewReading(time.Time{}).Int("x", 1).encode(true, 7, 9)
	if err != nil || string(got) != `{"boot":7,"seq":9,"x":1}` {
		t.Errorf("without a time: %s, %v", got, err)
	}
}

func FuzzReading(f *testing.F) {
	f.Add("temp", 21.4, int64(3), "text", uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, name string, x float64, n int64, s string, boot, seq uint64) {
		b, err := NewReading(time.UnixMilli(n%1e15)).Float(name, x).Int(name+"i", n).String(name+"s", s).Bool(name+"b", n > 0).
			encode(true, boot%wire.MaxNumber, seq%wire.MaxNumber)
		if err != nil {
			isReason(t, err, BadReading)
			return
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if m[name] != x || m[name+"s"] != s {
			t.Errorf("sent %q=%v, %q; %s says %v, %v", name, x, s, b, m[name], m[name+"s"])
		}
	})
}

// TestBootNumbers: never the same twice, growing while the folder lives, and
// apart when it is wiped.
func TestBootNumbers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot")
	var last uint64
	for range 50 {
		b, err := nextBoot(path)
		if err != nil {
			t.Fatal(err)
		}
		if b <= last || b > wire.MaxNumber {
			t.Fatalf("boot %d after %d", b, last)
		}
		last = b
	}
	seen := map[uint64]bool{}
	for range 50 {
		b, err := nextBoot(filepath.Join(t.TempDir(), "boot"))
		if err != nil {
			t.Fatal(err)
		}
		if seen[b] {
			t.Fatalf("a wiped device says boot %d again", b)
		}
		seen[b] = true
	}
}
