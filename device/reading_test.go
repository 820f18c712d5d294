package device

import (
	"encoding/json"
	"maps"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/hawser-iot/hawser/internal/wire"
)

func TestReadingAsJSON(t *testing.T) {
	at := time.UnixMilli(1795000000123)
	r := NewReading(at).Float("temp", 21.4).Float("tiny", 1e-9).Float("huge", 1e30).Float("zero", math.Copysign(0, -1)).
		Int("co2", -612).Bool("on", true).Bool("off", false).String("mode", "a\"\\\n\x00é😀")
	got, err := r.encode(formJSON, true, 7, 9)
	want := `{"t":1795000000123,"boot":7,"seq":9,"temp":21.4,"tiny":1e-09,"huge":1e+30,"zero":-0,"co2":-612,"on":true,"off":false,"mode":"a\"\\\u000a\u0000é😀"}`
	if err != nil || string(got) != want {
		t.Errorf("\n got %s, %v\nwant %s", got, err, want)
	}
	if !json.Valid(got) {
		t.Error("not JSON")
	}
	got, err = r.encode(formJSON, false, 7, 9)
	if err != nil || string(got[:20]) != `{"boot":7,"seq":9,"t` {
		t.Errorf("without a clock: %s, %v", got, err)
	}
	got, err = NewReading(time.Time{}).Int("x", 1).encode(formJSON, true, 7, 9)
	if err != nil || string(got) != `{"boot":7,"seq":9,"x":1}` {
		t.Errorf("without a time: %s, %v", got, err)
	}
}

// sameInCBOR compares a reading in both forms as others read it.
func sameInCBOR(t *testing.T, b, c []byte, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := cbor.Unmarshal(c, &got); err != nil {
		t.Fatalf("%v: %x", err, c)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for name, v := range got {
		switch v := v.(type) {
		case uint64:
			got[name] = float64(v)
		case int64:
			got[name] = float64(v)
		}
	}
	if !maps.Equal(got, want) { // no NaN is ever sent
		t.Errorf("%s\n%x says %v", b, c, got)
	}
}

func TestReadingAsCBOR(t *testing.T) {
	r := NewReading(time.UnixMilli(1795000000123)).Float("temp", 21.4).Float("half", 21.5).Float("whole", -612).Float("zero", math.Copysign(0, -1)).Float("huge", 1e30).
		Int("co2", -612).Int("most", wire.MaxNumber).Bool("on", true).Bool("off", false).String("mode", "a\"\\\n\x00é😀")
	for _, timed := range []bool{true, false} {
		b, err := r.encode(formJSON, timed, 7, 300)
		if err != nil {
			t.Fatal(err)
		}
		c, err := r.encode(formCBOR, timed, 7, 300)
		sameInCBOR(t, b, c, err)
		if t.Logf("%d bytes of CBOR, %d of JSON", len(c), len(b)); len(c) >= len(b) {
			t.Error("CBOR is longer")
		}
	}
	c, err := NewReading(time.Time{}).Int("x", 1).encode(formCBOR, true, 7, 9)
	if want := "\xa3\x64boot\x07\x63seq\x09\x61x\x01"; err != nil || string(c) != want {
		t.Errorf("%x, %v; want %x", c, err, want)
	}
	for name, r := range map[string]*Reading{"empty": NewReading(time.Time{}), "bad": NewReading(time.Time{}).Int("t", 1), "large": NewReading(time.Time{}).String("x", strings.Repeat("x", wire.MaxPayload))} {
		if _, err := r.encode(formCBOR, true, 1, 1); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// What a program asks for is what is in the queue, and is sent.
func TestSendInCBOR(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.mqtt.raw = true
	b.cfg.CBOR = true
	d := b.open(t)
	mustSend(t, d, 2)
	start(t, d)
	eventually(t, "two readings", func() bool { return len(b.mqtt.taken()) == 2 })
	for i, g := range b.mqtt.taken() {
		var m map[string]any
		if err := cbor.Unmarshal([]byte(g.Payload), &m); err != nil || m["n"] != uint64(i) || m[wire.SeqKey] != uint64(i+1) {
			t.Errorf("reading %d: %v, %v", i, m, err)
		}
	}
}

func FuzzReading(f *testing.F) {
	f.Add("temp", 21.4, int64(3), "text", uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, name string, x float64, n int64, s string, boot, seq uint64) {
		r := NewReading(time.UnixMilli(n%1e15)).Float(name, x).Int(name+"i", n).String(name+"s", s).Bool(name+"b", n > 0)
		b, err := r.encode(formJSON, true, boot%wire.MaxNumber, seq%wire.MaxNumber)
		c, errCBOR := r.encode(formCBOR, true, boot%wire.MaxNumber, seq%wire.MaxNumber)
		if err == nil {
			sameInCBOR(t, b, c, errCBOR)
		}
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
