package telemetry

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// cborOf is the JSON object as a CBOR map, written by another's encoder, its
// members in the same order. A number with a point or an exponent becomes the
// shortest float that is its float64, any other a whole number.
func cborOf(tb testing.TB, object string) []byte {
	tb.Helper()
	members, ok := sentMembers([]byte(object))
	if !ok {
		tb.Fatalf("no object: %s", object)
	}
	var out bytes.Buffer
	out.Write(cborHeadOf(majorMap, uint64(len(members))))
	for _, m := range members {
		out.Write(cborItem(tb, m.name))
		out.Write(cborItem(tb, cborValue(tb, m.raw)))
	}
	return out.Bytes()
}

// cborValue is a JSON value as what the encoder takes for it.
func cborValue(tb testing.TB, raw []byte) any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatal(err)
	}
	return plainNumbers(tb, v)
}

func plainNumbers(tb testing.TB, v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			tb.Fatal(err)
		}
		return f
	case []any:
		for i := range v {
			v[i] = plainNumbers(tb, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(tb, v[k])
		}
	}
	return v
}

// cborItem is a value in the shortest form, as a small device would send it.
func cborItem(tb testing.TB, v any) []byte {
	tb.Helper()
	em, err := cbor.EncOptions{ShortestFloat: cbor.ShortestFloat16}.EncMode()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := em.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// cborHeadOf is the head of an item with a small argument.
func cborHeadOf(major byte, n uint64) []byte {
	if n < 24 {
		return []byte{major<<5 | byte(n)}
	}
	return []byte{major<<5 | 24, byte(n)}
}

func BenchmarkJudgeCBOR(b *testing.B) {
	benchJudge(b, cborOf(b, benchPayload))
}

func benchJudge(b *testing.B, payload []byte) {
	b.Helper()
	sp := testPlan(b).Stream([]byte("climate"))
	var want, j Judged
	sp.Judge(&want, []byte(benchPayload), testNow)
	if why := sp.Judge(&j, payload, testNow); why != "" || j.Bad+j.Undeclared != 0 || partsText(&j) != partsText(&want) || j.T != want.T {
		b.Fatalf("%q, %d bad, %d undeclared: %s", why, j.Bad, j.Undeclared, partsText(&j))
	}
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		sp.Judge(&j, payload, testNow)
	}
}

func TestJudgeCBORAsJSON(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	for _, object := range []string{
		benchPayload,
		`{"room_temperature":21.44,"heating_on":true,"humidity":50.3,"mode":"off","label":"Küche","starts":7,"gps":[1,{"x":null}]}`,
	} {
		var want, got Judged
		a, b := sp.Judge(&want, []byte(object), testNow), sp.Judge(&got, cborOf(t, object), testNow)
		if a != b || partsText(&got) != partsText(&want) || got.T != want.T || got.Undeclared != want.Undeclared || got.Bad != want.Bad {
			t.Errorf("%s\nas JSON %q %s\nas CBOR %q %s", object, a, partsText(&want), b, partsText(&got))
		}
		if strings.TrimSpace(partsText(&got)) == "" {
			t.Error("nothing was kept")
		}
	}
}
