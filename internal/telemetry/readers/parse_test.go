package readers

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

func aPosition() position {
	day := 24 * time.Hour
	at := time.Date(2026, 11, 23, 8, 0, 0, 123456000, time.UTC)
	return position{made: at, event: 7, rows: map[core.Epoch]uint64{
		core.EpochAt(30*day, day, at): 12345, core.EpochAt(30*day, day, at.Add(-day)): 1, core.EpochAt(time.Hour, 5*time.Minute, at): 1 << 40,
	}}
}

// TestCursor: a cursor leads back to its place, for its own reader and product
// only, and says nothing to who holds it.
func TestCursor(t *testing.T) {
	p, key := aPosition(), newKey()
	text, err := p.seal(key, "aria")
	if err != nil {
		t.Fatal(err)
	}
	got, err := openCursor(key, "aria", text)
	if err != nil || !got.made.Equal(p.made) || got.event != p.event || !maps.Equal(got.rows, p.rows) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	var zero position
	if text, err = zero.seal(key, "aria"); err != nil {
		t.Fatal(err)
	}
	if got, err := openCursor(key, "aria", text); err != nil || !got.made.IsZero() || got.event != 0 || len(got.rows) != 0 {
		t.Errorf("the beginning came back as %+v, %v", got, err)
	}
	text, _ = p.seal(key, "aria")
	flipped := []byte(text)
	flipped[20] ^= 1
	for what, c := range map[string]struct {
		key     [32]byte
		product core.ProductID
		text    string
	}{
		"another reader's":  {newKey(), "aria", text},
		"another product's": {key, "bear", text},
		"changed":           {key, "aria", string(flipped)},
		"cut":               {key, "aria", text[:len(text)-1]},
		"no base64":         {key, "aria", "!!"},
		"too long":          {key, "aria", strings.Repeat("A", maxCursorText+1)},
		"nothing":           {key, "aria", ""},
	} {
		if _, err := openCursor(c.key, c.product, c.text); core.ReasonOf(err) != "cursor" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzPosition: whatever lies in a cursor, it is a place or no place, and a
// place is written as it was read.
func FuzzPosition(f *testing.F) {
	p := aPosition()
	f.Add(p.encode())
	f.Add([]byte{1, 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePosition(b)
		if err != nil {
			return
		}
		again, err := decodePosition(p.encode())
		if err != nil || !maps.Equal(again.rows, p.rows) || again.event != p.event || !again.made.Equal(p.made) {
			t.Errorf("%x: %+v, then %+v, %v", b, p, again, err)
		}
	})
}

func FuzzCursorText(f *testing.F) {
	key := [32]byte{1}
	p := aPosition()
	text, err := p.seal(key, "aria")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("now")
	f.Fuzz(func(t *testing.T, s string) {
		// Each process that fuzzes has sealed the same place anew.
		if got, err := openCursor(key, "aria", s); err == nil && (got.event != p.event || !maps.Equal(got.rows, p.rows)) {
			t.Errorf("%q is a cursor that nobody made", s)
		}
	})
}

func FuzzReceipt(f *testing.F) {
	f.Add([]byte(`{"order":"oabc","done":true}`), "MEUCIQ==")
	f.Add([]byte(`{"order":"oabc","held":false}`), "")
	f.Add([]byte(`{"order":"oabc","held":false,"held":true} `), "AA==")
	f.Fuzz(func(t *testing.T, body []byte, signature string) {
		if r, err := ParseReceipt(body); err == nil && (r.Order == "" || (r.Done == nil) == (r.Held == nil) || r.Done != nil && !*r.Done) {
			t.Errorf("%q is taken as %+v", body, r)
		}
		if b, err := ParseSignature(signature); err == nil && len(b) > maxSignature {
			t.Errorf("a signature of %d bytes", len(b))
		}
	})
}
