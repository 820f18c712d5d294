package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// The oracle of the other forms reads a payload with another's decoder, writes
// what it says as one JSON object and has that judged. It shares no code with
// the scanners of CBOR and SenML; the judge of JSON has an oracle of its own.

// translated is a payload as one JSON object.
type translated struct {
	object  string
	refuse  bool // it is not what it should be
	silent  bool // there is no telling
	members []string
}

func (x *translated) add(name, value string) {
	quoted, _ := json.Marshal(name)
	x.members = append(x.members, string(quoted)+":"+value)
}

func (x *translated) done() translated {
	x.object = "{" + strings.Join(x.members, ",") + "}"
	return *x
}

const badValue = "{}" // good for no field

func newOtherDecoder() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxNestedLevels: math.MaxUint16, MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

var otherDecoder = newOtherDecoder()

// takeItem takes the first item off b. valid is false when it is not well
// formed or its text no UTF-8; clear is false where Go can make nothing of it,
// such as an array for a key, or a time that is none.
func takeItem(b []byte) (raw, rest []byte, valid, clear bool) {
	var r cbor.RawMessage
	rest, err := otherDecoder.UnmarshalFirst(b, &r)
	if err != nil {
		return nil, nil, false, true
	}
	var v any
	err = otherDecoder.Unmarshal(r, &v)
	_, badText := errors.AsType[*cbor.SemanticError](err)
	return r, rest, !badText, err == nil
}

// takeHead reads the head of a map or an array; n is -1 when it has no length.
func takeHead(b []byte) (major byte, n int, rest []byte) {
	info, size := b[0]&31, 0
	switch {
	case info < 24:
		return b[0] >> 5, int(info), b[1:]
	case info == 31:
		return b[0] >> 5, -1, b[1:]
	default:
		size = 1 << (info - 24)
	}
	v := new(big.Int).SetBytes(b[1 : 1+size])
	return b[0] >> 5, int(v.Int64()), b[1+size:]
}

// items takes a map or an array apart; it is well formed.
func itemsOf(b []byte) (major byte, out [][]byte, clear bool) {
	major, n, rest := takeHead(b)
	if major == majorMap && n > 0 {
		n *= 2
	}
	clear = true
	for n != 0 && (n > 0 || rest[0] != 0xff) {
		raw, after, _, ok := takeItem(rest)
		if raw == nil {
			panic("a part of what is well formed is not")
		}
		clear = clear && ok
		out, rest = append(out, raw), after
		n = max(n-1, -1)
	}
	return major, out, clear
}

// translateCBOR reads a payload that begins as CBOR does.
func (o *oracle) translateCBOR(b []byte, received time.Time) translated {
	b = bytes.TrimPrefix(b, []byte(selfDescribed))
	raw, rest, valid, clear := takeItem(b)
	switch {
	case !valid || len(rest) > 0 || b[0]>>5 == majorTag: // the decoder would look through the tag again
		return translated{refuse: true}
	case !clear:
		return translated{silent: true}
	}
	if raw[0]>>5 != majorMap && raw[0]>>5 != majorArray {
		return translated{refuse: true}
	}
	major, items, _ := itemsOf(raw)
	if major == majorArray {
		return o.translateRecords(items, received)
	}
	var x translated
	for i := 0; i < len(items); i += 2 {
		name, ok := textItem(items[i])
		if !ok {
			x.add("#", "null")
			continue
		}
		f := o.fields[name]
		x.add(name, jsonOf(items[i+1], name == nameT || f != nil && f.Type.String() == "timestamp"))
	}
	return x.done()
}

func textItem(raw []byte) (string, bool) {
	var s string
	return s, raw[0]>>5 == majorText && otherDecoder.Unmarshal(raw, &s) == nil
}

// jsonOf is an item as JSON would say it, badValue for what may not be.
func jsonOf(raw []byte, timely bool) string {
	if raw[0]>>5 == majorTag {
		var tag cbor.RawTag
		if _, n, _ := takeHead(raw); n == 55799 {
			return badValue // the decoder would look through it
		}
		if otherDecoder.Unmarshal(raw, &tag) != nil {
			return badValue
		}
		return jsonOfTag(raw, tag, timely)
	}
	var v any
	if otherDecoder.Unmarshal(raw, &v) != nil {
		return badValue
	}
	switch v := v.(type) {
	case uint64, int64, big.Int, *big.Int, bool:
		if n, ok := v.(big.Int); ok {
			return n.String()
		}
		return fmt.Sprint(v)
	case float64:
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return badValue
		case v == math.Trunc(v) && math.Abs(v) < 1<<64:
			return strconv.FormatFloat(v, 'f', 0, 64)
		}
		return strconv.FormatFloat(v, 'e', -1, 64)
	case string:
		s, _ := json.Marshal(v)
		return string(s)
	}
	return badValue
}

func jsonOfTag(raw []byte, tag cbor.RawTag, timely bool) string {
	major := tag.Content[0] >> 5
	switch {
	case tag.Number == 0 && timely && major == majorText:
		return jsonOf(tag.Content, false)
	case tag.Number == 1 && timely && (major <= majorNegative || major == majorSimple):
		s := jsonOf(tag.Content, false)
		r, ok := exact([]byte(s))
		if !ok {
			return badValue
		}
		t, ok := timeOf(r)
		if !ok {
			return badValue
		}
		return t.UTC().Format(`"` + time.RFC3339Nano + `"`)
	case tag.Number == 2 || tag.Number == 3:
		var n big.Int
		if major != majorBytes || tag.Content[0]&31 == 31 || otherDecoder.Unmarshal(raw, &n) != nil {
			return badValue
		}
		if m := new(big.Int).Not(&n); n.BitLen() > 64 && (n.Sign() > 0 || m.BitLen() > 64) {
			return badValue
		}
		return n.String()
	case tag.Number == 4:
		if tag.Content[0] != 0x82 {
			return badValue
		}
		_, parts, _ := itemsOf(tag.Content)
		if parts[0][0]>>5 > majorNegative || parts[1][0]>>5 > majorNegative && parts[1][0]>>5 != majorTag {
			return badValue
		}
		var inner cbor.RawTag
		if parts[1][0]>>5 == majorTag && (otherDecoder.Unmarshal(parts[1], &inner) != nil || inner.Number == 4) {
			return badValue
		}
		mant := jsonOf(parts[1], false)
		if mant == badValue {
			return badValue
		}
		return mant + "e" + jsonOf(parts[0], false)
	}
	return badValue
}

// timeOf is the time so many seconds after 1970, to the nanosecond.
func timeOf(seconds *big.Rat) (time.Time, bool) {
	ns := new(big.Rat).Mul(seconds, big.NewRat(1e9, 1))
	n := new(big.Int).Quo(ns.Num(), ns.Denom())
	sec, rest := new(big.Int).QuoRem(n, big.NewInt(1e9), new(big.Int))
	if sec.CmpAbs(big.NewInt(1<<38)) > 0 {
		return time.Time{}, false
	}
	return time.Unix(sec.Int64(), rest.Int64()), true
}

// agrees says what is wrong with the judge's verdict on a payload of another
// form; "" if nothing. sp takes messages of any size: a translation is longer.
func (x translated) agrees(sp *StreamPlan, why Reason, j *Judged, received time.Time) string {
	if x.silent {
		return ""
	}
	if x.refuse {
		if why == "" {
			return "accepted what is not so formed"
		}
		return ""
	}
	if why == ReasonTooDeep || why == ReasonTooLarge {
		return ""
	}
	var want Judged
	wanted := sp.Judge(&want, []byte(x.object), received)
	if wanted == ReasonNotJSON {
		return fmt.Sprintf("THE ORACLE wrote no JSON: %s", x.object)
	}
	if why != wanted && (why == "" || wanted == "") {
		return fmt.Sprintf("%q of %s", wanted, x.object)
	}
	if why != "" {
		return ""
	}
	if a, b := summary(&want), summary(j); a != b {
		return fmt.Sprintf("as %s\nwant %s\n got %s", x.object, a, b)
	}
	return ""
}

// summary is all that matters of a judged message.
func summary(j *Judged) string {
	return fmt.Sprintf("%s at %d (wrong %v), number %v %d/%d, %d undeclared, %d bad", partsText(j), j.T, j.WrongClock, j.HasSeq, j.Boot, j.Seq, j.Undeclared, j.Bad)
}
