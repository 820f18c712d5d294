package telemetry

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strconv"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// One reading in all forms that are taken, written by others' encoders.

// cborOf is the JSON object as a CBOR map, its members in the same order. A
// number with a point or an exponent becomes the shortest float that is its
// float64, any other a whole number.
func cborOf(tb testing.TB, object string) []byte {
	tb.Helper()
	var out bytes.Buffer
	members := membersOf(tb, object)
	out.Write(cborHeadOf(majorMap, uint64(len(members))))
	for _, m := range members {
		out.Write(cborItem(tb, m.name))
		out.Write(cborItem(tb, cborValue(tb, m.raw)))
	}
	return out.Bytes()
}

// senmlOf is the JSON object as a pack of SenML in JSON, each field a record;
// what no label of SenML is for becomes one of text.
func senmlOf(tb testing.TB, object string) []byte {
	tb.Helper()
	base := `"bn":"urn:dev:ow:10e2073a01080063:"`
	var records [][]byte
	for _, m := range membersOf(tb, object) {
		if m.name == nameT {
			base += `,"bt":` + string(secondsOf(tb, m.raw))
			continue
		}
		label := "vs"
		switch c := m.raw[0]; {
		case c == '-' || isDigit(c):
			label = "v"
		case c == 't' || c == 'f':
			label = "vb"
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			tb.Fatal(err)
		}
		records = append(records, []byte(`{"n":`+string(name)+`,"`+label+`":`+string(m.raw)+`}`))
	}
	if len(records) == 0 {
		return []byte(`[{` + base + `}]`)
	}
	records[0] = append([]byte("{"+base+","), records[0][1:]...)
	return append(append([]byte("["), bytes.Join(records, []byte(","))...), ']')
}

// secondsOf is a time of an object, in seconds.
func secondsOf(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	if raw[0] == '"' {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			tb.Fatal(err)
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return []byte("0") // none
		}
		return strconv.AppendInt(nil, t.Unix(), 10)
	}
	ms, ok := new(big.Rat).SetString(string(raw))
	if !ok {
		tb.Fatalf("a time of %s", raw)
	}
	s := ms.Quo(ms, big.NewRat(1000, 1))
	return []byte(s.FloatString(9))
}

// senmlCBOROf is the pack of SenML in CBOR.
func senmlCBOROf(tb testing.TB, pack []byte) []byte {
	tb.Helper()
	var records []json.RawMessage
	if err := json.Unmarshal(pack, &records); err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	out.Write(cborHeadOf(majorArray, uint64(len(records))))
	for _, r := range records {
		members := membersOf(tb, string(r))
		out.Write(cborHeadOf(majorMap, uint64(len(members))))
		for _, m := range members {
			out.Write(cborItem(tb, senmlKeys[m.name]))
			out.Write(cborItem(tb, cborValue(tb, m.raw)))
		}
	}
	return out.Bytes()
}

// senmlKeys is table 4 of RFC 8428 §6.
var senmlKeys = map[string]int{
	"bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6,
	"n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8,
}

func membersOf(tb testing.TB, object string) []sentMember {
	tb.Helper()
	members, ok := sentMembers([]byte(object))
	if !ok {
		tb.Fatalf("no object: %s", object)
	}
	return members
}

// cborValue is a JSON value as what the encoder takes for it.
func cborValue(tb testing.TB, raw []byte) any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("%s: %v", raw, err)
	}
	return plainNumbers(tb, v)
}

func plainNumbers(tb testing.TB, v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, ok := new(big.Int).SetString(string(v), 10); ok {
			return n // the encoder takes the shortest form
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

// The cost of one reading in each form.
func BenchmarkJudgeForms(b *testing.B) {
	sp := testPlan(b).Stream([]byte("climate"))
	var want, j Judged
	sp.Judge(&want, []byte(benchPayload), testNow)
	pack := senmlOf(b, benchPayload)
	for _, c := range []struct {
		name    string
		payload []byte
	}{
		{"JSON", []byte(benchPayload)},
		{"CBOR", cborOf(b, benchPayload)},
		{"SenML-JSON", pack},
		{"SenML-CBOR", senmlCBOROf(b, pack)},
	} {
		b.Run(c.name, func(b *testing.B) {
			if why := sp.Judge(&j, c.payload, testNow); why != "" || j.Bad+j.Undeclared != 0 || partsText(&j) != partsText(&want) || j.T != want.T || j.Seq != want.Seq {
				b.Fatalf("%q, %d bad, %d undeclared: %s", why, j.Bad, j.Undeclared, partsText(&j))
			}
			b.SetBytes(int64(len(c.payload)))
			b.ReportAllocs()
			for b.Loop() {
				sp.Judge(&j, c.payload, testNow)
			}
		})
	}
}
