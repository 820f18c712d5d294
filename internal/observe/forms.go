package observe

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A fleet may send CBOR maps and SenML packs, as a declaration takes them
// (docs/payloads.md). What is learned from these is the same as from JSON.

// isCBOR tells CBOR from JSON as the server does, by how a payload begins.
func isCBOR(payload []byte) bool {
	return len(payload) > 0 && payload[0]>>6 == 2 || bytes.HasPrefix(payload, []byte{0xd9, 0xd9, 0xf7})
}

// binary reads a CBOR map, or a SenML pack in CBOR.
func binary(payload []byte) (map[string]any, string) {
	m, err := cbor.DecOptions{}.DecMode()
	var v any
	if err != nil || m.Unmarshal(payload, &v) != nil {
		return nil, "binary"
	}
	switch v := v.(type) {
	case map[any]any:
		return textKeys(v, nil), ""
	case []any:
		var records []any
		for _, r := range v {
			if r, ok := r.(map[any]any); ok {
				records = append(records, textKeys(r, senmlKeys))
				continue
			}
			return nil, "binary"
		}
		if members := pack(records); members != nil {
			return members, ""
		}
	}
	return nil, "binary"
}

// senmlKeys are the labels of SenML in CBOR (RFC 8428 §6, table 4), as far as
// anything is learned from them.
var senmlKeys = map[string]string{"-2": "bn", "-5": "bv", "0": "n", "2": "v", "3": "vs", "4": "vb", "8": "vd"}

// textKeys is a map with the keys that are text, and those that stand for one.
func textKeys(m map[any]any, known map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		switch k := k.(type) {
		case string:
			out[k] = plain(v)
		case uint64:
			if name, ok := known[strconv.FormatUint(k, 10)]; ok {
				out[name] = plain(v)
			}
		case int64:
			if name, ok := known[strconv.FormatInt(k, 10)]; ok {
				out[name] = plain(v)
			}
		}
	}
	return out
}

// plain is a value as encoding/json would have it. What JSON has no word for is
// an object: nothing that can be declared.
func plain(v any) any {
	switch v := v.(type) {
	case nil, bool, string, []any:
		return v
	case uint64:
		return json.Number(strconv.FormatUint(v, 10))
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	case big.Int:
		return json.Number(v.String())
	case float64:
		return ofFloat(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case cbor.Tag:
		if parts, ok := v.Content.([]any); ok && v.Number == 4 && len(parts) == 2 {
			exp, okExp := plain(parts[0]).(json.Number)
			mant, okMant := plain(parts[1]).(json.Number)
			if f, err := strconv.ParseFloat(string(mant)+"e"+string(exp), 64); okExp && okMant && err == nil {
				return ofFloat(f)
			}
		}
	}
	return map[string]any{}
}

// ofFloat is a float with as many digits as it was meant to have: of one that
// single precision holds, as many as that has.
func ofFloat(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return map[string]any{}
	}
	bits := 64
	if float64(float32(f)) == f {
		bits = 32
	}
	return json.Number(strconv.FormatFloat(f, 'f', -1, bits))
}

// pack is the fields of a SenML pack (RFC 8428 §4), nil if it is none. Of one
// with several readings, it is the last values.
func pack(records []any) map[string]any {
	var out map[string]any
	base, add := "", 0.0
	for _, r := range records {
		r, ok := r.(map[string]any)
		if !ok {
			return nil
		}
		if s, ok := r["bn"].(string); ok {
			base = s
		}
		if n, ok := r["bv"].(json.Number); ok {
			add, _ = n.Float64()
		}
		n, _ := r["n"].(string)
		name := base + n
		name = name[strings.LastIndexAny(name, ":/")+1:]
		for _, label := range []string{"v", "vs", "vb", "vd"} {
			v, ok := r[label]
			if !ok || name == "" {
				continue
			}
			if x, isNumber := v.(json.Number); isNumber && add != 0 {
				f, _ := x.Float64()
				v = ofFloat(f + add)
			}
			if label == "vd" {
				v = map[string]any{}
			}
			if out == nil {
				out = map[string]any{}
			}
			out[name] = v
		}
	}
	return out
}
