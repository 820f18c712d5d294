package telemetry

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

func sampleReading() *Reading {
	return &Reading{
		Product: "aria-thermostat", Subject: core.Subject{1, 2, 3},
		Stream: "climate", Policy: core.Hash{7}, T: 1_795_000_000_000, Received: 1_795_000_000_123,
		HasSeq: true, Boot: 4, Seq: 1 << 40, Flags: FlagWrongClock, Dropped: 3,
		Gateway: [8]byte{1, 1}, Counter: 99,
		Parts: []Part{
			{Epoch: core.Epoch{Keep: 30 * 24 * time.Hour, Start: 1_794_960_000, Length: 24 * time.Hour}, Group: 2, Sealed: bytes.Repeat([]byte{5}, 60)},
			{Epoch: core.Epoch{Keep: time.Hour, Start: -300, Length: 5 * time.Minute}, Group: 31, Sealed: []byte{}},
		},
	}
}

func sampleRefusal() *Refusal {
	return &Refusal{
		Product: "aria-thermostat", Subject: core.Subject{1},
		Stream: "climate", Reason: ReasonNotJSON, Received: 1_795_000_000_123, Count: 7,
	}
}

func TestReadingRoundTrip(t *testing.T) {
	want := sampleReading()
	for _, edit := range []func(*Reading){
		func(*Reading) {},
		func(r *Reading) { r.HasSeq, r.Boot, r.Seq = false, 0, 0 },
		func(r *Reading) { r.Flags = 0 },
		func(r *Reading) { r.T = -5 },
		func(r *Reading) { r.Parts = r.Parts[1:] },
	} {
		r := *want
		edit(&r)
		b := AppendReading([]byte("before"), &r)[len("before"):]
		// The reused target holds another record: nothing of it may stay.
		got := Reading{Product: "old", Stream: "old", HasSeq: true, Boot: 1, Seq: 1, Flags: 3, Parts: make([]Part, 5)}
		f := *sampleRefusal()
		kind, err := DecodeRecord(b, &got, &f)
		if err != nil || kind != RecordReading {
			t.Fatalf("decode: %v %v", kind, err)
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("got  %+v\nwant %+v", got, r)
		}
		if f != *sampleRefusal() {
			t.Error("decoding a reading changed the refusal")
		}
	}
}

func TestRefusalRoundTrip(t *testing.T) {
	for _, stream := range []string{"", "climate", strings.Repeat("s", 255)} {
		want := *sampleRefusal()
		want.Stream = stream
		var got Refusal
		var r Reading
		kind, err := DecodeRecord(AppendRefusal(nil, &want), &r, &got)
		if err != nil || kind != RecordRefusal || got != want {
			t.Errorf("got %v %v %+v, want %+v", kind, err, got, want)
		}
	}
}

// A record that is cut, longer, or of another type is an error, at every byte.
func TestDamagedRecordIsRefused(t *testing.T) {
	for _, whole := range [][]byte{AppendReading(nil, sampleReading()), AppendRefusal(nil, sampleRefusal())} {
		var r Reading
		var f Refusal
		for n := range len(whole) {
			if _, err := DecodeRecord(whole[:n], &r, &f); err == nil {
				t.Errorf("accepted %d of %d bytes", n, len(whole))
			}
		}
		if _, err := DecodeRecord(append(bytes.Clone(whole), 0), &r, &f); err == nil {
			t.Error("accepted a byte too many")
		}
		if _, err := DecodeRecord(append([]byte{77}, whole[1:]...), &r, &f); err == nil {
			t.Error("accepted type 77")
		}
	}
	for name, edit := range map[string]func(*Reading){
		"no parts":    func(r *Reading) { r.Parts = nil },
		"33 parts":    func(r *Reading) { r.Parts = make([]Part, 33) },
		"no subject":  func(r *Reading) { r.Subject = core.Subject{} },
		"no stream":   func(r *Reading) { r.Stream = "" },
		"bad product": func(r *Reading) { r.Product = "../etc" },
		"no keep":     func(r *Reading) { r.Parts[0].Epoch.Keep = 0 },
		"no length":   func(r *Reading) { r.Parts[0].Epoch.Length = 0 },
		"far epoch":   func(r *Reading) { r.Parts[0].Epoch.Start = 1 << 60 },
		"huge part":   func(r *Reading) { r.Parts[0].Sealed = make([]byte, MaxSealed+1) },
	} {
		r := sampleReading()
		edit(r)
		if _, err := DecodeRecord(AppendReading(nil, r), new(Reading), new(Refusal)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	f := sampleRefusal()
	f.Reason = "Payload: 21.5"
	if _, err := DecodeRecord(AppendRefusal(nil, f), new(Reading), new(Refusal)); err == nil {
		t.Error("accepted a refusal whose reason is not a reason")
	}
}

// Two readings that differ in anything that the seal must hold fast have
// different associated data; the count of dropped fields is not of it.
func TestAADHoldsEverything(t *testing.T) {
	base := sampleReading()
	seen := map[string]string{string(AppendAAD(nil, base, &base.Parts[0])): "base"}
	for name, edit := range map[string]func(*Reading){
		"product":  func(r *Reading) { r.Product = "aria-thermostat2" },
		"subject":  func(r *Reading) { r.Subject[15]++ },
		"stream":   func(r *Reading) { r.Stream = "climat" },
		"policy":   func(r *Reading) { r.Policy[31]++ },
		"t":        func(r *Reading) { r.T++ },
		"received": func(r *Reading) { r.Received++ },
		"no seq":   func(r *Reading) { r.HasSeq = false },
		"boot":     func(r *Reading) { r.Boot++ },
		"seq":      func(r *Reading) { r.Seq++ },
		"flags":    func(r *Reading) { r.Flags = 0 },
		"gateway":  func(r *Reading) { r.Gateway[7]++ },
		"counter":  func(r *Reading) { r.Counter++ },
		"keep":     func(r *Reading) { r.Parts[0].Epoch.Keep += time.Second },
		"start":    func(r *Reading) { r.Parts[0].Epoch.Start++ },
		"length":   func(r *Reading) { r.Parts[0].Epoch.Length += time.Second },
		"group":    func(r *Reading) { r.Parts[0].Group++ },
	} {
		r := sampleReading()
		edit(r)
		aad := string(AppendAAD(nil, r, &r.Parts[0]))
		if other, ok := seen[aad]; ok {
			t.Errorf("%s has the associated data of %s", name, other)
		}
		seen[aad] = name
	}
	r := sampleReading()
	r.Dropped++
	if _, ok := seen[string(AppendAAD(nil, r, &r.Parts[0]))]; !ok {
		t.Error("the count of dropped fields is in the associated data; nobody could rebuild it from a part")
	}
}

func TestReasons(t *testing.T) {
	all := Reasons()
	seen := map[Reason]bool{}
	for i, r := range all {
		if !r.valid() || seen[r] || r.Text() == "" || reasonIndex(r) != i {
			t.Errorf("reason %d %q: malformed, double, without text, or not found again", i, r)
		}
		seen[r] = true
	}
	if reasonAt(reasonCount) != "" || reasonIndex("of-tomorrow") != -1 || Reason("").valid() || Reason("A").valid() {
		t.Error("a reason that does not exist is known")
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	b := AppendReading(nil, sampleReading())
	var r Reading
	var f Refusal
	if n := testing.AllocsPerRun(100, func() { _, _ = DecodeRecord(b, &r, &f) }); n != 0 {
		t.Errorf("%v allocations per record, want 0", n)
	}
}

// What decodes is written back byte for byte: the record has one form.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(AppendReading(nil, sampleReading()))
	f.Add(AppendRefusal(nil, sampleRefusal()))
	b := AppendReading(nil, sampleReading())
	b[rand.IntN(len(b))] ^= 0x40
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Reading
		var u Refusal
		kind, err := DecodeRecord(b, &r, &u)
		if err != nil {
			return
		}
		var back []byte
		if kind == RecordReading {
			back = AppendReading(nil, &r)
		} else {
			back = AppendRefusal(nil, &u)
		}
		if !bytes.Equal(b, back) {
			t.Errorf("another form of the same record:\n%x\n%x", b, back)
		}
	})
}

func BenchmarkDecodeRecord(b *testing.B) {
	rec := AppendReading(nil, sampleReading())
	var r Reading
	var f Refusal
	b.ReportAllocs()
	b.SetBytes(int64(len(rec)))
	for b.Loop() {
		if _, err := DecodeRecord(rec, &r, &f); err != nil {
			b.Fatal(err)
		}
	}
}
