package mqtt

import (
	"bytes"
	"testing"
)

func benchPublish(tb testing.TB, v Version) []byte {
	tb.Helper()
	b, err := AppendPublish(nil, v, []byte("telemetry/climate"), bytes.Repeat([]byte("x"), 200), AtLeastOnce, 7)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestDecodePublishAllocatesNothing(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		b := benchPublish(t, v)
		var p Packet
		l := Limits{From: Client}
		got := testing.AllocsPerRun(100, func() {
			n, err := Frame(b, 0)
			if err != nil || n != len(b) {
				t.Fatalf("frame: %d, %v", n, err)
			}
			if err := Decode(&p, v, b, &l); err != nil {
				t.Fatal(err)
			}
		})
		if got != 0 {
			t.Errorf("MQTT %s: decoding a PUBLISH allocates %v times, want 0", v, got)
		}
	}
}

func BenchmarkDecodePublish(b *testing.B) {
	for _, v := range []Version{V311, V5} {
		b.Run(v.String(), func(b *testing.B) {
			in := benchPublish(b, v)
			var p Packet
			l := Limits{From: Client}
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := Frame(in, 0); n != len(in) || err != nil {
					b.Fatal(n, err)
				}
				if err := Decode(&p, v, in, &l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	topic, payload := []byte("telemetry/climate"), bytes.Repeat([]byte("x"), 200)
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = AppendPublish(dst[:0], V5, topic, payload, AtLeastOnce, 7); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPuback(b *testing.B) {
	dst := make([]byte, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendPuback(dst[:0], V5, 9, PayloadFormatInvalid)
	}
}
