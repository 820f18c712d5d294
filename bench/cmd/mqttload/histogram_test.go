package main

import (
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var h histogram
	for i := 1; i <= 100_000; i++ {
		h.add(time.Duration(i) * time.Microsecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 50 * time.Millisecond}, {0.99, 99 * time.Millisecond}, {0.001, 100 * time.Microsecond}} {
		got := h.quantile(c.q)
		if off := float64(got-c.want) / float64(c.want); off > 0.035 || off < -0.035 {
			t.Errorf("quantile %v: got %v, want %v within 3.5 %%", c.q, got, c.want)
		}
	}
}

func TestTemplateKeepsItsLength(t *testing.T) {
	p := newPayload(`{"t":$T,"seq":$SEQ}`)
	at := time.UnixMilli(1795000000123)
	for i := range 3 {
		got, want := string(p.next(at)), `{"t":1795000000123,"seq":100000000`+string(rune('0'+i))+`}`
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDefaultPayloadIs200Bytes(t *testing.T) {
	if got, want := len(newPayload(defaultPayload).body), 200; got != want {
		t.Errorf("got %d bytes, want %d", got, want)
	}
}
