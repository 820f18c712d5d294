package telemetry

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// cborText is a short text string.
func cborText(s string) string { return string(append(cborHeadOf(majorText, uint64(len(s))), s...)) }

// strictCBOR is {"door": true, "level": …}, with the level in hexadecimal.
func strictCBOR(tb testing.TB, level string) []byte {
	return append([]byte("\xa2"+cborText("door")+"\xf5"+cborText("level")), unhex(tb, level)...)
}

// The numbers of RFC 8949 appendix A are what the same numbers are in JSON.
func TestJudgeCBORNumbers(t *testing.T) {
	sp := testPlan(t).Stream([]byte("strict"))
	for _, c := range []struct{ item, json string }{
		{"00", "0"},
		{"01", "1"},
		{"0a", "10"},
		{"17", "23"},
		{"1818", "24"},
		{"1819", "25"},
		{"1864", "100"},
		{"1903e8", "1000"},
		{"1a000f4240", "1000000"},
		{"1b000000e8d4a51000", "1000000000000"},
		{"1bffffffffffffffff", "18446744073709551615"},
		{"3bffffffffffffffff", "-18446744073709551616"},
		{"20", "-1"},
		{"29", "-10"},
		{"3863", "-100"},
		{"3903e7", "-1000"},
		{"f90000", "0.0"},
		{"f98000", "-0.0"},
		{"f93c00", "1.0"},
		{"fb3ff199999999999a", "1.1"},
		{"f93e00", "1.5"},
		{"f97bff", "65504.0"},
		{"fa47c35000", "100000.0"},
		{"fa7f7fffff", "3.4028234663852886e+38"},
		{"fb7e37e43c8800759c", "1.0e+300"},
		{"f90001", "5.960464477539063e-8"},
		{"f90400", "0.00006103515625"},
		{"f9c400", "-4.0"},
		{"fbc010666666666666", "-4.1"},
		// §3.4.3, §3.4.4, and what the appendix does not have.
		{"c24101", "1"},
		{"c240", "0"},
		{"c2580a00000000000000000100", "256"},
		{"c248ffffffffffffffff", "18446744073709551615"},
		{"c348ffffffffffffffff", "-18446744073709551616"},
		{"c341ff", "-256"},
		{"c48221196ab3", "273.15"},
		{"c482211a000f4240", "10000"},
		{"c4820305", "5000"},
		{"c48221c2420100", "2.56"},
		{"c48239270f05", "5e-10000"},
		{"c4821b7fffffffffffffff00", "0"},
		{"d8c204", ""}, // a tag that nothing knows
		{"1800", "0"},  // longer than it need be: well formed
		{"1b0000000000000005", "5"},
		{"fa41ab851f", "21.440000534057617"}, // 21.44 in single precision
		{"fb4035 70a3d70a3d71", "21.44"},
		{"fb43e0000000000000", "9223372036854775808"},
		{"fb3fd3333333333334", "0.30000000000000004"},
		{"fb0000000000000001", "5e-324"},
		{"fb7fefffffffffffff", "1.7976931348623157e308"},
		// Good for no number.
		{"c249010000000000000000", ""}, // 2^64
		{"c349010000000000000000", ""}, // -2^64-1
		{"f97c00", ""},
		{"f97e00", ""},
		{"f9fc00", ""},
		{"fa7f800000", ""},
		{"fa7fc00000", ""},
		{"faff800000", ""},
		{"fb7ff0000000000000", ""},
		{"fb7ff8000000000000", ""},
		{"fbfff0000000000000", ""},
		{"f4", ""},
		{"f5", ""},
		{"f6", ""},
		{"f7", ""},
		{"f0", ""},
		{"f8ff", ""},
		{"c074323031332d30332d32315432303a30343a30305a", ""},
		{"c11a514b67b0", ""},
		{"c1fb41d452d9ec200000", ""},
		{"d74401020304", ""},
		{"d818456449455446", ""},
		{"d82076687474703a2f2f7777772e6578616d706c652e636f6d", ""},
		{"40", ""},
		{"4401020304", ""},
		{"60", ""},
		{"6161", ""},
		{"80", ""},
		{"83010203", ""},
		{"8301820203820405", ""},
		{"98190102030405060708090a0b0c0d0e0f101112131415161718181819", ""},
		{"a0", ""},
		{"a201020304", ""},
		{"a26161016162820203", ""},
		{"826161a161626163", ""},
		{"a56161614161626142616361436164614461656145", ""},
		{"5f42010243030405ff", ""},
		{"7f657374726561646d696e67ff", ""},
		{"9fff", ""},
		{"9f018202039f0405ffff", ""},
		{"9f01820203820405ff", ""},
		{"83018202039f0405ff", ""},
		{"83019f0203ff820405", ""},
		{"9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", ""},
		{"bf61610161629f0203ffff", ""},
		{"826161bf61626163ff", ""},
		{"bf6346756ef563416d7421ff", ""},
		{"c5822003", ""},       // a bigfloat, §3.4.4
		{"c482f93c0005", ""},   // an exponent that is a float
		{"c48220c4822005", ""}, // a decimal fraction in another
		{"c49f2105ff", ""},     // without a length
		{"c25f4101ff", ""},     // in chunks
		{"c2c24101", ""},       // tags in tags
		{"c48320c2410105", ""}, // of three
		{"c482c2410105", ""},   // an exponent that is a bignum
		{"c401", ""},           // no array
		{"c482206161", ""},     // no number
		{"c2820102", ""},       // no byte string
		{"d9d9f705", ""},       // "this is CBOR", within CBOR
		{"c48221c249010000000000000000", ""},
	} {
		var want, got Judged
		in := c.json
		if in == "" {
			in = "{}"
		}
		wanted := sp.Judge(&want, []byte(`{"door":true,"level":`+in+`}`), testNow)
		if (wanted == "") != (c.json != "") && c.json != "1.7976931348623157e308" {
			t.Fatalf("%s in JSON: %q", in, wanted)
		}
		payload := strictCBOR(t, c.item)
		if why := sp.Judge(&got, payload, testNow); why != wanted || why == "" && summary(&got) != summary(&want) {
			t.Errorf("%s: %q %s\nwant as of %s: %q %s", c.item, why, summary(&got), in, wanted, summary(&want))
		}
		// And where nobody asks for it.
		payload = append([]byte("\xa2"+cborText("x")), append(unhex(t, c.item), cborText("door")+"\xf4"...)...)
		if why := sp.Judge(&got, payload, testNow); why != "" || partsText(&got) != `0{"door":false}` || got.Undeclared != 1 {
			t.Errorf("%s, dropped: %q %s", c.item, why, summary(&got))
		}
	}
}

// What is not well formed is refused wherever it stands (RFC 8949 appendix F,
// and what else may be wrong).
func TestJudgeCBORNotWellFormed(t *testing.T) {
	sp := testPlan(t).Stream([]byte("strict"))
	for _, item := range strings.Split(`18|19|1a|1b|1901|1a0102|1b01020304050607|38|58|78|98|9a01ff00|b8|d8|f8|f900|fa0000|fb000000
41|61|5affffffff00|5bffffffffffffffff010203|7affffffff00|7b7fffffffffffffff010203
81|818181818181818181|8200|a1|a20102|a100|a2000000
c0
5f4100|7f6100
9f|9f0102|bf|bf01020102|819f|9f8000|9f9f9f9f9fffffffff|9f819f819f9fffffff
1c|1d|1e|3c|3d|3e|5c|5d|5e|7c|7d|7e|9c|9d|9e|bc|bd|be|dc|dd|de|fc|fd|fe
f800|f801|f818|f81f
5f00ff|5f21ff|5f6100ff|5f80ff|5fa0ff|5fc000ff|5fe0ff|7f4100ff
5f5f4100ffff|7f7f6100ffff
ff
81ff|8200ff|a1ff|a1ff00|a100ff|a20000ff|9f81ff|9f829f819f9fffffffff
bf00ff|bf000000ff
1f|3f|df
9bffffffffffffffff|bbffffffffffffffff|9b7fffffffffffffff00|bb8000000000000000f500|5b8000000000000000|7b8000000000000000
61ff|62c0af|63eda080|64f4908080|7f61c361bcff|7f62c32fff
c24201|c2|c482|c48220|c4`, "|") {
		for _, item := range strings.Fields(item) {
			last := append([]byte("\xa2"+cborText("door")+"\xf5"+cborText("x")), unhex(t, item)...)
			declared := strictCBOR(t, item)
			packed := append([]byte("\x81\xa3\x00"+cborText("door")+"\x04\xf5\x18\x63"), unhex(t, item)...)
			value := append([]byte("\x82\xa2\x00"+cborText("door")+"\x04\xf5\xa2\x00"+cborText("level")+"\x02"), unhex(t, item)...)
			for _, payload := range [][]byte{last, declared, packed, value} {
				var j Judged
				if why := sp.Judge(&j, payload, testNow); why != ReasonNotCBOR && !(why == ReasonTooDeep && strings.HasPrefix(item, "8181")) || len(j.Parts()) != 0 {
					t.Errorf("%s in %x: judged %q, want %q", item, payload, why, ReasonNotCBOR)
				}
			}
		}
	}
}

func TestJudgeCBOR(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	on := cborText("heating_on") + "\xf5"
	off := cborText("mode") + cborText("off")
	deep := func(n int) string { return strings.Repeat("\x81", n-1) + "\x80" }
	for _, c := range []struct {
		name, payload   string
		want            Reason
		kept            string
		undeclared, bad int
	}{
		{name: "a map", payload: "\xa2" + on + off, kept: `0{"heating_on":true} 1{"mode":"off"}`},
		{name: "self-described (§3.4.6)", payload: selfDescribed + "\xa1" + on, kept: `0{"heating_on":true}`},
		{name: "without a length", payload: "\xbf" + on + off + "\xff", kept: `0{"heating_on":true} 1{"mode":"off"}`},
		{name: "a length longer than it need be", payload: "\xbb\x00\x00\x00\x00\x00\x00\x00\x01" + on, kept: `0{"heating_on":true}`},
		{name: "name in chunks", payload: "\xa1\x7f\x64heat\x66ing_on\xff\xf4", kept: `0{"heating_on":false}`},
		{name: "text in chunks", payload: "\xa1" + cborText("label") + "\x7f\x62K\xc3\x62\xbcc\xff", want: ReasonNotCBOR},
		{name: "text in whole chunks", payload: "\xa1" + cborText("label") + "\x7f\x63K\xc3\xbc\x63che\x60\xff", kept: `2{"label":"Küche"}`},
		{name: "text that JSON must escape", payload: "\xa1" + cborText("label") + cborText("a\x00\"\\\n"), kept: `2{"label":"a\u0000\"\\\n"}`},
		{name: "undeclared", payload: "\xa3" + on + cborText("gps") + "\x82\xf9\x3e\x00\xa1\x61a\xf6" + cborText("x") + cborText("y"), kept: `0{"heating_on":true}`, undeclared: 2},
		{name: "keys that are no text", payload: "\xa6" + on + "\x01\x02\x20\x00\x41x\x01\xf6\x01\x82\x01\x02\x03", kept: `0{"heating_on":true}`, undeclared: 5},
		{name: "a name in bytes is no name", payload: "\xa2" + off + "\x4aheating_on\xf5", kept: `1{"mode":"off"}`, undeclared: 1},
		{name: "other case", payload: "\xa2" + on + cborText("Heating_On") + "\xf4", kept: `0{"heating_on":true}`, undeclared: 1},
		{name: "duplicate", payload: "\xa2" + on + on, want: ReasonDuplicateKey},
		{name: "duplicate after a bad one", payload: "\xa2" + cborText("heating_on") + "\x01" + on, want: ReasonDuplicateKey},
		{name: "duplicate in chunks", payload: "\xa2" + on + "\x7f\x64heat\x66ing_on\xff\xf4", want: ReasonDuplicateKey},
		{name: "undeclared twice", payload: "\xa3" + on + "\x61x\x01\x61x\x02", kept: `0{"heating_on":true}`, undeclared: 2},
		{name: "wrong types", payload: "\xa8" + cborText("heating_on") + "\x01" + cborText("humidity") + "\x6250" + cborText("mode") + "\x03" + cborText("label") + "\x81\x61a" + cborText("starts") + "\xf5" + cborText("installed") + "\x05" + cborText("pressure") + "\xf6" + cborText("ticks") + "\xa0", want: ReasonNothingLeft, bad: 8},
		{name: "bytes are no text", payload: "\xa3" + cborText("mode") + "\x43off" + cborText("label") + "\x5f\x41a\xff" + on, kept: `0{"heating_on":true}`, bad: 2},
		{name: "undefined is no boolean", payload: "\xa2" + cborText("heating_on") + "\xf7" + off, kept: `1{"mode":"off"}`, bad: 1},
		{name: "a simple value is no number", payload: "\xa2" + cborText("starts") + "\xe5" + off, kept: `1{"mode":"off"}`, bad: 1},
		{name: "rounded", payload: "\xa1" + cborText("room_temperature") + "\xfa\x41\xab\x85\x1f", kept: `0{"room_temperature":21.4}`},
		{name: "beyond 2^53", payload: "\xa1" + cborText("ticks") + "\x1b\x3f\xff\xff\xff\xff\xff\xff\xff", kept: `1{"ticks":4611686018427387903}`},
		{name: "least int64", payload: "\xa1" + cborText("ticks") + "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff", kept: `1{"ticks":-9223372036854775808}`},
		{name: "below least int64", payload: "\xa2" + cborText("ticks") + "\x3b\x80\x00\x00\x00\x00\x00\x00\x00" + off, kept: `1{"mode":"off"}`, bad: 1},
		{name: "a whole float keeps every digit", payload: "\xa1" + cborText("ticks") + "\xfb\x43\xd0\x00\x00\x00\x00\x00\x00", kept: `1{"ticks":4611686018427387904}`},
		{name: "a float is not whole", payload: "\xa2" + cborText("ticks") + "\xf9\x3e\x00" + off, kept: `1{"mode":"off"}`, bad: 1},
		{name: "timestamp", payload: "\xa1" + cborText("installed") + cborText("2026-11-22T10:00:00.250+02:00"), kept: `1{"installed":"2026-11-22T08:00:00.25Z"}`},
		{name: "timestamp, tag 0", payload: "\xa1" + cborText("installed") + "\xc0" + cborText("2013-03-21T20:04:00Z"), kept: `1{"installed":"2013-03-21T20:04:00Z"}`},
		{name: "timestamp, tag 1", payload: "\xa1" + cborText("installed") + "\xc1\xfb\x41\xd4\x52\xd9\xec\x20\x00\x00", kept: `1{"installed":"2013-03-21T20:04:00.5Z"}`},
		{name: "timestamp, tag 1, before 1970", payload: "\xa1" + cborText("installed") + "\xc1\xfb\xbf\xd0\x00\x00\x00\x00\x00\x00", kept: `1{"installed":"1969-12-31T23:59:59.75Z"}`},
		{name: "tag 1 of a text", payload: "\xa2" + off + cborText("installed") + "\xc1" + cborText("2013-03-21T20:04:00Z"), kept: `1{"mode":"off"}`, bad: 1},
		{name: "tag 0 of a number", payload: "\xa2" + off + cborText("installed") + "\xc0\x05", kept: `1{"mode":"off"}`, bad: 1},
		{name: "tag 1 of NaN", payload: "\xa2" + off + cborText("installed") + "\xc1\xf9\x7e\x00", kept: `1{"mode":"off"}`, bad: 1},
		{name: "tag 1 beyond the calendar", payload: "\xa2" + off + cborText("installed") + "\xc1\x1b\xff\xff\xff\xff\xff\xff\xff\xff", kept: `1{"mode":"off"}`, bad: 1},
		{name: "tag 0 on a text", payload: "\xa2" + on + cborText("label") + "\xc0\x61a", kept: `0{"heating_on":true}`, bad: 1},
		{name: "a tag on a boolean", payload: "\xa2" + cborText("heating_on") + "\xc1\xf5" + off, kept: `1{"mode":"off"}`, bad: 1},

		{name: "empty map", payload: "\xa0", want: ReasonNothingLeft},
		{name: "only undeclared", payload: "\xa1\x61x\x01", want: ReasonNothingLeft, undeclared: 1},
		{name: "array", payload: "\x82\x01\x02", want: ReasonNotObject},
		{name: "empty array", payload: "\x80", want: ReasonNotObject},
		{name: "self-described number", payload: selfDescribed + "\x01", want: ReasonNotObject},
		{name: "self-described twice", payload: selfDescribed + selfDescribed + "\xa1" + on, want: ReasonNotObject},
		{name: "only self-described", payload: selfDescribed, want: ReasonNotCBOR},
		{name: "cut", payload: "\xa2" + on, want: ReasonNotCBOR},
		{name: "cut in a name", payload: "\xa1\x6aheating", want: ReasonNotCBOR},
		{name: "cut before the value", payload: "\xa1" + cborText("heating_on"), want: ReasonNotCBOR},
		{name: "cut before the stop code", payload: "\xbf" + on, want: ReasonNotCBOR},
		{name: "more behind it", payload: "\xa1" + on + "\x00", want: ReasonNotCBOR},
		{name: "another map behind it", payload: "\xa1" + on + "\xa1" + off, want: ReasonNotCBOR},
		{name: "more behind an array", payload: "\x81\x01\x01", want: ReasonNotCBOR},
		{name: "a length of 2^64-1", payload: "\xbb\xff\xff\xff\xff\xff\xff\xff\xff" + on, want: ReasonNotCBOR},
		{name: "a name that is no UTF-8", payload: "\xa2" + on + "\x61\xff\x01", want: ReasonNotCBOR},
		{name: "text that is no UTF-8", payload: "\xa1" + cborText("label") + "\x62\xc0\xaf", want: ReasonNotCBOR},
		{name: "dropped text that is no UTF-8", payload: "\xa2" + on + "\x61x\x81\x61\xff", want: ReasonNotCBOR},
		{name: "stop code for a value", payload: "\xbf" + on + cborText("mode") + "\xff", want: ReasonNotCBOR},
		{name: "text first is no CBOR payload", payload: cborText("heating_on"), want: ReasonNotJSON},
		{name: "deep enough", payload: "\xa2" + off + "\x61x" + deep(7), kept: `1{"mode":"off"}`, undeclared: 1},
		{name: "too deep", payload: "\xa2" + off + "\x61x" + deep(8), want: ReasonTooDeep},
		{name: "very deep", payload: "\xa2" + off + "\x61x" + deep(900), want: ReasonTooDeep},
		{name: "too many tags", payload: "\xa2" + off + "\x61x" + strings.Repeat("\xc6", 900) + "\x00", want: ReasonTooDeep},
		{name: "too deep without an end", payload: "\xa2" + off + "\x61x" + strings.Repeat("\x9f", 900), want: ReasonTooDeep},
		{name: "too deep in a declared field", payload: "\xa2" + off + cborText("label") + deep(8), want: ReasonTooDeep},
		{name: "too deep in a key", payload: "\xa2" + off + deep(8) + "\x01", want: ReasonTooDeep},
		{name: "too large", payload: "\xa2" + off + "\x61x\x59\x08\x00" + strings.Repeat("z", 2048), want: ReasonTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j Judged
			got := sp.Judge(&j, []byte(c.payload), testNow)
			if got != c.want {
				t.Fatalf("judged %q, want %q", got, c.want)
			}
			if kept := partsText(&j); kept != c.kept {
				t.Errorf("kept %s\nwant %s", kept, c.kept)
			}
			if c.want == "" && (j.Undeclared != c.undeclared || j.Bad != c.bad) {
				t.Errorf("%d undeclared and %d bad, want %d and %d", j.Undeclared, j.Bad, c.undeclared, c.bad)
			}
		})
	}
}

func TestJudgeCBORTimeAndNumber(t *testing.T) {
	sp := testPlan(t).Stream([]byte("climate"))
	now := testNow.UnixMilli()
	for _, c := range []struct {
		name, pair string
		t          int64
		wrong      bool
		bad        int
	}{
		{"milliseconds", "\x1b\x00\x00\x01\xa2\x02\xb2\xc4\x18", 1795341599768, false, 0},
		{"milliseconds in a float", "\xfb\x42\x7a\x20\x2b\x2c\x41\x80\x00", 1795341599768, false, 0},
		{"text", cborText("2026-11-22T09:59:59Z"), now - 1000, false, 0},
		{"tag 0", "\xc0" + cborText("2026-11-22T09:59:59.5Z"), now - 500, false, 0},
		{"tag 1", "\xc1\x1a\x6b\x02\xbd\x1f", now - 1000, false, 0},
		{"tag 1 with a fraction", "\xc1\xfb\x41\xda\xc0\xaf\x47\xd0\x00\x00", now - 750, false, 0},
		{"seconds without a tag", "\x1a\x6b\x02\xbd\x1f", now, true, 0},
		{"null", "\xf6", now, true, 1},
		{"a decimal fraction under tag 1", "\xc1\xc4\x82\x00\x1a\x6b\x02\xbd\x1f", now, true, 1},
		{"an unknown tag", "\xc6\x1b\x00\x00\x01\xa2\x02\xb2\xc4\x18", now, true, 1},
	} {
		var j Judged
		why := sp.Judge(&j, []byte("\xa4"+cborText("mode")+cborText("off")+"\x61t"+c.pair+"\x64boot\x03\x63seq\x1b\x7f\xff\xff\xff\xff\xff\xff\xff"), testNow)
		if why != "" || j.T != c.t || j.WrongClock != c.wrong || j.Bad != c.bad || !j.HasSeq || j.Boot != 3 || j.Seq != 1<<63-1 {
			t.Errorf("%s: %q at %d (%s)\n%s", c.name, why, j.T, time.UnixMilli(j.T).UTC().Format(time.RFC3339Nano), summary(&j))
		}
	}
}

// With `on_bad: message` one bad field refuses a map, too.
func TestJudgeCBORStrict(t *testing.T) {
	sp := testPlan(t).Stream([]byte("strict"))
	for level, want := range map[string]Reason{"1903e8": "", "f97e00": ReasonBadField, "f6": ReasonBadField, "6131": ReasonBadField} {
		var j Judged
		if why := sp.Judge(&j, strictCBOR(t, level), testNow); why != want {
			t.Errorf("%s: %q, want %q", level, why, want)
		}
	}
}
