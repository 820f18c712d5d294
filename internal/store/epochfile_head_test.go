package store

import (
	"bytes"
	"math"
	"testing"

	"github.com/hawser-iot/hawser/internal/telemetry"
)

func TestRowHead(t *testing.T) {
	for _, h := range []rowHead{
		{},
		{context: 2, flags: telemetry.FlagWrongClock, counter: 3, lag: 40},
		{context: math.MaxInt64, flags: 255, counter: math.MaxUint64, lag: math.MinInt64},
		{counter: 1 << 63, lag: -1},
	} {
		n := numbers{context: h.context}
		b := appendRowHead(nil, &n, &telemetry.Reading{Flags: h.flags, Counter: h.counter, Received: h.lag})
		got, ok := parseRowHead(b)
		if !ok || got != h {
			t.Errorf("%+v comes back as %+v, %v", h, got, ok)
		}
		for i := range b {
			if _, ok := parseRowHead(b[:i]); ok {
				t.Errorf("%d of %d bytes are a head", i, len(b))
			}
		}
		if _, ok := parseRowHead(append(bytes.Clone(b), 0)); ok {
			t.Error("a byte too many is a head")
		}
	}
	if _, ok := parseRowHead([]byte{0x80, 0x00, 0, 0, 0}); ok {
		t.Error("another spelling of the same number is a head")
	}
}

// A head has one spelling: what parses is written back byte for byte.
func FuzzRowHead(f *testing.F) {
	f.Add([]byte{2, 0, 3, 80})
	f.Add([]byte{0x80, 0x01, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseRowHead(b)
		if !ok {
			return
		}
		n := numbers{context: h.context}
		again := appendRowHead(nil, &n, &telemetry.Reading{Flags: h.flags, Counter: h.counter, Received: h.lag})
		if !bytes.Equal(b, again) {
			t.Errorf("%x and %x are one head", b, again)
		}
	})
}
