package telemetry

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// translateRecords reads a pack of SenML in CBOR.
func (o *oracle) translateRecords(items [][]byte, received time.Time) translated {
	var records [][]sentMember
	for _, item := range items {
		if item[0]>>5 != majorMap {
			return translated{refuse: true}
		}
		_, pairs, _ := itemsOf(item)
		var record []sentMember
		for i := 0; i < len(pairs); i += 2 {
			name, ok := textItem(pairs[i])
			if senmlKeys[name] != 0 || ok && name == "n" {
				return translated{refuse: true} // spelt in text
			}
			if !ok {
				name = "#"
				if key := pairs[i]; key[0]>>5 <= majorNegative {
					n, _ := strconv.Atoi(jsonOf(key, false))
					for label, k := range senmlKeys {
						if k == n && jsonOf(key, false) == strconv.Itoa(k) {
							name = label
						}
					}
				}
			}
			record = append(record, sentMember{name, json.RawMessage(jsonOf(pairs[i+1], false))})
		}
		records = append(records, record)
	}
	return o.resolve(records, received)
}

// translatePack reads a pack of SenML in JSON.
func (o *oracle) translatePack(b []byte, received time.Time) translated {
	var raw []json.RawMessage
	if !json.Valid(b) || !clean(b) || json.Unmarshal(b, &raw) != nil || depth(b) > maxDepth {
		return translated{refuse: true}
	}
	var records [][]sentMember
	for _, r := range raw {
		members, ok := sentMembers(r)
		if !ok {
			return translated{refuse: true}
		}
		records = append(records, members)
	}
	if len(records) == 0 {
		return translated{refuse: true}
	}
	return o.resolve(records, received)
}

// resolve is RFC 8428 §4.6, as far as one reading can be a pack.
func (o *oracle) resolve(records [][]sentMember, received time.Time) translated {
	var x translated
	refused := translated{refuse: true}
	bt, bv := new(big.Rat), new(big.Rat)
	var bn, bu string
	var prefix *string
	var at *big.Rat
	for _, record := range records {
		by := map[string]json.RawMessage{}
		known := 0
		for _, m := range record {
			if _, ok := senmlKeys[m.name]; !ok {
				if strings.HasSuffix(m.name, "_") {
					return refused
				}
				x.add("#", "null")
				continue
			}
			if by[m.name] != nil {
				return refused
			}
			known++
			by[m.name] = m.raw
			number := m.raw[0] == '-' || isDigit(m.raw[0])
			switch m.name {
			case "bn", "bu", "n", "u":
				if m.raw[0] != '"' {
					return refused
				}
			case "bt", "bv", "bs", "bver", "t", "s", "ut":
				if !number {
					return refused
				}
				r, ok := exact(m.raw)
				switch m.name {
				case "bver":
					if !ok || !r.IsInt() || r.Sign() <= 0 || r.Cmp(big.NewRat(10, 1)) > 0 && r.Cmp(big.NewRat(26, 1)) != 0 {
						return refused
					}
				case "bs", "s":
					x.add("#", "null")
				default:
					if !ok {
						x.silent = true
					}
				}
			}
		}
		if x.silent {
			return x
		}
		read := func(label string, into any) {
			if raw := by[label]; raw != nil {
				if r, ok := into.(*big.Rat); ok {
					v, _ := exact(raw)
					r.Set(v)
					return
				}
				_ = json.Unmarshal(raw, into)
			}
		}
		read("bn", &bn)
		read("bu", &bu)
		read("bt", bt)
		read("bv", bv)
		n, u, t := "", bu, new(big.Rat)
		read("n", &n)
		if by["u"] != nil {
			read("u", &u)
		}
		read("t", t)
		var values []string
		for _, l := range []string{"v", "vs", "vb", "vd"} {
			if by[l] != nil {
				values = append(values, l)
			}
		}
		if len(values) == 0 {
			based := known > 0
			for l := range by {
				based = based && strings.HasPrefix(l, "b")
			}
			if by["s"] != nil || based {
				continue
			}
			return refused
		}
		full := bn + n
		if len(values) > 1 || full == "" {
			return refused
		}
		cut := strings.LastIndexAny(full, ":/") + 1
		name, before := full[cut:], full[:cut]
		f := o.fields[name]
		if f == nil && name != nameBoot && name != nameSeq {
			x.add("#", "null")
			continue
		}
		if prefix != nil && *prefix != before {
			return refused
		}
		prefix = &before
		if f != nil {
			sum := new(big.Rat).Add(bt, t)
			if places, whole := sum.FloatPrec(); places > 9 || !whole || sum.Num().BitLen() > 90 {
				return translated{silent: true} // may be more than is added exactly
			}
			if at != nil && at.Cmp(sum) != 0 {
				return refused
			}
			at = sum
		}
		raw := string(by[values[0]])
		switch first := raw[0]; {
		case f != nil && f.Unit != "" && u != "" && u != f.Unit:
			raw = badValue
		case values[0] == "v":
			if first != '-' && !isDigit(first) {
				raw = badValue
			} else if bv.Sign() != 0 {
				v, ok := exact([]byte(raw))
				if !ok || len(raw) > maxNumber {
					return translated{silent: true}
				}
				if v.Add(v, bv); len(v.FloatString(40)) > 0 {
					places, whole := v.FloatPrec()
					raw = v.FloatString(places)
					if !whole || len(strings.TrimLeft(strings.Trim(raw, "-"), "0.")) > 15 {
						return translated{silent: true} // may be more than is added exactly
					}
				}
			}
		case values[0] == "vs" && first != '"', values[0] == "vb" && first != 't' && first != 'f', values[0] == "vd":
			raw = badValue
		}
		x.add(name, raw)
	}
	if at != nil && at.Sign() != 0 {
		when, ok := timeOf(at)
		ms := when.UnixMilli()
		if at.Cmp(big.NewRat(1<<28, 1)) < 0 {
			ms += received.UnixMilli()
		}
		if text := strconv.FormatInt(ms, 10); ok {
			x.add(nameT, text)
		} else {
			x.add(nameT, badValue)
		}
	}
	return x.done()
}

// translate reads a payload of whatever form.
func (o *oracle) translate(b []byte, received time.Time) (translated, bool) {
	if isCBOR(b) {
		return o.translateCBOR(b, received), true
	}
	i := skipSpace(b, 0)
	if i < len(b) && b[i] == '[' {
		if k := skipSpace(b, i+1); k < len(b) && b[k] == '{' {
			return o.translatePack(b, received), true
		}
	}
	return translated{}, false
}
